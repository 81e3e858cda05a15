#include "services/data_loader/batches.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "services/data_loader/convert.h"

namespace bdh::data_loader {
namespace {

constexpr int kBatchSizeMax = 65536;
constexpr int kBlockSizeMax = 1 << 20;

absl::Status CheckRange(std::string_view field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d; want %d to %d", field, value, min, max));
}

absl::Status CheckHash(const corpus::Dataset& dataset, const std::string& wanted) {
  if (wanted.empty() || wanted == dataset.info().hash) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "data set '%s' has hash %s, not %s: its content is another than the one this run began with; add "
      "that text again under another name, or start a new run",
      dataset.info().name, dataset.info().hash, wanted));
}

}  // namespace

absl::Status CheckShape(const v1::StreamBatchesRequest& request) {
  BDH_RETURN_IF_ERROR(CheckRange("batch_size", request.batch_size(), 1, kBatchSizeMax));
  BDH_RETURN_IF_ERROR(CheckRange("block_size", request.block_size(), 2, kBlockSizeMax));
  BDH_RETURN_IF_ERROR(CheckRange("start_step", request.start_step(), 0, INT64_MAX));
  BDH_RETURN_IF_ERROR(CheckRange("step_count", request.step_count(), 0, INT64_MAX - request.start_step()));
  // A worker without rows would wait for batches that never come.
  BDH_RETURN_IF_ERROR(CheckRange("world_size", request.world_size(), 0, request.batch_size()));
  BDH_RETURN_IF_ERROR(CheckRange("rank", request.rank(), 0, std::max(request.world_size(), 1) - 1));
  if (request.split() != v1::SPLIT_TRAIN && request.split() != v1::SPLIT_VALIDATION) {
    return absl::InvalidArgumentError("split is not given; want SPLIT_TRAIN or SPLIT_VALIDATION");
  }
  return ToOrder(request.order()).status();
}

absl::StatusOr<corpus::Sampler> MakeSampler(const corpus::DatasetStore& store,
                                            const v1::StreamBatchesRequest& request, int64_t message_bytes) {
  BDH_ASSIGN_OR_RETURN(const auto dataset, store.Get(request.dataset()));
  BDH_RETURN_IF_ERROR(CheckHash(*dataset, request.dataset_hash()));
  if (request.document_begins() && dataset->info().streaming) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "document_begins is not known of data set '%s', which is streaming; leave it out, or look for the "
        "tokenizer's end of text",
        request.dataset()));
  }
  corpus::Sampler::Options options = {
      .split = request.split() == v1::SPLIT_TRAIN ? corpus::Split::kTrain : corpus::Split::kValidation,
      .seed = request.seed(),
      .batch_size = request.batch_size(),
      .block_size = request.block_size()};
  BDH_ASSIGN_OR_RETURN(options.order, ToOrder(request.order()));
  BDH_ASSIGN_OR_RETURN(corpus::Sampler sampler, corpus::Sampler::Create(dataset, options));
  BDH_RETURN_IF_ERROR(dataset->VerifyOnce());
  if (sampler.row_bytes() > message_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "block_size is %d, so one row takes %d bytes, and a message holds %d (mesh.max_message_bytes of "
        "bdh-data-loader and its readers); make blocks shorter or messages larger",
        request.block_size(), sampler.row_bytes(), message_bytes));
  }
  return sampler;
}

void FillBatch(const corpus::Sampler& sampler, int64_t step, corpus::RowRange rows, int64_t first_row,
               bool document_begins, v1::Batch& batch) {
  batch.set_step(step);
  batch.set_rows(static_cast<int32_t>(rows.size()));
  batch.set_columns(static_cast<int32_t>(sampler.columns()));
  batch.set_token_bytes(sampler.dataset().info().token_bytes);
  batch.set_first_row(static_cast<int32_t>(first_row));
  batch.mutable_tokens()->resize(static_cast<size_t>(rows.size() * sampler.row_bytes()));
  sampler.Fill(step, rows, batch.mutable_tokens()->data());
  if (document_begins) batch.set_document_begins(sampler.DocumentBegins(step, rows));
  batch.set_row_resets(sampler.RowResets(step, rows));
}

}  // namespace bdh::data_loader
