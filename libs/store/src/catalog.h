#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "database.h"
#include "digest.h"

namespace bdh::store {

// Looks things up; takes no lock, every answer is of one moment. Thread-safe.
class Catalog {
 public:
  explicit Catalog(const Database& database) : database_(database) {}

  // NotFoundError: no such checkpoint or tag; the message is for people.
  absl::StatusOr<v1::StoredCheckpoint> Find(std::string_view reference,
                                            const rocksdb::Snapshot* snapshot = nullptr) const;
  absl::StatusOr<v1::StoredManifest> ManifestOf(const v1::StoredCheckpoint& record,
                                                const rocksdb::Snapshot* snapshot = nullptr) const;

  // With tensors and tags.
  absl::StatusOr<Checkpoint> Describe(std::string_view reference,
                                      const rocksdb::Snapshot* snapshot = nullptr) const;
  // Those that `wanted` answers true for, if it is given; it is asked once more to know whether a page
  // follows.
  using Wanted = std::function<absl::StatusOr<bool>(const v1::StoredCheckpoint&)>;
  absl::StatusOr<Store::Page> List(std::string_view run, int size, std::string_view token,
                                   const rocksdb::Snapshot* snapshot, const Wanted& wanted = {}) const;

  // All of a run, in the order they were made.
  absl::StatusOr<std::vector<v1::StoredCheckpoint>> OfRun(std::string_view run,
                                                          const rocksdb::Snapshot* snapshot = nullptr) const;

  absl::StatusOr<std::vector<Tag>> Tags(const rocksdb::Snapshot* snapshot = nullptr) const;
  absl::StatusOr<std::vector<std::string>> TagsOf(std::string_view checkpoint,
                                                  const rocksdb::Snapshot* snapshot = nullptr) const;

  // Ids of the checkpoints and blobs that hold the chunk.
  absl::StatusOr<std::vector<uint64_t>> OwnersOf(const Digest& digest,
                                                 const rocksdb::Snapshot* snapshot = nullptr) const;

  // Who holds a chunk, other than the one whose key in table `references` this is.
  struct Holders {
    bool owned = false;  // A checkpoint or a blob.
    bool based = false;  // A chunk that is kept as the difference from it. Not looked for if it is owned.
    bool any() const { return owned || based; }
  };
  absl::StatusOr<Holders> HoldersOf(std::string_view digest, std::string_view own_key = "") const;

 private:
  absl::StatusOr<std::string> Resolve(std::string_view reference, const rocksdb::Snapshot* snapshot) const;

  const Database& database_;
};

// A view of the database that later writes do not change.
class Snapshot {
 public:
  explicit Snapshot(const Database& database) : db_(&database.db()), snapshot_(db_->GetSnapshot()) {}
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() { db_->ReleaseSnapshot(snapshot_); }
  const rocksdb::Snapshot* get() const { return snapshot_; }

 private:
  rocksdb::DB* const db_;
  const rocksdb::Snapshot* const snapshot_;
};

}  // namespace bdh::store
