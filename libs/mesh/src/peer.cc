#include "bdh/mesh/peer.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/mesh/grpc_status.h"
#include "bdh/mesh/replica_set.h"
#include "bdh/telemetry/trace.h"
#include "connect.h"

namespace bdh::mesh {
namespace {

// gRPC knows lists of addresses, but not "host:port,host:port".
std::string GrpcTarget(const std::string& address) {
  if (address.find(',') == std::string::npos) return address;
  const auto endpoints = ResolveTarget(address);
  if (!endpoints.ok()) return address;
  std::string target;
  for (const Endpoint& endpoint : *endpoints) {
    if (endpoint.address[0] != '[') target += (target.empty() ? "ipv4:" : ",") + endpoint.address;
  }
  return target.empty() ? address : target;
}

}  // namespace

Peer::Peer(std::string daemon, std::string address, Credentials credentials, int max_message_bytes)
    : daemon_(std::move(daemon)),
      address_(std::move(address)),
      credentials_(std::move(credentials)),
      channel_(Connect(
          GrpcTarget(address_),
          {.daemon = daemon_, .credentials = credentials_, .max_message_bytes = max_message_bytes})) {}

std::unique_ptr<grpc::ClientContext> Peer::NewContext(absl::Duration timeout, bool wait_for_ready) const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  context->set_wait_for_ready(wait_for_ready);
  if (const std::string token = credentials_.token(); !token.empty()) {
    context->AddMetadata("authorization", "Bearer " + token);
  }
  if (const auto trace = telemetry::Trace::Current(); !trace.empty()) {
    context->AddMetadata(telemetry::kTraceparent, trace.ToString());
  }
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
