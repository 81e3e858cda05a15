#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "catalog.h"
#include "chunks.h"
#include "database.h"
#include "digest.h"
#include "draft.h"
#include "high_water.h"

namespace bdh::store {

inline constexpr const char* kStateKey = "state";

// The key in table `pending` of a manifest whose checkpoint or blob was deleted; its chunks are yet to be
// freed. (The other kind of key there, "c" and a digest, is a chunk that an upload wrote and no commit has
// claimed; its value is the upload's name, if it has one.)
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

  Ledger(const Store::Options& options, Database& database, const Catalog& catalog, Chunks& chunks,
         v1::StoredState state, HighWater high_water);

  struct Recovered {
    int64_t finished = 0;                       // Things that a crash had interrupted.
    std::map<std::string, ChunkSizes> uploads;  // Named ones, whose chunks are held.
  };
  // Call once, before anything else.
  absl::StatusOr<Recovered> Recover();

  // Numbers the change, makes it durable, and frees what it unlisted; answers the bytes freed. An error of
  // `change` is the answer, and nothing is changed.
  absl::StatusOr<int64_t> Apply(const std::function<absl::Status(Draft&)>& change);

  absl::Status BeginUpload();
  void EndUpload();

  // Sees to it that the store has this chunk and keeps it until Release or Commit; not after an error. Once
  // for every distinct chunk of an upload. Answers whether it was written.
  absl::StatusOr<bool> Hold(const Digest& digest, std::string_view bytes, const ChunkHint& hint = {},
                            std::string_view upload = "");
  // Holds it if the store has it, and answers its size.
  absl::StatusOr<std::optional<int64_t>> HoldExisting(const Digest& digest);
  void Release(const ChunkSizes& chunks);

  struct Committed {
    v1::StoredCheckpoint record;
    int64_t new_bytes = 0;
  };
  // Commits, and releases `chunks`. If the name holds the same content already, that is the answer, and
  // `chunks` are released too. After an error they are still held.
  absl::StatusOr<Committed> Commit(const Checkpoint& checkpoint, const v1::StoredManifest& manifest,
                                   const ChunkSizes& chunks, const Change& also);

  struct CommittedBlob {
    v1::StoredBlob record;
    int64_t new_bytes = 0;
  };
  // The same for a blob; id and time are set.
  absl::StatusOr<CommittedBlob> CommitBlob(v1::StoredBlob blob, const v1::StoredManifest& manifest,
                                           const ChunkSizes& chunks, const BlobUpload::Owner& also);

  absl::StatusOr<int64_t> Delete(std::string_view name);
  absl::StatusOr<bool> IsPinned(std::string_view name) const;
  absl::StatusOr<Tag> SetTag(std::string_view tag, std::string_view reference,
                             const std::optional<std::string>& expected);
  absl::Status DeleteTag(std::string_view tag);

  // From now on the chunk is not served; the next upload that brings it replaces it instead of trusting it.
  void MarkDamaged(const Digest& digest, std::string_view message);
  // The bytes were looked at again and are right.
  absl::Status ClearDamage(const Digest& digest);
  // What is wrong with it, or nothing.
  std::optional<std::string> DamageOf(const Digest& digest) const;
  std::vector<std::pair<Digest, std::string>> Damaged() const;  // By digest.
  // Writes the right bytes of a damaged chunk.
  absl::Status Heal(const Digest& digest, std::string_view bytes);

  // The bytes of a chunk were copied: the index points to the copy from now on, unless it has changed
  // meanwhile.
  struct Relocation {
    Digest digest;
    v1::StoredChunk from, to;
  };
  absl::Status Relocate(const std::vector<Relocation>& moves);
  // Chunks of the first format were copied into packs.
  absl::Status Adopt(const std::vector<std::pair<Digest, v1::StoredChunk>>& chunks);

  // Frees those of the chunks that nothing holds; answers how many and their bytes.
  struct Freed {
    int64_t chunks = 0;
    int64_t bytes = 0;
  };
  absl::StatusOr<Freed> FreeUnheld(const std::vector<std::pair<Digest, int64_t>>& chunks, bool dry_run);

  Store::Totals totals() const;
  // What the ledger knows of them.
  Store::Stats stats() const;
  uint32_t format() const;
  uint64_t sequence() const;

 private:
  // A chunk that uploads in flight rely on.
  struct HeldChunk {
    int holders = 0;
    bool stored = false;      // Its bytes are in the database.
    bool referenced = false;  // A checkpoint holds it too.
    bool pending = false;     // Stands in table `pending`, to be freed after a crash.
  };

  absl::Status WriteChunk(const Digest& digest, std::string_view bytes, ChunkHint hint,
                          std::string_view upload);
  absl::Status Settled(absl::Status status, const IndexBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PointChunk(const Digest& digest, const v1::StoredChunk& where, IndexBatch& batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<bool> MayBeBase(std::string_view digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Numbers the change and writes it; the state is as before if that fails.
  absl::Status Finish(Draft& draft) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t CollectUnlisted(const Draft& draft);
  // With the chunks it was the difference from, if nothing else holds them.
  absl::Status RemoveChunk(const Digest& digest, IndexBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status LoadDamage();
  absl::Status CheckName(const Checkpoint& checkpoint, const Digest& digest,
                         std::optional<v1::StoredCheckpoint>& same) const;
  absl::StatusOr<int64_t> ClaimChunks(uint64_t id, std::string_view what, const v1::StoredManifest& manifest,
                                      const ChunkSizes& chunks, Draft& draft)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseCommitted(const ChunkSizes& chunks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Unlist(std::string_view name, Draft& draft);
  absl::StatusOr<int64_t> Collect(uint64_t id);
  absl::Status CollectSlice(const std::string& id_key, const std::vector<std::pair<Digest, int64_t>>& slice,
                            int64_t& freed);
  void ReleaseSlice(const std::vector<Digest>& slice);
  absl::Status DropUnowned(const Digest& digest, const HeldChunk& chunk, IndexBatch& batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status FreeOrphan(const Digest& digest);
  absl::Status KeepForUpload(const Digest& digest, ChunkSizes& chunks);
  absl::Status CheckExpected(std::string_view tag, const std::optional<std::string>& expected,
                             const std::string& current) const;
  absl::Status CheckRoom() const;

  const Store::Options& options_;
  Database& database_;
  const Catalog& catalog_;
  Chunks& chunks_;

  mutable Mutex mutex_;
  v1::StoredState state_ ABSL_GUARDED_BY(mutex_);
  HighWater high_water_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<Digest, HeldChunk> held_ ABSL_GUARDED_BY(mutex_);
  std::map<Digest, std::string> damaged_ ABSL_GUARDED_BY(mutex_);  // What is wrong with them.
  int uploads_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<int64_t> received_bytes_{0}, written_bytes_{0};
};

}  // namespace bdh::store
