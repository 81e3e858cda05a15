#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "database.h"
#include "digest.h"

namespace bdh::store {

// Where the bytes of chunks are. Thread-safe; who may remove a chunk is the ledger's affair.
class Chunks {
 public:
  explicit Chunks(Database& database) : database_(database) {}

  // Writes the bytes and adds to `batch` what makes them known. Durable after Sync and the batch's own.
  absl::Status Write(const Digest& digest, std::string_view bytes, rocksdb::WriteBatch& batch);
  absl::Status Sync();
  void Remove(const Digest& digest, rocksdb::WriteBatch& batch);

  // Nullopt: there is no such chunk.
  absl::StatusOr<std::optional<int64_t>> SizeOf(const Digest& digest,
                                                const rocksdb::Snapshot* snapshot = nullptr) const;

  // Reads a chunk and checks it. DataLossError without a name: the caller knows whose chunk it is.
  absl::Status Read(const rocksdb::Snapshot* snapshot, const Digest& digest, int64_t size, Sha256& sha,
                    std::string& out) const;

  // All chunks greater than `after` in the order of their digests; `visit` returns false to stop.
  using Visit = std::function<bool(const Digest& digest, int64_t size)>;
  absl::Status Walk(const rocksdb::Snapshot* snapshot, std::string_view after, const Visit& visit) const;

 private:
  Database& database_;
};

}  // namespace bdh::store
