#include "services/data_loader/sources.h"

#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/documents/source_spec.h"
#include "bdh/hub/ahead.h"

namespace bdh::data_loader {
namespace {

constexpr size_t kChunkBytesMax = size_t{1} << 20;

absl::Status Fetch(const hub::Source& source, const std::string& split, const SourceLimits& limits,
                   const OnFetched& progress, std::vector<documents::SourceFile>& files) {
  hub::Hub hub(limits.hub);
  BDH_ASSIGN_OR_RETURN(const hub::Fetched fetched, hub.Fetch(source, split, [&](const hub::Progress& at) {
    return progress(at.bytes_done, at.bytes_total);
  }));
  for (const hub::LocalFile& local : fetched.files) {
    BDH_ASSIGN_OR_RETURN(documents::SourceList list, documents::ListSources({local.path}));
    for (documents::SourceFile& file : list.files) {
      file.name = local.name;
      file.etag = local.etag;
      file.sha256 = local.sha256;
      files.push_back(std::move(file));
    }
  }
  return absl::OkStatus();
}

// Which of the files are fetched by whom.
class FetchedAhead {
 public:
  void Add(const hub::Options& options, const hub::Source& source, hub::Choice choice,
           std::vector<documents::SourceFile>& files) {
    const size_t first = files.size();
    for (const hub::LocalFile& local : choice.local) {
      files.push_back({.path = local.path,
                       .name = local.name,
                       .size_bytes = local.size_bytes,
                       .etag = local.etag,
                       .sha256 = local.sha256});
    }
    parts_.push_back({first, files.size(), options, source, std::move(choice), nullptr});
  }
  bool empty() const { return parts_.empty(); }

  absl::Status Prepare(size_t index, documents::SourceFile& file,
                       const std::function<absl::Status()>& waiting) {
    for (Part& part : parts_) {
      if (index < part.begin || index >= part.end) continue;
      if (part.ahead == nullptr) {
        part.ahead = std::make_unique<hub::Ahead>(part.options, part.source, part.choice);
      }
      BDH_RETURN_IF_ERROR(part.ahead->Await(index - part.begin, waiting));
      BDH_ASSIGN_OR_RETURN(const documents::SourceList there, documents::ListSources({file.path}));
      file.mtime_ns = there.files.at(0).mtime_ns;
    }
    return absl::OkStatus();
  }

 private:
  struct Part {
    size_t begin, end;
    hub::Options options;
    hub::Source source;
    hub::Choice choice;
    std::unique_ptr<hub::Ahead> ahead;  // Once its first file is asked for.
  };
  std::vector<Part> parts_;
};

// One document after the other, as chunks of the same document follow each other.
class Chunks {
 public:
  explicit Chunks(NextChunk next) : next_(std::move(next)) {}

  absl::StatusOr<std::optional<documents::NamedStream>> NextDocument();
  // Of the document `number`; empty at its end.
  absl::StatusOr<std::string_view> Read(int64_t number);

 private:
  absl::Status Fill();

  const NextChunk next_;
  const v1::TextChunk* chunk_ = nullptr;
  bool ended_ = false, read_ = true;
  std::string document_;
  int64_t number_ = 0;
};

class ChunkStream : public documents::ByteStream {
 public:
  ChunkStream(std::shared_ptr<Chunks> chunks, int64_t number) : chunks_(std::move(chunks)), number_(number) {}
  absl::StatusOr<std::string_view> Read() override { return chunks_->Read(number_); }

 private:
  const std::shared_ptr<Chunks> chunks_;
  const int64_t number_;
};

// Until there is a chunk whose data was not handed out.
absl::Status Chunks::Fill() {
  if (!read_ || ended_) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(chunk_, next_());
  ended_ = chunk_ == nullptr;
  read_ = false;
  if (ended_ || chunk_->data().size() <= kChunkBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("chunk.data holds %d bytes; send pieces of at most %d",
                                                    chunk_->data().size(), kChunkBytesMax));
}

absl::StatusOr<std::string_view> Chunks::Read(int64_t number) {
  while (true) {
    BDH_RETURN_IF_ERROR(Fill());
    if (ended_ || number != number_ || chunk_->document() != document_) return std::string_view();
    read_ = true;
    // An empty one begins a document, but ends none.
    if (!chunk_->data().empty()) return chunk_->data();
  }
}

}  // namespace

int64_t Sources::total_bytes() const {
  int64_t total = 0;
  for (const documents::SourceFile& file : files) total += file.size_bytes;
  return total;
}

std::string Sources::hash() const {
  return documents::ManifestHash(files, documents::CanonicalText(options));
}

absl::StatusOr<documents::Options> ToDocumentOptions(const v1::DocumentOptions& wire,
                                                     documents::Options options, const SourceLimits& limits) {
  if (!wire.format().empty()) {
    BDH_ASSIGN_OR_RETURN(options.format, documents::ParseFormat(wire.format()));
  }
  if (!wire.utf8().empty()) {
    BDH_ASSIGN_OR_RETURN(options.utf8, documents::ParseUtf8Policy(wire.utf8()));
  }
  if (!wire.split_text().empty()) {
    BDH_ASSIGN_OR_RETURN(options.split, documents::ParseTextSplit(wire.split_text()));
  }
  if (!wire.text_column().empty()) options.text_column = wire.text_column();
  if (!wire.score_column().empty()) options.score_column = wire.score_column();
  if (!wire.separator().empty()) options.separator = wire.separator();
  if (wire.csv_no_header()) options.csv_header = false;
  if (wire.unix_line_ends()) options.unix_line_ends = true;
  if (wire.nfc()) options.nfc = true;
  if (wire.min_bytes() != 0) options.min_bytes = wire.min_bytes();
  if (wire.max_bytes() != 0) options.max_bytes = wire.max_bytes();
  if (wire.min_word_share() != 0) options.min_word_share = wire.min_word_share();
  for (const std::string& text : wire.must_contain()) options.must_contain.push_back(text);
  for (const std::string& text : wire.must_not_contain()) options.must_not_contain.push_back(text);
  if (wire.deduplicate()) options.dedupe = true;
  if (wire.drop_too_long()) options.drop_too_long = true;
  options.max_document_bytes = limits.max_document_bytes;
  options.spool_folder = limits.spool_folder;
  BDH_RETURN_IF_ERROR(documents::Check(options));
  return options;
}

absl::StatusOr<Sources> FindSources(const std::vector<std::string>& paths, const v1::DocumentOptions& options,
                                    const SourceLimits& limits, const OnFetched& progress,
                                    const Fetching& fetching) {
  Sources sources;
  documents::Options defaults;
  std::string split = options.hub_split();
  std::vector<std::string> local, remote;
  const auto sort = [&](const std::string& path) { (hub::IsRemote(path) ? remote : local).push_back(path); };
  for (const std::string& path : paths) {
    // Of a file name without its folder a person is told that it is not absolute.
    if (!IsResourceName(path) || path.find('.') != std::string::npos) {
      sort(path);
      continue;
    }
    if (paths.size() > 1) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "'%s' would be a well-known set, which is added alone; give absolute paths, or the set by itself",
          path));
    }
    BDH_ASSIGN_OR_RETURN(const documents::SourceSpec known, documents::FindWellKnownSource(path));
    defaults = known.options;
    if (split.empty()) split = known.split;
    for (const std::string& source : known.sources) sort(source);
  }
  BDH_ASSIGN_OR_RETURN(sources.options, ToDocumentOptions(options, defaults, limits));
  if (!local.empty()) {
    BDH_ASSIGN_OR_RETURN(documents::SourceList list, documents::ListSources(local));
    sources.files = std::move(list.files);
  }
  const auto ahead = std::make_shared<FetchedAhead>();
  for (const std::string& source : remote) {
    BDH_ASSIGN_OR_RETURN(const hub::Source parsed, hub::ParseSource(source));
    if (!fetching.ahead || !parsed.url.empty()) {
      BDH_RETURN_IF_ERROR(Fetch(parsed, split, limits, progress, sources.files));
      continue;
    }
    BDH_ASSIGN_OR_RETURN(hub::Choice choice, hub::Hub(limits.hub).Choose(parsed, split));
    ahead->Add(limits.hub, parsed, std::move(choice), sources.files);
  }
  if (!ahead->empty()) {
    sources.prepare = [ahead, waiting = fetching.waiting](size_t index, documents::SourceFile& file) {
      return ahead->Prepare(index, file, waiting);
    };
  }
  return sources;
}

absl::StatusOr<std::optional<documents::NamedStream>> Chunks::NextDocument() {
  // What was not read of the document before.
  while (number_ > 0) {
    BDH_ASSIGN_OR_RETURN(const std::string_view rest, Read(number_));
    if (rest.empty()) break;
  }
  BDH_RETURN_IF_ERROR(Fill());
  if (ended_) return std::nullopt;
  document_ = chunk_->document();
  ++number_;
  return documents::NamedStream{document_, nullptr};
}

absl::StatusOr<std::unique_ptr<documents::DocumentSource>> OpenChunks(NextChunk next,
                                                                      documents::Options options) {
  const auto chunks = std::make_shared<Chunks>(std::move(next));
  int64_t number = 0;
  return documents::DocumentSource::OpenStreams(
      [chunks, number]() mutable -> absl::StatusOr<std::optional<documents::NamedStream>> {
        BDH_ASSIGN_OR_RETURN(auto stream, chunks->NextDocument());
        if (stream.has_value()) stream->bytes = std::make_unique<ChunkStream>(chunks, ++number);
        return stream;
      },
      std::move(options));
}

absl::Status ReadAll(documents::DocumentSource& source, const DocumentSink& sink) {
  while (true) {
    BDH_ASSIGN_OR_RETURN(const documents::Document* document, source.Next());
    if (document == nullptr) return absl::OkStatus();
    BDH_RETURN_IF_ERROR(sink.begin(*document));
    while (true) {
      BDH_ASSIGN_OR_RETURN(const std::string_view piece, source.Read());
      if (piece.empty()) break;
      BDH_RETURN_IF_ERROR(sink.append(piece));
    }
  }
}

corpus::Report ToReport(const documents::Report& report) {
  corpus::Report out = {.documents_in = report.total.in.documents, .bytes_in = report.total.in.bytes};
  for (int i = 0; i < documents::kDropReasons; ++i) {
    const auto reason = static_cast<documents::Drop>(i);
    const documents::Count& count = report.total[reason];
    if (count.documents == 0) continue;
    out.dropped.push_back({std::string(documents::DropName(reason)), count.documents, count.bytes});
  }
  for (const documents::SourceTally& source : report.sources) {
    out.sources.push_back({source.name, source.tally.kept.documents});
  }
  if (report.unnamed_sources > 0) {
    out.sources.push_back(
        {absl::StrFormat("%d more", report.unnamed_sources), report.unnamed.kept.documents});
  }
  return out;
}

}  // namespace bdh::data_loader
