#include "services/data_loader/dataset_service.h"

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "bdh/corpus/document_text.h"
#include "services/data_loader/batches.h"

namespace bdh::data_loader {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);
constexpr int kSampleDefault = 10, kSampleMax = 100;
constexpr int64_t kSampleBytes = 4096;
constexpr size_t kExportBytes = size_t{256} << 10;

// The data set if all of it is there, and tokens of its own are in it.
absl::StatusOr<std::shared_ptr<const corpus::Dataset>> Whole(const corpus::DatasetStore& store,
                                                             const std::string& name, std::string_view what) {
  BDH_ASSIGN_OR_RETURN(auto dataset, store.Get(name));
  if (!dataset->complete()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "data set '%s' is still being tokenized, and %s needs all of it; try again when it is done", name,
        what));
  }
  if (!dataset->parts().empty()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "data set '%s' is made of others; ask for %s of its parts, of which '%s' is the first", name, what,
        dataset->info().parts[0].dataset));
  }
  return dataset;
}

void FillReport(const corpus::Dataset& dataset, v1::GetDatasetReportResponse& out) {
  const corpus::DatasetInfo info = dataset.CurrentInfo();
  out.set_documents_kept(info.documents);
  out.set_bytes_kept(info.bytes_in);
  // Data sets of release 0.1 have no report: they took everything.
  out.set_documents_in(info.report.documents_in > 0 ? info.report.documents_in : info.documents);
  out.set_bytes_in(info.report.documents_in > 0 ? info.report.bytes_in : info.bytes_in);
  for (const auto& drop : info.report.dropped) {
    auto& dropped = *out.add_dropped();
    dropped.set_reason(drop.reason);
    dropped.set_documents(drop.documents);
    dropped.set_bytes(drop.bytes);
  }
  for (const auto& source : info.report.sources) out.add_sources(source.name);
  for (const auto& bin : corpus::LengthHistogram(dataset)) {
    auto& length = *out.add_lengths();
    length.set_tokens_below(bin.tokens_max);
    length.set_documents(bin.documents);
  }
}

}  // namespace

grpc::Status DatasetLookup::GetBatch(grpc::ServerContext* context, const v1::GetBatchRequest* request,
                                     v1::GetBatchResponse* response) {
  return gate_.Run(*context, "GetBatch", [&] { return Batch(*context, *request, *response); });
}

absl::Status DatasetLookup::Batch(grpc::ServerContext& context, const v1::GetBatchRequest& request,
                                  v1::GetBatchResponse& response) const {
  v1::StreamBatchesRequest shape;
  shape.set_dataset(request.dataset());
  shape.set_dataset_hash(request.dataset_hash());
  shape.set_split(request.split());
  shape.set_seed(request.seed());
  shape.set_batch_size(request.batch_size());
  shape.set_block_size(request.block_size());
  shape.set_start_step(request.step());
  shape.set_order(request.order());
  shape.set_document_begins(request.document_begins());
  if (request.step() < 0) {
    return absl::InvalidArgumentError(absl::StrFormat("step is %d; want 0 or more", request.step()));
  }
  BDH_RETURN_IF_ERROR(CheckShape(shape));
  const int64_t rows = request.rows() == 0 ? request.batch_size() - request.first_row() : request.rows();
  if (request.first_row() < 0 || rows < 1 || request.first_row() + rows > request.batch_size()) {
    return absl::InvalidArgumentError(absl::StrFormat("rows %d from first_row %d on are not in a batch of %d",
                                                      request.rows(), request.first_row(),
                                                      request.batch_size()));
  }
  BDH_ASSIGN_OR_RETURN(const corpus::Sampler sampler, MakeSampler(store_, shape, batch_message_bytes_));
  if (rows * sampler.row_bytes() > batch_message_bytes_) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d rows take %d bytes, and an answer holds %d; ask for at most %d rows at once", rows,
        rows * sampler.row_bytes(), batch_message_bytes_, batch_message_bytes_ / sampler.row_bytes()));
  }
  const corpus::RowRange range = {request.first_row(), request.first_row() + rows};
  BDH_RETURN_IF_ERROR(sampler.Await(request.step(), range, [&] { return context.IsCancelled(); }));
  FillBatch(sampler, request.step(), range, 0, request.document_begins(), *response.mutable_batch());
  response.mutable_batch()->set_last(true);
  return absl::OkStatus();
}

grpc::Status DatasetLookup::SampleDataset(grpc::ServerContext* context,
                                          const v1::SampleDatasetRequest* request,
                                          v1::SampleDatasetResponse* response) {
  return gate_.Run(*context, "SampleDataset", [&] { return Sample(*request, *response); });
}

absl::Status DatasetLookup::Sample(const v1::SampleDatasetRequest& request,
                                   v1::SampleDatasetResponse& response) const {
  const int count = request.count() == 0 ? kSampleDefault : request.count();
  if (count < 1 || count > kSampleMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("count is %d; want 1 to %d, or 0 for %d", count, kSampleMax, kSampleDefault));
  }
  BDH_ASSIGN_OR_RETURN(const auto dataset, Whole(store_, request.dataset(), "a sample"));
  BDH_ASSIGN_OR_RETURN(const auto text, corpus::DocumentText::Create(dataset, store_));
  for (const int64_t number : corpus::DrawDocuments(*dataset, count, request.seed())) {
    auto& document = *response.add_documents();
    document.set_name(corpus::DocumentName(*dataset, number));
    document.set_tokens(corpus::DocumentTokens(*dataset, number));
    BDH_ASSIGN_OR_RETURN(*document.mutable_text(), text.Beginning(number, kSampleBytes));
  }
  return absl::OkStatus();
}

grpc::Status DatasetLookup::GetDatasetReport(grpc::ServerContext* context,
                                             const v1::GetDatasetReportRequest* request,
                                             v1::GetDatasetReportResponse* response) {
  return gate_.Run(*context, "GetDatasetReport", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto dataset, store_.Get(request->dataset()));
    FillReport(*dataset, *response);
    return absl::OkStatus();
  });
}

grpc::Status DatasetLookup::VerifyDataset(grpc::ServerContext* context,
                                          const v1::VerifyDatasetRequest* request,
                                          grpc::ServerWriter<v1::VerifyDatasetResponse>* writer) {
  return gate_.Run(*context, "VerifyDataset", [&] { return Verify(*context, request->dataset(), *writer); });
}

absl::Status DatasetLookup::Verify(const grpc::ServerContext& context, const std::string& name,
                                   grpc::ServerWriter<v1::VerifyDatasetResponse>& writer) const {
  BDH_ASSIGN_OR_RETURN(const auto dataset, store_.Get(name));
  v1::VerifyDatasetResponse response;
  response.set_bytes_total(dataset->verify_bytes());
  absl::Time next = absl::Now() + kProgressInterval;
  int64_t done = 0;
  BDH_RETURN_IF_ERROR(dataset->Verify([&](int64_t bytes) -> absl::Status {
    done += bytes;
    if (context.IsCancelled()) return absl::CancelledError("the client went away");
    if (absl::Now() < next) return absl::OkStatus();
    next = absl::Now() + kProgressInterval;
    response.set_bytes_done(done);
    return writer.Write(response) ? absl::OkStatus() : absl::CancelledError("the client went away");
  }));
  response.set_bytes_done(response.bytes_total());
  response.set_done(true);
  writer.Write(response);
  return absl::OkStatus();
}

grpc::Status DatasetLookup::ExportDataset(grpc::ServerContext* context,
                                          const v1::ExportDatasetRequest* request,
                                          grpc::ServerWriter<v1::TextChunk>* writer) {
  return gate_.Run(*context, "ExportDataset", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto dataset, Whole(store_, request->dataset(), "an export"));
    BDH_ASSIGN_OR_RETURN(const auto text, corpus::DocumentText::Create(dataset, store_));
    std::vector<corpus::Split> splits = {corpus::Split::kTrain, corpus::Split::kValidation};
    if (request->split() == v1::SPLIT_TRAIN) splits = {corpus::Split::kTrain};
    if (request->split() == v1::SPLIT_VALIDATION) splits = {corpus::Split::kValidation};
    v1::TextChunk chunk;
    for (int64_t number = 0; number < dataset->info().documents; ++number) {
      chunk.set_document(corpus::DocumentName(*dataset, number));
      BDH_RETURN_IF_ERROR(
          text.Read(number, splits, kExportBytes, [&](std::string_view piece) -> absl::Status {
            chunk.set_data(piece.data(), piece.size());
            if (writer->Write(chunk)) return absl::OkStatus();
            return absl::CancelledError("the reader is gone");
          }));
    }
    return absl::OkStatus();
  });
}

}  // namespace bdh::data_loader
