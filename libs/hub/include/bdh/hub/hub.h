// The Hugging Face hub, or a server that speaks its HTTP API: lists and downloads files of data sets and
// models into a cache in the layout of Hugging Face's own tools, so that both find what the other fetched.
//
//   CACHE/datasets--OWNER--NAME/refs/main                  the commit that "main" is
//   CACHE/datasets--OWNER--NAME/snapshots/COMMIT/a/b.txt   a link to
//   CACHE/datasets--OWNER--NAME/blobs/ETAG                 the bytes; ETAG.incomplete while they come
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace bdh::hub {

enum class RepoKind { kDataset, kModel };

// What a source means: hf://datasets/OWNER/NAME[/CONFIG][@REVISION], hf://models/OWNER/NAME[@REVISION]
// (OWNER/ is absent where a name has none, such as gpt2), or https:// of one file.
struct Source {
  RepoKind kind = RepoKind::kDataset;
  std::string repo;      // "OWNER/NAME"
  std::string config;    // Empty: "default", or the only one.
  std::string revision;  // Empty: main.
  std::string url;       // For one file by URL; then the rest is empty.
};

// Whether it begins with hf://, https:// or http://: what is not a path.
bool IsRemote(std::string_view source);
absl::StatusOr<Source> ParseSource(std::string_view source);

struct Options {
  std::string endpoint = "https://huggingface.co";
  std::string cache_dir = "";  // Absolute.
  std::string token = "";      // Sent to `endpoint` alone, never to where it redirects.
  bool offline = false;        // Nothing leaves the machine: what is not in the cache is refused.
  int parallel = 4;            // Downloads at once.
  int64_t max_file_bytes = int64_t{1} << 40;
  int attempts = 6;  // For each request, where trying again can help: cut connections, 429, 5xx.
  // A pause without bytes that counts as a cut connection.
  absl::Duration stall = absl::Seconds(30);
  absl::Duration backoff = absl::Seconds(1);       // Doubles with each attempt.
  absl::Duration backoff_max = absl::Seconds(60);  // Retry-After beyond it is refused, not waited for.
};

// What `options` do not say, by the variables of the ecosystem: HF_ENDPOINT where the endpoint is the usual
// one, HF_HUB_CACHE or HF_HOME/hub where there is no cache_dir, HF_TOKEN or the file of HF_TOKEN_PATH or
// HF_HOME/token (HF_HOME is ~/.cache/huggingface if it is not set) where there is no token, HF_HUB_OFFLINE.
Options WithEnvironment(Options options);

// Where the ecosystem's tools keep their cache: ~/.cache/huggingface/hub. Empty: there is no HOME.
std::string UsualCacheDir();

struct RemoteFile {
  std::string path;  // In the repository.
  int64_t size_bytes = 0;
  std::string git_sha1;  // Of the blob; for LFS that of its pointer.
  std::string sha256;    // Of the content, for LFS files.
};

struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;  // Sorted by path.
};

struct LocalFile {
  std::string path;  // On this machine, under snapshots/.
  std::string name;  // In the repository, or the URL's file name.
  int64_t size_bytes = 0;
  std::string etag;
  std::string sha256;  // Where the server said it; then it was checked.
};

struct Progress {
  int64_t files_done = 0, files_total = 0;
  int64_t bytes_done = 0, bytes_total = 0;  // Bytes that were in the cache count as done.
};

struct Fetched {
  std::string commit;            // Empty for a URL.
  std::string folder;            // snapshots/COMMIT: where the paths begin.
  std::vector<LocalFile> files;  // In order of path.
};

// What Fetch would fetch, before it is there: to be fetched file by file.
struct Choice {
  std::string commit;
  std::vector<RemoteFile> remote;
  std::vector<LocalFile> local;  // Of each, where it will lie.
};

// Thread-safe; several processes may share a cache folder.
class Hub {
 public:
  explicit Hub(Options options);

  // False ends the work with CANCELLED. Called from one thread at a time.
  using OnProgress = std::function<bool(const Progress&)>;

  // The files of one split of a data set as the hub's own library would choose them: by `configs:` in the
  // repository's README.md, else by the names of folders and files; of a model the weights (safetensors
  // before .pt and .bin), the configuration and the tokenizer; of a URL that one. Downloads what the cache
  // lacks, resumes what was begun, and checks what came against the checksum that the server has told.
  //
  // NotFoundError: no such repository, revision, config or split (names those there are), or offline and not
  // in the cache. PermissionDeniedError: private or gated, with the remedy. UnavailableError: the server
  // cannot be reached, or did not recover within `attempts`. DataLossError: what came has another checksum;
  // it is deleted. ResourceExhaustedError: the disk is full, a file is over the limit, or the server asks for
  // a pause over backoff_max.
  absl::StatusOr<Fetched> Fetch(const Source& source, std::string_view split, const OnProgress& progress);

  // Fetch in two steps, for repositories alone: a source by URL is InvalidArgumentError. The same errors.
  absl::StatusOr<Choice> Choose(const Source& source, std::string_view split);
  absl::Status FetchFile(const Source& source, const Choice& choice, size_t index,
                         const OnProgress& progress);

  // All files of the repository at that revision.
  absl::StatusOr<Listing> List(const Source& source);

 private:
  const Options options_;
};

}  // namespace bdh::hub
