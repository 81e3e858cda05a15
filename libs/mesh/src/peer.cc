#include "bdh/mesh/peer.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/mesh/grpc_status.h"

namespace bdh::mesh {
namespace {

std::shared_ptr<grpc::Channel> Connect(const std::string& daemon, const std::string& address,
                                       const Credentials& credentials, int max_message_bytes) {
  grpc::ChannelArguments arguments;
  const std::string expected_name = credentials.ExpectedName(daemon);
  if (!expected_name.empty()) arguments.SetSslTargetNameOverride(expected_name);
  arguments.SetMaxReceiveMessageSize(max_message_bytes);
  arguments.SetMaxSendMessageSize(max_message_bytes);
  arguments.SetLoadBalancingPolicyName("round_robin");
  // A daemon that restarts is back within a second; the default back-off of up to two minutes would hide
  // that.
  // (MIN_RECONNECT_BACKOFF stays: in spite of its name it is how long an attempt to connect may take.)
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // The mesh never speaks through an HTTP proxy of the environment.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, credentials.ForChannel(), arguments);
}

}  // namespace

Peer::Peer(std::string daemon, std::string address, Credentials credentials, int max_message_bytes)
    : daemon_(std::move(daemon)),
      address_(std::move(address)),
      credentials_(std::move(credentials)),
      channel_(Connect(daemon_, address_, credentials_, max_message_bytes)) {}

std::unique_ptr<grpc::ClientContext> Peer::NewContext(absl::Duration timeout, bool wait_for_ready) const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  context->set_wait_for_ready(wait_for_ready);
  if (!credentials_.token().empty()) context->AddMetadata("authorization", "Bearer " + credentials_.token());
  return context;
}

absl::Status Peer::Outcome(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  // What a handler said about its own peers is not about this one.
  if (CameFromHandler(status)) return FromGrpc(status);
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return absl::UnavailableError(
          absl::StrFormat("%s at %s does not answer (%s)", daemon_, address_, status.error_message()));
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::DeadlineExceededError(
          absl::StrFormat("%s at %s took too long to answer", daemon_, address_));
    case grpc::StatusCode::UNIMPLEMENTED:
      return absl::UnimplementedError(
          absl::StrFormat("%s at %s does not know this call: it is an older version, or "
                          "another daemon",
                          daemon_, address_));
    default:
      return FromGrpc(status);
  }
}

}  // namespace bdh::mesh
