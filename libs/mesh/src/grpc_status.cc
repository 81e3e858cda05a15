#include "bdh/mesh/grpc_status.h"

#include <string>

namespace bdh::mesh {
namespace {

// Travels as the details of the status; no details of ours are defined yet that it would displace.
constexpr char kHandlerMark[] = "bdh";

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      kHandlerMark);
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

bool CameFromHandler(const grpc::Status& status) {
  return status.error_details() == kHandlerMark;
}

}  // namespace bdh::mesh
