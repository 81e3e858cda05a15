#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace bdh::mesh {

// The code values are the same canonical set on both sides. A status that went through ToGrpc is marked in
// its details, so that the caller can tell what a handler said from what gRPC says about the connection.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);
bool CameFromHandler(const grpc::Status& status);

}  // namespace bdh::mesh
