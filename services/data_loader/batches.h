// Batches on the wire: what StreamBatches and GetBatch share.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/corpus/sampler.h"
#include "bdh/v1/data_loader.pb.h"

namespace bdh::data_loader {

// Every field of a request that can be wrong by itself.
absl::Status CheckShape(const v1::StreamBatchesRequest& request);

// The sampler of a request that CheckShape let pass. `message_bytes` is what a message may hold.
absl::StatusOr<corpus::Sampler> MakeSampler(const corpus::DatasetStore& store,
                                            const v1::StreamBatchesRequest& request, int64_t message_bytes);

// Fills in one message: rows of one step. `first_row` is the first of the slice they are of.
void FillBatch(const corpus::Sampler& sampler, int64_t step, corpus::RowRange rows, int64_t first_row,
               bool document_begins, v1::Batch& batch);

}  // namespace bdh::data_loader
