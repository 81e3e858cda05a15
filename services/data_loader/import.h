// CreateDataset's conversation with its client.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "services/data_loader/sources.h"

namespace bdh::data_loader {

// Reads `spec`, takes the text in from sources or from the stream, reports progress, commits. A client that
// goes away before the end of its text leaves nothing that is listed.
absl::StatusOr<std::shared_ptr<const corpus::Dataset>> ImportDataset(
    corpus::DatasetStore& store, const SourceLimits& limits, const grpc::ServerContext& context,
    grpc::ServerReaderWriter<v1::CreateDatasetResponse, v1::CreateDatasetRequest>& stream);

// What the store's streaming data sets are fed with: corpus::DatasetStore::Feeder, for sources as
// ImportDataset has written them down.
absl::StatusOr<corpus::Report> FeedStreaming(const SourceLimits& limits, const std::string& source,
                                             corpus::DatasetBuilder& builder, std::stop_token stop);

}  // namespace bdh::data_loader
