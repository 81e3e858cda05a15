#include "services/data_loader/import.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"
#include "services/data_loader/convert.h"

namespace bdh::data_loader {
namespace {

using CreateStream = grpc::ServerReaderWriter<v1::CreateDatasetResponse, v1::CreateDatasetRequest>;

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);

absl::Status ClientGone() {
  return absl::CancelledError("the client went away; nothing was kept");
}

// Tells the client how far it is, a few times a second. False: the client is gone.
class Reporter {
 public:
  explicit Reporter(CreateStream& stream) : stream_(stream) {}

  void set_bytes_total(int64_t bytes) { bytes_total_ = bytes; }

  bool Fetched(int64_t bytes_done, int64_t bytes_total) {
    v1::CreateDatasetResponse response;
    response.mutable_progress()->set_phase("fetching");
    response.mutable_progress()->set_bytes_in(bytes_done);
    response.mutable_progress()->set_bytes_total(bytes_total);
    return !Due() || stream_.Write(response);
  }

  bool Report(const corpus::DatasetImport& import) { return !Due() || Send(import); }

  bool Send(const corpus::DatasetImport& import) {
    const auto at = import.progress();
    v1::CreateDatasetResponse response;
    response.mutable_progress()->set_phase("tokenizing");
    response.mutable_progress()->set_documents(at.documents);
    response.mutable_progress()->set_bytes_in(at.bytes_in);
    response.mutable_progress()->set_tokens_out(at.tokens);
    response.mutable_progress()->set_bytes_total(bytes_total_);
    return stream_.Write(response);
  }

 private:
  bool Due() {
    if (absl::Now() < next_) return false;
    next_ = absl::Now() + kProgressInterval;
    return true;
  }

  CreateStream& stream_;
  int64_t bytes_total_ = 0;
  absl::Time next_ = absl::Now() + kProgressInterval;
};

absl::StatusOr<v1::DatasetSpec> ReadSpec(CreateStream& stream) {
  v1::CreateDatasetRequest first;
  if (!stream.Read(&first) || !first.has_spec()) {
    return absl::InvalidArgumentError("the first message must hold spec");
  }
  return std::move(*first.mutable_spec());
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

absl::StatusOr<Sources> SourcesOf(const v1::DatasetSpec& spec, const SourceLimits& limits,
                                  const OnFetched& progress,
                                  const std::function<absl::Status()>& waiting = nullptr) {
  return FindSources({spec.paths().begin(), spec.paths().end()}, spec.documents(), limits, progress,
                     {.ahead = spec.streaming(), .waiting = waiting});
}

// What FeedStreaming needs after a restart: the hash of the sources, and how to find them.
absl::StatusOr<std::shared_ptr<const corpus::Dataset>> StreamSources(corpus::DatasetStore& store,
                                                                     const v1::DatasetSpec& spec,
                                                                     const Sources& sources) {
  BDH_ASSIGN_OR_RETURN(const corpus::DatasetSpec store_spec, ToStoreSpec(spec));
  const std::string hash = sources.hash();
  return store.Stream(
      {.dataset = store_spec, .source_hash = hash, .source = hash + spec.SerializeAsString()});
}

absl::StatusOr<corpus::Report> Import(documents::DocumentSource& source, corpus::DatasetImport& import,
                                      const grpc::ServerContext& context, Reporter& reporter) {
  BDH_RETURN_IF_ERROR(ReadAll(
      source,
      {.begin = [&](const documents::Document& document) { return import.BeginDocument(document.score); },
       .append = [&](std::string_view piece) -> absl::Status {
         BDH_RETURN_IF_ERROR(import.Append(piece));
         if (context.IsCancelled() || !reporter.Report(import)) return ClientGone();
         return absl::OkStatus();
       }}));
  return ToReport(source.report());
}

}  // namespace

absl::StatusOr<std::shared_ptr<const corpus::Dataset>> ImportDataset(corpus::DatasetStore& store,
                                                                     const SourceLimits& limits,
                                                                     const grpc::ServerContext& context,
                                                                     CreateStream& stream) {
  BDH_ASSIGN_OR_RETURN(const v1::DatasetSpec spec, ReadSpec(stream));
  if (spec.parts_size() > 0) {
    BDH_RETURN_IF_ERROR(ExpectNoChunks(stream, "parts"));
    return CombineParts(store, spec);
  }
  if (spec.streaming() && spec.paths_size() == 0) {
    return absl::InvalidArgumentError(
        "a streaming data set needs paths: text that a client sends cannot be read again after a restart");
  }
  if (spec.paths_size() > 0) BDH_RETURN_IF_ERROR(ExpectNoChunks(stream, "paths"));
  Reporter reporter(stream);
  BDH_ASSIGN_OR_RETURN(const Sources sources, SourcesOf(spec, limits, [&](int64_t done, int64_t total) {
                         return !context.IsCancelled() && reporter.Fetched(done, total);
                       }));
  if (spec.streaming()) return StreamSources(store, spec, sources);
  reporter.set_bytes_total(sources.total_bytes());
  BDH_ASSIGN_OR_RETURN(const corpus::DatasetSpec store_spec, ToStoreSpec(spec));
  BDH_ASSIGN_OR_RETURN(const auto import, store.Import(store_spec));
  v1::CreateDatasetRequest request;
  const NextChunk next = [&]() -> absl::StatusOr<const v1::TextChunk*> {
    if (!stream.Read(&request)) return nullptr;
    if (request.has_chunk()) return &request.chunk();
    return absl::InvalidArgumentError("after the first message every message must hold a chunk");
  };
  BDH_ASSIGN_OR_RETURN(const auto source,
                       spec.paths_size() > 0 ? documents::DocumentSource::Open(sources.files, sources.options)
                                             : OpenChunks(next, sources.options));
  BDH_ASSIGN_OR_RETURN(corpus::Report report, Import(*source, *import, context, reporter));
  // A broken stream looks like the end of the text to Read; a Write cannot be mistaken.
  if (!reporter.Send(*import) || context.IsCancelled()) return ClientGone();
  BDH_ASSIGN_OR_RETURN(auto dataset, import->Commit(std::move(report)));
  reporter.Send(*import);
  return dataset;
}

absl::StatusOr<corpus::Report> FeedStreaming(const SourceLimits& limits, const std::string& written,
                                             corpus::DatasetBuilder& builder, std::stop_token stop) {
  constexpr size_t kHashLength = 64;
  v1::DatasetSpec spec;
  if (written.size() < kHashLength || !spec.ParseFromString(written.substr(kHashLength))) {
    return absl::DataLossError(
        "what it is streamed from does not read; delete the data set and add it again");
  }
  const auto stopped = [&] {
    return stop.stop_requested() ? absl::CancelledError("asked to stop") : absl::OkStatus();
  };
  // What was read is served while the next file comes.
  const auto waiting = [&]() -> absl::Status {
    BDH_RETURN_IF_ERROR(stopped());
    return builder.WriteReady();
  };
  BDH_ASSIGN_OR_RETURN(const Sources sources,
                       SourcesOf(
                           spec, limits, [&](int64_t, int64_t) { return !stop.stop_requested(); }, waiting));
  if (sources.hash() != written.substr(0, kHashLength)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the sources of data set '%s' changed since they were hashed; put them back, or "
                        "delete the data set and "
                        "add it again",
                        spec.name()));
  }
  BDH_ASSIGN_OR_RETURN(const auto source,
                       documents::DocumentSource::Open(sources.files, sources.options, {}, sources.prepare));
  BDH_RETURN_IF_ERROR(
      ReadAll(*source, {.begin = [&](const documents::Document&) { return builder.BeginDocument(); },
                        .append = [&](std::string_view piece) -> absl::Status {
                          BDH_RETURN_IF_ERROR(stopped());
                          return builder.Append(piece);
                        }}));
  return ToReport(source->report());
}

}  // namespace bdh::data_loader
