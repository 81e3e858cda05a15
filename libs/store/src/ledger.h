#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "catalog.h"
#include "database.h"
#include "digest.h"
#include "high_water.h"

namespace bdh::store {

inline constexpr const char* kStateKey = "state";

// The key in table `pending` of a manifest whose checkpoint was deleted; its chunks are yet to be freed. (The
// other kind of key there, "c" and a digest, is a chunk that an upload wrote and no commit has claimed.)
std::string PendingManifest(std::string_view id_key);

// The only place where the store changes. Every change is one RocksDB batch, so a crash leaves it done or not
// begun; what a batch cannot do at once (freeing the chunks of a deleted checkpoint) is written down in the
// table `pending` first and finished by the next Open.
//
// Who may free a chunk: it is free when no checkpoint references it (table `references`) and no upload in
// flight holds it (`held_`). Both are looked at under one lock, in the same breath as the chunk is deleted.
//
// Thread-safe. The lock is never held while chunk bytes are hashed, written or synced.
class Ledger {
 public:
  using ChunkSizes = absl::flat_hash_map<Digest, int64_t>;  // The distinct chunks of an upload.

  Ledger(const Store::Options& options, Database& database, const Catalog& catalog, v1::StoredState state,
         HighWater high_water);

  // Finishes what a crash interrupted, and answers how many things that were. Call once, before anything
  // else.
  absl::StatusOr<int64_t> Recover();

  absl::Status BeginUpload();
  void EndUpload();

  // Sees to it that the store has this chunk and keeps it until Release or Commit; not after an error. Once
  // for every distinct chunk of an upload.
  absl::Status Hold(const Digest& digest, std::string_view bytes);
  void Release(const ChunkSizes& chunks);

  struct Committed {
    v1::StoredCheckpoint record;
    int64_t new_bytes = 0;
  };
  // Commits, and releases `chunks`. If the name holds the same content already, that is the answer, and
  // `chunks` are released too. After an error they are still held.
  absl::StatusOr<Committed> Commit(const Checkpoint& checkpoint, const v1::StoredManifest& manifest,
                                   const ChunkSizes& chunks);

  absl::StatusOr<int64_t> Delete(std::string_view name);
  absl::StatusOr<Tag> SetTag(std::string_view tag, std::string_view reference,
                             const std::optional<std::string>& expected);
  absl::Status DeleteTag(std::string_view tag);

  // The next upload that brings this chunk replaces it instead of trusting it.
  void MarkDamaged(const Digest& digest);

  Store::Totals totals() const;

 private:
  // A chunk that uploads in flight rely on.
  struct HeldChunk {
    int holders = 0;
    bool stored = false;      // Its bytes are in the database.
    bool referenced = false;  // A checkpoint holds it too.
    bool pending = false;     // Stands in table `pending`, to be freed after a crash.
  };

  absl::Status WriteChunk(const Digest& digest, std::string_view bytes);
  // Numbers the change and writes it; the state is as before if that fails.
  absl::Status Apply(rocksdb::WriteBatch& batch, v1::StoredState next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckName(const Checkpoint& checkpoint, const Digest& digest,
                         std::optional<v1::StoredCheckpoint>& same) const;
  absl::StatusOr<int64_t> CommitNew(const v1::StoredCheckpoint& record, const v1::StoredManifest& manifest,
                                    const ChunkSizes& chunks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseCommitted(const ChunkSizes& chunks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Unlist(std::string_view name, v1::StoredCheckpoint& record);
  absl::StatusOr<int64_t> Collect(uint64_t id);
  absl::Status CollectSlice(const std::string& id_key, const std::vector<std::pair<Digest, int64_t>>& slice,
                            int64_t& freed);
  void ReleaseSlice(const std::vector<Digest>& slice);
  absl::Status FreeOrphan(std::string_view digest);
  absl::Status CheckExpected(std::string_view tag, const std::optional<std::string>& expected,
                             const std::string& current) const;
  absl::Status CheckRoom() const;

  const Store::Options& options_;
  Database& database_;
  const Catalog& catalog_;

  mutable Mutex mutex_;
  v1::StoredState state_ ABSL_GUARDED_BY(mutex_);
  HighWater high_water_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<Digest, HeldChunk> held_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Digest> damaged_ ABSL_GUARDED_BY(mutex_);
  int uploads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace bdh::store
