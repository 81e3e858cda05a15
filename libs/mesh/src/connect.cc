#include "connect.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_format.h"
#include "keepalive.h"
#include "methods.h"

namespace bdh::mesh {
namespace {

// The names of the methods that may be repeated, for the policy below.
std::string RepeatableMethods() {
  std::string names;
  for (const Method& method : AllMethods()) {
    if (!method.may_be_repeated) continue;
    absl::StrAppendFormat(&names, R"(%s{"service":"%s","method":"%s"})", names.empty() ? "" : ",",
                          method.service, method.name);
  }
  return names;
}

// As the protos say which calls may be repeated: those are tried up to three times while the daemon does not
// answer, after a jittered pause. The budget: a channel whose calls mostly fail does not repeat them.
std::string ServiceConfig(const std::string& health_service) {
  static const auto* const names = new std::string(RepeatableMethods());
  const std::string health =
      health_service.empty()
          ? ""
          : absl::StrFormat(R"("healthCheckConfig":{"serviceName":"%s"},)", health_service);
  return absl::StrFormat(
      R"({%s"methodConfig":[{"name":[%s],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s",)"
      R"("backoffMultiplier":3,"retryableStatusCodes":["UNAVAILABLE"]}}],)"
      R"("retryThrottling":{"maxTokens":10,"tokenRatio":0.1}})",
      health, *names);
}

}  // namespace

std::shared_ptr<grpc::Channel> Connect(const std::string& target, const ConnectOptions& options) {
  grpc::ChannelArguments arguments;
  std::string expected_name = options.credentials.ExpectedName(options.daemon);
  if (expected_name.empty() && options.credentials.has_tls()) expected_name = options.host;
  if (!expected_name.empty()) arguments.SetSslTargetNameOverride(expected_name);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetMaxSendMessageSize(options.max_message_bytes);
  arguments.SetLoadBalancingPolicyName("round_robin");
  arguments.SetServiceConfigJSON(ServiceConfig(options.health_service));
  // A peer whose machine is gone is noticed while a call waits for it.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A daemon that restarts is back within a second; the default back-off of up to two minutes would hide
  // that.
  // (MIN_RECONNECT_BACKOFF stays: in spite of its name it is how long an attempt to connect may take.)
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // The mesh never speaks through an HTTP proxy of the environment.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target, options.credentials.ForChannel(), arguments);
}

}  // namespace bdh::mesh
