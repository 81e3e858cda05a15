#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "catalog.h"
#include "database.h"
#include "digest.h"
#include "packs.h"

namespace bdh::store {

// A moment of the store: what stands in it stays readable while this lives, whatever is deleted or moved.
class View {
 public:
  View(const Database& database, Packs& packs) : reading_(packs), snapshot_(database) {}
  const rocksdb::Snapshot* snapshot() const { return snapshot_.get(); }

 private:
  const Packs::Reading reading_;  // First: a pack named in the snapshot must not go before it is made.
  const Snapshot snapshot_;
};

// What may make a chunk smaller.
struct ChunkHint {
  int element_bytes = 1;
  std::optional<Digest> base = {};  // A chunk of the same size that may be alike.
};

// A batch, and the index entries it takes away. Their bytes count as living until it is written: a pack that
// went before would be missed if the batch does not come to the disk.
struct IndexBatch : rocksdb::WriteBatch {
  absl::flat_hash_map<Digest, v1::StoredChunk> removed;
};

// Where the bytes of chunks are: in packs, by table `index`; those of a store of the first format in table
// `chunks` until they are moved. Thread-safe; who may remove a chunk is the ledger's affair.
class Chunks {
 public:
  Chunks(const Store::Options& options, Database& database, Packs& packs)
      : options_(options), database_(database), packs_(packs) {}

  // Appends the bytes to a pack and says where they are. If `hint` has a base and it was used, the caller
  // keeps the base from being freed as long as the chunk lives.
  absl::StatusOr<v1::StoredChunk> Write(const Digest& digest, std::string_view bytes, const ChunkHint& hint);
  // What was written is durable; the index is not.
  absl::Status Sync() { return packs_.Sync(); }

  // Adds the index entry to `batch`; the one that may be there was removed.
  void Point(const Digest& digest, const v1::StoredChunk& where, rocksdb::WriteBatch& batch);
  // Takes the entry away; answers it if there was one.
  absl::StatusOr<std::optional<v1::StoredChunk>> Remove(const Digest& digest, IndexBatch& batch);

  // Nullopt: there is no such chunk (in a pack).
  absl::StatusOr<std::optional<v1::StoredChunk>> Find(const Digest& digest,
                                                      const rocksdb::Snapshot* snapshot = nullptr) const;
  absl::StatusOr<std::optional<int64_t>> SizeOf(const Digest& digest,
                                                const rocksdb::Snapshot* snapshot = nullptr) const;

  // Reads a chunk and checks it; `snapshot` is a View's, or null for now. DataLossError without a name: the
  // caller knows whose chunk it is.
  absl::Status Read(const rocksdb::Snapshot* snapshot, const Digest& digest, int64_t size, Sha256& sha,
                    std::string& out) const;

  // All chunks greater than `after` in the order of their digests (those still in table `chunks` last);
  // `visit` returns false to stop. In table `chunks` a value that is damaged ends the walk: RocksDB does not
  // say which it was. Manifests know.
  using Visit = std::function<bool(const Digest& digest, int64_t size)>;
  absl::Status Walk(const rocksdb::Snapshot* snapshot, std::string_view after, const Visit& visit) const;
  using VisitEntry = std::function<bool(const Digest& digest, const v1::StoredChunk& where)>;
  absl::Status WalkIndex(const rocksdb::Snapshot* snapshot, std::string_view after,
                         const VisitEntry& visit) const;

  // Whether chunks of the first format are left.
  bool HasOldChunks() const;
  Packs& packs() const { return packs_; }

 private:
  absl::Status ReadOld(const rocksdb::Snapshot* snapshot, const Digest& digest, std::string& out) const;
  absl::Status Load(const rocksdb::Snapshot* snapshot, const Digest& digest, int depth,
                    std::string& out) const;
  std::optional<std::string> Smaller(std::string_view bytes, const ChunkHint& hint, v1::StoredChunk& where);

  const Store::Options& options_;
  Database& database_;
  Packs& packs_;
};

}  // namespace bdh::store
