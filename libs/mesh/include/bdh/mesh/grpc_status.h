#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace bdh::mesh {

// The code values are the same canonical set on both sides.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace bdh::mesh
