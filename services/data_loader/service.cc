#include "services/data_loader/service.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/corpus/sampler.h"
#include "bdh/tokenizer/tokenizer.h"
#include "services/data_loader/batches.h"
#include "services/data_loader/convert.h"
#include "services/data_loader/import.h"

namespace bdh::data_loader {
namespace {

constexpr int64_t kTokenizeBytesMax = int64_t{1} << 20;
// Trailing metadata of a stream that ends early: the start_step of the next one.
constexpr char kCursorKey[] = "bdh-next-step";

// Sends one step's rows in as many messages as it takes. False: the reader is gone.
bool SendStep(const corpus::Sampler& sampler, int64_t step, corpus::RowRange slice, int64_t rows_at_once,
              bool document_begins, v1::Batch& batch, grpc::ServerWriter<v1::Batch>& writer) {
  for (int64_t row = slice.begin; row < slice.end; row += rows_at_once) {
    const corpus::RowRange rows = {row, std::min(row + rows_at_once, slice.end)};
    FillBatch(sampler, step, rows, rows.begin - slice.begin, document_begins, batch);
    batch.set_last(rows.end == slice.end);
    if (!writer.Write(batch)) return false;
  }
  return true;
}

absl::Status Describe(const corpus::Dataset& dataset, v1::DescribeDatasetResponse& out) {
  *out.mutable_dataset() = ToProto(dataset);
  for (const corpus::ShardInfo& shard : dataset.CurrentInfo().shards) {
    v1::ShardInfo& info = *out.add_shards();
    info.set_file(shard.file);
    info.set_split(std::string(corpus::SplitName(shard.split)));
    info.set_tokens(shard.tokens);
    info.set_size_bytes(shard.size_bytes);
  }
  out.set_sample(dataset.info().sample);
  return absl::OkStatus();
}

absl::Status CheckLength(std::string_view what, int64_t length) {
  if (length <= kTokenizeBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is %d; want 0 to %d", what, length, kTokenizeBytesMax));
}

absl::Status Encode(const corpus::DatasetStore& store, const v1::TokenizeRequest& request,
                    v1::TokenizeResponse& response) {
  BDH_ASSIGN_OR_RETURN(const auto tokenizer, store.FindTokenizer(request.tokenizer()));
  BDH_RETURN_IF_ERROR(CheckLength("length of text", static_cast<int64_t>(request.text().size())));
  std::vector<int32_t> tokens;
  tokenizer->Encode(request.text(), tokens);
  response.mutable_tokens()->Add(tokens.begin(), tokens.end());
  return absl::OkStatus();
}

absl::Status Decode(const corpus::DatasetStore& store, const v1::DetokenizeRequest& request,
                    v1::DetokenizeResponse& response) {
  BDH_ASSIGN_OR_RETURN(const auto tokenizer, store.FindTokenizer(request.tokenizer()));
  BDH_RETURN_IF_ERROR(CheckLength("number of tokens", request.tokens_size()));
  tokenizer::DecodeState state;
  for (const int32_t token : request.tokens()) {
    BDH_RETURN_IF_ERROR(tokenizer->DecodeNext(token, state, *response.mutable_text()));
  }
  return absl::OkStatus();
}

}  // namespace

// One of the max_streams places, given back at the end of the call.
class DataLoader::StreamSlot {
 public:
  StreamSlot(DataLoader& loader, const grpc::ServerContext& context)
      : loader_(loader), context_(context), taken_(++loader.streams_ <= loader.max_streams_) {
    loader_.streams_gauge_.Increment();
    MutexLock lock(loader_.mutex_);
    loader_.open_.insert(&context_);
  }
  ~StreamSlot() {
    {
      MutexLock lock(loader_.mutex_);
      loader_.open_.erase(&context_);
      loader_.stream_ended_.NotifyAll();
    }
    --loader_.streams_;
    loader_.streams_gauge_.Decrement();
  }
  absl::Status status() const {
    if (taken_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%d batch streams are open, which is data_loader.max_streams; close one, raise it, or try again "
        "later",
        loader_.max_streams_));
  }

 private:
  DataLoader& loader_;
  const grpc::ServerContext& context_;
  const bool taken_;
};

DataLoader::DataLoader(corpus::DatasetStore& store, const mesh::Gate& gate, telemetry::Metrics& metrics,
                       SourceLimits limits, int max_streams, int64_t batch_message_bytes)
    : store_(store),
      gate_(gate),
      limits_(std::move(limits)),
      max_streams_(max_streams),
      batch_message_bytes_(batch_message_bytes),
      tokens_sent_(metrics.Counter("bdh_loader_tokens_total", "Tokens sent in batches.")),
      streams_gauge_(metrics.Gauge("bdh_loader_streams", "Open batch streams.")),
      datasets_gauge_(metrics.Gauge("bdh_loader_datasets", "Data sets that can be streamed.")) {
  datasets_gauge_.Set(static_cast<double>(store_.List().size()));
}

void DataLoader::StopStreams(absl::Duration patience) {
  stopping_ = true;
  const absl::Time deadline = absl::Now() + patience;
  MutexLock lock(mutex_);
  while (!open_.empty() && absl::Now() < deadline) {
    stream_ended_.WaitFor(mutex_, absl::ToChronoNanoseconds(deadline - absl::Now()));
  }
  for (const grpc::ServerContext* context : open_) context->TryCancel();
}

std::string DataLoader::KeyFigure() const {
  const size_t datasets = store_.List().size();
  const int streams = streams_;
  return absl::StrFormat("%d data set%s, %d stream%s", datasets, datasets == 1 ? "" : "s", streams,
                         streams == 1 ? "" : "s");
}

grpc::Status DataLoader::CreateDataset(grpc::ServerContext* context, CreateStream* stream) {
  return gate_.Run(*context, "CreateDataset", [&] { return Create(*context, *stream); });
}

absl::Status DataLoader::Create(const grpc::ServerContext& context, CreateStream& stream) {
  const absl::Time start = absl::Now();
  BDH_ASSIGN_OR_RETURN(const auto dataset, ImportDataset(store_, limits_, context, stream));
  datasets_gauge_.Set(static_cast<double>(store_.List().size()));
  const corpus::DatasetInfo& info = dataset->info();
  BDH_LOG(INFO) << "data set ready name=" << info.name << " hash=" << info.hash
                << " documents=" << info.documents << " bytes_in=" << info.bytes_in
                << " took_ms=" << absl::ToInt64Milliseconds(absl::Now() - start);
  v1::CreateDatasetResponse last;
  *last.mutable_dataset() = ToProto(*dataset);
  stream.Write(last);  // Who does not hear it asks again: the same content is OK twice.
  return absl::OkStatus();
}

grpc::Status DataLoader::ListDatasets(grpc::ServerContext* context, const v1::ListDatasetsRequest*,
                                      v1::ListDatasetsResponse* response) {
  return gate_.Run(*context, "ListDatasets", [&] {
    for (const auto& dataset : store_.List()) *response->add_datasets() = ToProto(*dataset);
    return absl::OkStatus();
  });
}

grpc::Status DataLoader::DescribeDataset(grpc::ServerContext* context,
                                         const v1::DescribeDatasetRequest* request,
                                         v1::DescribeDatasetResponse* response) {
  return gate_.Run(*context, "DescribeDataset", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto dataset, store_.Get(request->name()));
    return Describe(*dataset, *response);
  });
}

grpc::Status DataLoader::DeleteDataset(grpc::ServerContext* context, const v1::DeleteDatasetRequest* request,
                                       v1::DeleteDatasetResponse*) {
  return gate_.Run(*context, "DeleteDataset", [&]() -> absl::Status {
    BDH_RETURN_IF_ERROR(store_.Delete(request->name()));
    datasets_gauge_.Set(static_cast<double>(store_.List().size()));
    BDH_LOG(INFO) << "data set deleted name=" << request->name();
    return absl::OkStatus();
  });
}

grpc::Status DataLoader::StreamBatches(grpc::ServerContext* context, const v1::StreamBatchesRequest* request,
                                       BatchWriter* writer) {
  return gate_.Run(*context, "StreamBatches", [&] { return Stream(*context, *request, *writer); });
}

absl::Status DataLoader::Stream(grpc::ServerContext& context, const v1::StreamBatchesRequest& request,
                                BatchWriter& writer) {
  BDH_RETURN_IF_ERROR(CheckShape(request));
  BDH_RETURN_IF_ERROR(store_.Get(request.dataset()).status());
  const StreamSlot slot(*this, context);
  BDH_RETURN_IF_ERROR(slot.status());
  BDH_ASSIGN_OR_RETURN(const corpus::Sampler sampler, MakeSampler(store_, request, batch_message_bytes_));
  const corpus::RowRange slice =
      corpus::SliceOf(request.batch_size(), request.rank(), std::max(request.world_size(), 1));
  const int64_t end = request.step_count() == 0 ? INT64_MAX : request.start_step() + request.step_count();
  const int64_t rows_at_once = batch_message_bytes_ / sampler.row_bytes();
  v1::Batch batch;  // One for all messages: its buffer is kept.
  for (int64_t step = request.start_step(); step < end; ++step) {
    const absl::Status there = sampler.Await(step, slice, [&] { return stopping_ || context.IsCancelled(); });
    if (stopping_) {
      context.AddTrailingMetadata(kCursorKey, absl::StrFormat("%d", step));
      return absl::UnavailableError(
          absl::StrFormat("bdh-data-loader is shutting down; open the stream again at start_step %d", step));
    }
    BDH_RETURN_IF_ERROR(there);
    if (!SendStep(sampler, step, slice, rows_at_once, request.document_begins(), batch, writer))
      return absl::CancelledError("the reader is gone");
    tokens_sent_.Increment(static_cast<double>(slice.size() * sampler.columns()));
  }
  return absl::OkStatus();
}

grpc::Status DataLoader::Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                                  v1::TokenizeResponse* response) {
  return gate_.Run(*context, "Tokenize", [&] { return Encode(store_, *request, *response); });
}

grpc::Status DataLoader::Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                                    v1::DetokenizeResponse* response) {
  return gate_.Run(*context, "Detokenize", [&] { return Decode(store_, *request, *response); });
}

}  // namespace bdh::data_loader
