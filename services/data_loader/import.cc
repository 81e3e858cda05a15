#include "services/data_loader/import.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"
#include "bdh/corpus/text_files.h"
#include "services/data_loader/convert.h"

namespace bdh::data_loader {
namespace {

using CreateStream = grpc::ServerReaderWriter<v1::CreateDatasetResponse, v1::CreateDatasetRequest>;

constexpr size_t kChunkBytesMax = size_t{1} << 20;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);

// Tells the client how far the import is, a few times a second.
class Reporter {
 public:
  Reporter(CreateStream& stream, int64_t bytes_total) : stream_(stream), bytes_total_(bytes_total) {}

  void Report(const corpus::DatasetImport& import) {
    if (absl::Now() >= next_) Send(import);
  }

  // False: the client is gone.
  bool Send(const corpus::DatasetImport& import) {
    next_ = absl::Now() + kProgressInterval;
    const auto at = import.progress();
    v1::CreateDatasetResponse response;
    response.mutable_progress()->set_documents(at.documents);
    response.mutable_progress()->set_bytes_in(at.bytes_in);
    response.mutable_progress()->set_tokens_out(at.tokens);
    response.mutable_progress()->set_bytes_total(bytes_total_);
    return stream_.Write(response);
  }

 private:
  CreateStream& stream_;
  const int64_t bytes_total_;
  absl::Time next_ = absl::Now() + kProgressInterval;
};

absl::Status ClientGone() {
  return absl::CancelledError("the client went away; nothing was kept");
}

absl::StatusOr<v1::DatasetSpec> ReadSpec(CreateStream& stream) {
  v1::CreateDatasetRequest first;
  if (!stream.Read(&first) || !first.has_spec()) {
    return absl::InvalidArgumentError("the first message must hold spec");
  }
  return std::move(*first.mutable_spec());
}

absl::StatusOr<int64_t> SizeOf(const std::vector<corpus::TextFile>& files,
                               const corpus::DatasetStore& store) {
  int64_t total = 0;
  for (const corpus::TextFile& file : files) total += file.size_bytes;
  const int64_t limit = store.options().max_dataset_bytes;
  if (total <= limit) return total;
  return absl::ResourceExhaustedError(
      absl::StrFormat("the %d source files hold %d bytes, more than data_loader.max_dataset_bytes, which is "
                      "%d; raise it or give "
                      "less text",
                      files.size(), total, limit));
}

absl::Status TakeFiles(const std::vector<corpus::TextFile>& files, const grpc::ServerContext& context,
                       corpus::DatasetImport& import, Reporter& reporter) {
  for (const corpus::TextFile& file : files) {
    BDH_RETURN_IF_ERROR(import.BeginDocument());
    BDH_RETURN_IF_ERROR(corpus::ReadTextFile(file.path, [&](std::string_view piece) -> absl::Status {
      if (context.IsCancelled()) return ClientGone();
      BDH_RETURN_IF_ERROR(import.Append(piece));
      reporter.Report(import);
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

// Text beside sources would be passed over in silence. A client that has none to send has closed its side.
absl::Status ExpectNoChunks(CreateStream& stream, std::string_view instead) {
  v1::CreateDatasetRequest request;
  if (!stream.Read(&request)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("the spec names %s, and a chunk of text was sent too; send text, or name %s, not both",
                      instead, instead));
}

absl::StatusOr<std::shared_ptr<const corpus::Dataset>> CombineParts(corpus::DatasetStore& store,
                                                                    const v1::DatasetSpec& spec) {
  if (spec.paths_size() > 0 || spec.streaming() || !spec.tokenizer().empty() || spec.has_end_of_text() ||
      spec.has_validation_fraction() || spec.split_rule() != v1::SPLIT_RULE_UNSPECIFIED ||
      spec.has_documents()) {
    return absl::InvalidArgumentError(
        "the spec names parts, which have their text, tokenizer and splits already; set only name, parts and "
        "order");
  }
  std::vector<corpus::DatasetInfo::Part> parts;
  for (const v1::DatasetPart& part : spec.parts()) {
    parts.push_back({part.dataset(), "", part.has_weight() ? part.weight() : 1});
  }
  BDH_ASSIGN_OR_RETURN(const corpus::DatasetSpec store_spec, ToStoreSpec(spec));
  return store.Combine(store_spec, std::move(parts));
}

absl::Status CheckChunk(const v1::CreateDatasetRequest& request) {
  if (!request.has_chunk()) {
    return absl::InvalidArgumentError("after the first message every message must hold a chunk");
  }
  if (const size_t size = request.chunk().data().size(); size > kChunkBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("chunk.data holds %d bytes; send pieces of at most %d", size, kChunkBytesMax));
  }
  return absl::OkStatus();
}

absl::Status TakeChunks(CreateStream& stream, corpus::DatasetImport& import, Reporter& reporter) {
  std::optional<std::string> document;
  v1::CreateDatasetRequest request;
  while (stream.Read(&request)) {
    BDH_RETURN_IF_ERROR(CheckChunk(request));
    if (document != request.chunk().document()) {
      document = request.chunk().document();
      BDH_RETURN_IF_ERROR(import.BeginDocument());
    }
    BDH_RETURN_IF_ERROR(import.Append(request.chunk().data()));
    reporter.Report(import);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const corpus::Dataset>> ImportDataset(corpus::DatasetStore& store,
                                                                     const grpc::ServerContext& context,
                                                                     CreateStream& stream) {
  BDH_ASSIGN_OR_RETURN(const v1::DatasetSpec spec, ReadSpec(stream));
  if (spec.parts_size() > 0) {
    BDH_RETURN_IF_ERROR(ExpectNoChunks(stream, "parts"));
    return CombineParts(store, spec);
  }
  if (spec.paths_size() > 0) BDH_RETURN_IF_ERROR(ExpectNoChunks(stream, "paths"));
  BDH_ASSIGN_OR_RETURN(const auto files, corpus::ListTextFiles({spec.paths().begin(), spec.paths().end()}));
  BDH_ASSIGN_OR_RETURN(const int64_t bytes_total, SizeOf(files, store));
  BDH_ASSIGN_OR_RETURN(const corpus::DatasetSpec store_spec, ToStoreSpec(spec));
  BDH_ASSIGN_OR_RETURN(const auto import, store.Import(store_spec));
  Reporter reporter(stream, bytes_total);
  BDH_RETURN_IF_ERROR(files.empty() ? TakeChunks(stream, *import, reporter)
                                    : TakeFiles(files, context, *import, reporter));
  // A broken stream looks like the end of the text to Read; a Write cannot be mistaken.
  if (!reporter.Send(*import) || context.IsCancelled()) return ClientGone();
  BDH_ASSIGN_OR_RETURN(auto dataset, import->Commit());
  reporter.Send(*import);
  return dataset;
}

}  // namespace bdh::data_loader
