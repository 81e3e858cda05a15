// Where text comes from: files, the hub, well-known sets, or a client that sends it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"
#include "bdh/documents/document_source.h"
#include "bdh/hub/hub.h"
#include "bdh/v1/data_loader.grpc.pb.h"

namespace bdh::data_loader {

// What every source of this daemon shares.
struct SourceLimits {
  hub::Options hub = {};
  int64_t max_document_bytes = int64_t{1} << 30;
  std::string spool_folder = "";  // For a parquet file that a client sends.
};

// Files that are on this machine, now or once they were prepared, and how they become documents.
struct Sources {
  std::vector<documents::SourceFile> files;
  documents::Options options;
  documents::DocumentSource::Prepare prepare = nullptr;  // Set where some are fetched while others are read.
  int64_t total_bytes() const;
  // Identifies them.
  std::string hash() const;
};

// Hears how much was fetched of how much. False ends it with CANCELLED.
using OnFetched = std::function<bool(int64_t bytes_done, int64_t bytes_total)>;

// When what is elsewhere is fetched: before the first document is read, or, of the hub's data sets, each file
// before its first document and while the one before it is read. `waiting` is called every moment while that
// is waited for; an error of it ends the waiting.
struct Fetching {
  bool ahead = false;
  std::function<absl::Status()> waiting = nullptr;
};

// Finds what `paths` mean and fetches what is elsewhere. A path is absolute, or begins with hf:// or
// https://, or is the name of a well-known set, whose options are the defaults then.
absl::StatusOr<Sources> FindSources(const std::vector<std::string>& paths, const v1::DocumentOptions& options,
                                    const SourceLimits& limits, const OnFetched& progress,
                                    const Fetching& fetching = {});

// InvalidArgumentError names the field.
absl::StatusOr<documents::Options> ToDocumentOptions(const v1::DocumentOptions& options,
                                                     documents::Options defaults, const SourceLimits& limits);

// The next chunk that a client sends; null: there are no more.
using NextChunk = std::function<absl::StatusOr<const v1::TextChunk*>()>;

// Documents out of chunks. `next` outlives it.
absl::StatusOr<std::unique_ptr<documents::DocumentSource>> OpenChunks(NextChunk next,
                                                                      documents::Options options);

// Hands all of `source` on. `piece` may end it with an error.
struct DocumentSink {
  std::function<absl::Status(const documents::Document&)> begin;
  std::function<absl::Status(std::string_view piece)> append;
};
absl::Status ReadAll(documents::DocumentSource& source, const DocumentSink& sink);

corpus::Report ToReport(const documents::Report& report);

}  // namespace bdh::data_loader
