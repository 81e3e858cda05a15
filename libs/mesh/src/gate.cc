#include "bdh/mesh/gate.h"

#include <grpc/grpc_security_constants.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/mesh/grpc_status.h"
#include "faucet.h"
#include "methods.h"

namespace bdh::mesh {
namespace {

constexpr int kRefusalLinesASecond = 3;
constexpr std::string_view kBearer = "Bearer ";

// What says that something is wrong with us or below us, not with the caller's request.
bool IsOurFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kDataLoss ||
         code == absl::StatusCode::kUnknown;
}

bool IsStranger(absl::StatusCode code) {
  return code == absl::StatusCode::kUnauthenticated || code == absl::StatusCode::kPermissionDenied;
}

std::string_view Metadata(const grpc::ServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  if (found == context.client_metadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

// The common name of the certificate that the caller showed, or else the first name it answers to.
std::string NameInCertificate(const grpc::ServerContext& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return "";
  for (const char* property : {GRPC_X509_CN_PROPERTY_NAME, GRPC_X509_SAN_PROPERTY_NAME}) {
    const auto values = auth->FindPropertyValues(property);
    if (!values.empty() && !values[0].empty()) return {values[0].data(), values[0].size()};
  }
  return "";
}

// `bdhctl status` and `bdhctl loglevel` are heard in a full house too.
bool IsAboutTheDaemon(std::string_view method) {
  const Method* known = FindMethod(method);
  return known != nullptr && known->service == "bdh.v1.MeshService";
}

bool Streams(std::string_view method) {
  const Method* known = FindMethod(method);
  return known != nullptr && known->streams;
}

}  // namespace

Gate::Gate(std::string daemon, const ListenOptions& listen, telemetry::Metrics& metrics)
    : daemon_(std::move(daemon)), listen_(listen), metrics_(metrics) {}

void Gate::CountInFlight(const std::string& method, int delta) const {
  metrics_.Gauge("bdh_rpc_in_flight", "Calls being handled, by method.", {{"method", method}})
      .Increment(delta);
}

Gate::Call::Call(const Gate& gate, const grpc::ServerContext& context, std::string_view method)
    : gate_(gate),
      context_(context),
      method_(method),
      trace_(telemetry::Trace::Continue(Metadata(context, telemetry::kTraceparent))),
      calls_at_once_(++gate.calls_) {
  gate_.CountInFlight(method_, +1);
}

Gate::Call::~Call() {
  gate_.CountInFlight(method_, -1);
  --gate_.calls_;
}

absl::Status Gate::Call::Admit() {
  BDH_RETURN_IF_ERROR(FindCaller());
  BDH_RETURN_IF_ERROR(gate_.listen_.credentials.CheckMay(caller_, method_));
  return CheckRoom();
}

absl::Status Gate::Call::FindCaller() {
  caller_ = NameInCertificate(context_);
  if (!gate_.listen_.credentials.demands_token()) return absl::OkStatus();
  std::string_view shown = Metadata(context_, "authorization");
  if (shown.empty()) {
    return absl::UnauthenticatedError(
        absl::StrFormat("%s wants the mesh token and the call carries none; pass --data with the mesh's "
                        "folder, or set mesh.token_file",
                        gate_.daemon_));
  }
  const bool bearer = shown.starts_with(kBearer);
  const auto name = gate_.listen_.credentials.NameOfToken(bearer ? shown.substr(kBearer.size()) : "");
  if (!name.ok()) {
    return absl::UnauthenticatedError(absl::StrFormat(
        "%s does not accept this mesh token: it belongs to another mesh, or was replaced since",
        gate_.daemon_));
  }
  if (caller_.empty()) caller_ = *name;
  return absl::OkStatus();
}

absl::Status Gate::Call::CheckRoom() const {
  if (calls_at_once_ <= gate_.listen_.max_calls || IsAboutTheDaemon(method_)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrFormat("%s handles %d calls at once and no more (mesh.limits.max_calls); try again soon",
                      gate_.daemon_, gate_.listen_.max_calls));
}

grpc::Status Gate::Call::Finish(const absl::Status& status) {
  const absl::Duration took = absl::Now() - start_;
  Count(status, took);
  Log(status, took);
  return ToGrpc(status);
}

void Gate::Call::Count(const absl::Status& status, absl::Duration took) const {
  gate_.metrics_
      .Counter("bdh_rpc_handled_total", "Calls handled, by method and outcome.",
               {{"method", method_}, {"code", absl::StatusCodeToString(status.code())}})
      .Increment();
  gate_.metrics_
      .Seconds("bdh_rpc_handling_seconds", "Time a call took, streams from first to last message.",
               {{"method", method_}})
      .Observe(absl::ToDoubleSeconds(took));
}

void Gate::Call::Log(const absl::Status& status, absl::Duration took) const {
  const bool slow = took >= gate_.listen_.slow_call && !Streams(method_);
  LogSeverity severity = LogSeverity::kDebug;
  const char* event = "call";
  int held_back = 0;
  if (IsStranger(status.code())) {
    static Faucet* const faucet = new Faucet(kRefusalLinesASecond);
    if (!faucet->Open(held_back)) return;
    severity = LogSeverity::kWarning;
    event = "call refused";
  } else if (IsOurFault(status.code())) {
    severity = LogSeverity::kWarning;
    event = "call failed";
  } else if (slow) {
    severity = LogSeverity::kWarning;
    event = "slow call";
  }
  BDH_LOG_AT(severity) << event << " method=" << method_
                       << " code=" << absl::StatusCodeToString(status.code())
                       << " took_ms=" << absl::ToInt64Milliseconds(took) << " peer=" << context_.peer()
                       << (caller_.empty() ? "" : " caller=" + caller_)
                       << (status.ok() ? "" : " error=" + std::string(status.message()))
                       << (held_back > 0 ? absl::StrFormat(" (and %d more refusals)", held_back) : "");
}

}  // namespace bdh::mesh
