// Between the wire's messages and the structs of libs/store.
#pragma once

#include "absl/status/statusor.h"
#include "bdh/store/checkpoint.h"
#include "bdh/v1/checkpoint_store.pb.h"

namespace bdh::checkpoint_store {

// What the store itself understands becomes fields; the rest becomes `facts` and `provenance`, also fields
// that only a newer client knows. Fields the store sets are ignored.
store::Checkpoint FromProto(v1::Checkpoint checkpoint);

// DataLossError: the facts are damaged.
absl::StatusOr<v1::Checkpoint> ToProto(const store::Checkpoint& checkpoint);

v1::Tag ToProto(const store::Tag& tag);

}  // namespace bdh::checkpoint_store
