// CreateDataset's conversation with its client.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/v1/data_loader.grpc.pb.h"

namespace bdh::data_loader {

// Reads `spec`, takes the text in from files or from the stream, reports progress, commits. A client that
// goes away before the end of its text leaves nothing behind.
absl::StatusOr<std::shared_ptr<const corpus::Dataset>> ImportDataset(
    corpus::DatasetStore& store, const grpc::ServerContext& context,
    grpc::ServerReaderWriter<v1::CreateDatasetResponse, v1::CreateDatasetRequest>& stream);

}  // namespace bdh::data_loader
