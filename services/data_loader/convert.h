// Data sets on the wire.
#pragma once

#include "absl/status/statusor.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/v1/data_loader.pb.h"

namespace bdh::data_loader {

v1::Dataset ToProto(const corpus::Dataset& dataset);

// InvalidArgumentError: not an order. Unset for ORDER_UNSPECIFIED.
absl::StatusOr<std::optional<corpus::Order>> ToOrder(v1::Order order);

// What of a spec the store wants to know.
absl::StatusOr<corpus::DatasetSpec> ToStoreSpec(const v1::DatasetSpec& spec);

}  // namespace bdh::data_loader
