#include "bdh/mesh/gate.h"

#include <openssl/crypto.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/mesh/grpc_status.h"

namespace bdh::mesh {
namespace {

// In constant time, so that a wrong token teaches nothing about the right one.
bool SameSecret(std::string_view given, std::string_view expected) {
  return given.size() == expected.size() && CRYPTO_memcmp(given.data(), expected.data(), given.size()) == 0;
}

// What says that something is wrong with us or below us, not with the caller's request.
bool WorthAWarning(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kDataLoss ||
         code == absl::StatusCode::kUnknown;
}

}  // namespace

Gate::Gate(std::string daemon, const ListenOptions& listen, telemetry::Metrics& metrics)
    : daemon_(std::move(daemon)), credentials_(listen.credentials), metrics_(metrics) {}

absl::Status Gate::CheckToken(const grpc::ServerContext& context) const {
  if (credentials_.token().empty()) return absl::OkStatus();
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end()) {
    return absl::UnauthenticatedError(
        absl::StrFormat("%s wants the mesh token and the call carries none; pass --data with the mesh's "
                        "folder, or set mesh.token_file",
                        daemon_));
  }
  if (!SameSecret({found->second.data(), found->second.size()}, "Bearer " + credentials_.token())) {
    return absl::UnauthenticatedError(absl::StrFormat(
        "%s does not accept this mesh token: it belongs to another mesh, or was replaced since", daemon_));
  }
  return absl::OkStatus();
}

grpc::Status Gate::Finish(std::string_view method, absl::Duration took, const absl::Status& status) const {
  const std::string name(method);
  metrics_
      .Counter("bdh_rpc_handled_total", "Calls handled, by method and outcome.",
               {{"method", name}, {"code", absl::StatusCodeToString(status.code())}})
      .Increment();
  metrics_
      .Seconds("bdh_rpc_handling_seconds", "Time a call took, streams from first to last message.",
               {{"method", name}})
      .Observe(absl::ToDoubleSeconds(took));
  if (WorthAWarning(status.code())) {
    BDH_LOG(WARNING) << "call failed method=" << name << " took_ms=" << absl::ToInt64Milliseconds(took)
                     << " status=" << status.ToString();
  }
  return ToGrpc(status);
}

}  // namespace bdh::mesh
