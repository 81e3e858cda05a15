#include "chunks.h"

#include "bdh/base/status_macros.h"

namespace bdh::store {

absl::Status Chunks::Write(const Digest& digest, std::string_view bytes, rocksdb::WriteBatch& batch) {
  batch.Put(database_[Table::kChunks], ToSlice(digest.view()), ToSlice(bytes));
  return absl::OkStatus();
}

absl::Status Chunks::Sync() {
  return database_.SyncLog();
}

void Chunks::Remove(const Digest& digest, rocksdb::WriteBatch& batch) {
  batch.Delete(database_[Table::kChunks], ToSlice(digest.view()));
}

absl::StatusOr<std::optional<int64_t>> Chunks::SizeOf(const Digest& digest,
                                                      const rocksdb::Snapshot* snapshot) const {
  const auto bytes = database_.Get(Table::kChunks, digest.view(), snapshot);
  if (absl::IsNotFound(bytes.status())) return std::optional<int64_t>();
  BDH_RETURN_IF_ERROR(bytes.status());
  return std::optional<int64_t>(static_cast<int64_t>(bytes->size()));
}

absl::Status Chunks::Read(const rocksdb::Snapshot* snapshot, const Digest& digest, int64_t size, Sha256& sha,
                          std::string& out) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.fill_cache = false;
  const rocksdb::Status status =
      database_.db().Get(options, database_[Table::kChunks], ToSlice(digest.view()), &out);
  if (status.IsNotFound()) return absl::DataLossError("a chunk is gone");
  // Whatever keeps the disk from giving the bytes back, they are not there for the caller.
  if (!status.ok()) {
    const absl::Status error = database_.ToStatus(status, "a chunk cannot be read");
    return absl::DataLossError(error.message());
  }
  if (static_cast<int64_t>(out.size()) != size || !(sha.Of(out) == digest)) {
    return absl::DataLossError("a chunk is damaged: it does not match its SHA-256");
  }
  return absl::OkStatus();
}

absl::Status Chunks::Walk(const rocksdb::Snapshot* snapshot, std::string_view after,
                          const Visit& visit) const {
  const auto chunks = database_.NewIterator(Table::kChunks, snapshot);
  for (chunks->Seek(ToSlice(after)); chunks->Valid(); chunks->Next()) {
    const std::string_view key = ToView(chunks->key());
    if (key == after || key.size() != Digest::kBytes) continue;
    if (!visit(Digest::FromBytes(key), static_cast<int64_t>(chunks->value().size()))) break;
  }
  return database_.ToStatus(chunks->status(), "walk the chunks");
}

}  // namespace bdh::store
