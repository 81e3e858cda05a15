// One repository's folder in the cache, in the layout of the hub's own tools.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/hub/hub.h"

namespace bdh::hub {

// Held until it is destroyed; given up by the system if the process dies.
class BlobLock {
 public:
  ~BlobLock();
  explicit BlobLock(int descriptor) : descriptor_(descriptor) {}
  BlobLock(const BlobLock&) = delete;
  BlobLock& operator=(const BlobLock&) = delete;

 private:
  const int descriptor_;
};

// Arguments are checked before: IsRepoName, IsRevision, IsCommit, IsRepoPath, and etags of letters and
// digits.
class RepoCache {
 public:
  RepoCache(std::string cache_dir, RepoKind kind, std::string_view repo);

  // The commit a revision was last time; nothing if it is not known.
  std::optional<std::string> ReadRef(std::string_view revision) const;
  absl::Status WriteRef(std::string_view revision, std::string_view commit) const;

  // What the repository holds at a commit, as it was last listed. This file is ours.
  std::optional<Listing> ReadListing(std::string_view commit) const;
  absl::Status WriteListing(const Listing& listing) const;

  std::string Snapshot(std::string_view commit) const;
  std::string SnapshotFile(std::string_view commit, std::string_view path) const;
  std::string Blob(std::string_view etag) const;
  std::string Incomplete(std::string_view etag) const { return Blob(etag) + ".incomplete"; }
  absl::Status MakeFolders() const;

  // Waits for it. CancelledError.
  absl::StatusOr<std::unique_ptr<BlobLock>> Lock(std::string_view etag,
                                                 const std::atomic<bool>& cancelled) const;

  // Makes snapshots/COMMIT/path a link to the blob.
  absl::Status Link(std::string_view commit, std::string_view path, std::string_view etag) const;

 private:
  const std::string cache_dir_, name_, folder_;
};

// SHA-256 of a file, in hex.
absl::StatusOr<std::string> ContentSha256(const std::string& path, const std::atomic<bool>& cancelled);

// Compares the file's content: sha256 where it is known, else the hash git gives it; neither known is fine.
// DataLossError: it is another.
absl::Status CheckContent(const std::string& path, const RemoteFile& file,
                          const std::atomic<bool>& cancelled);

}  // namespace bdh::hub
