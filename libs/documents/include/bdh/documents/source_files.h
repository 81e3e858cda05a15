// Which files a source means, and what identifies them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::documents {

struct SourceFile {
  std::string path;  // Absolute.
  // What it is called in reports and hashes: its path below the folder that was given, so that a folder means
  // the same wherever it lies.
  std::string name;
  int64_t size_bytes = 0;
  int64_t mtime_ns = 0;
  std::string etag = {};    // Of the server it came from, if one said it.
  std::string sha256 = {};  // Lower-case hex, where it is known.
};

struct SourceList {
  std::vector<SourceFile> files;
  // Files of folders that have no text for us, by their names: what they are called says so.
  std::vector<std::string> skipped;  // At most kSkippedNamed of them.
  int64_t skipped_files = 0;
  int64_t total_bytes() const;
  static constexpr size_t kSkippedNamed = 100;
};

// The files that `paths` mean, in a stable order. Each is absolute, because the caller's working folder is
// not ours, and is
//   a file, whatever its name;
//   a folder: all files in it and below it whose names end in .txt, .text, .md, .markdown, .html, .htm,
//   .jsonl,
//     .ndjson, .json, .csv, .tsv or .parquet, alone or with .gz or .zst behind; links to folders are not
//     followed, names that begin with a dot are passed over;
//   a pattern: * and ? match within a name, ** any number of folders, [abc] one of these.
// NotFoundError: not there, or a pattern that nothing matches; InvalidArgumentError: relative, a file given
// twice, not a regular file, a folder without such files; ResourceExhausted: more than kMaxFiles.
absl::StatusOr<SourceList> ListSources(const std::vector<std::string>& paths);
inline constexpr size_t kMaxFiles = 1'000'000;

// Fills in sha256 where it is not known, reading every byte. `progress` hears how many bytes each piece held;
// an error it returns ends the work.
absl::Status HashFiles(std::vector<SourceFile>& files,
                       const std::function<absl::Status(int64_t bytes)>& progress = nullptr);

// FailedPreconditionError when a file is not what it was when it was listed: names the file, what changed,
// and the remedy. Compares size and time of change, not the bytes.
absl::Status CheckUnchanged(const SourceFile& file);

// SHA-256, in hex, of names, sizes and, of each, the first that is known of sha256, etag and mtime; and of
// `options` (documents::CanonicalText). It identifies a data set that is streamed.
std::string ManifestHash(const std::vector<SourceFile>& files, std::string_view options);

}  // namespace bdh::documents
