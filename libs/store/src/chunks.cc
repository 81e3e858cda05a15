#include "chunks.h"

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "draft.h"
#include "encoding.h"

namespace bdh::store {
namespace {

constexpr int kMaxDepth = 8;  // Chunks read to get at one.

absl::StatusOr<v1::StoredChunk> ParseEntry(std::string_view bytes) {
  v1::StoredChunk where;
  if (!where.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || where.pack() == 0 ||
      (!where.base().empty() && where.base().size() != Digest::kBytes)) {
    return absl::DataLossError("the index entry of a chunk is damaged");
  }
  return where;
}

}  // namespace

std::optional<std::string> Chunks::Smaller(std::string_view bytes, const ChunkHint& hint,
                                           v1::StoredChunk& where) {
  if (options_.compression == Store::Compression::kNone) return std::nullopt;
  where.set_element_bytes(static_cast<uint32_t>(hint.element_bytes));
  if (options_.compression == Store::Compression::kDelta && hint.base.has_value()) {
    const Packs::Reading reading(packs_);
    const auto base = Find(*hint.base);
    std::string old;
    if (base.ok() && base->has_value() && (*base)->depth() < kMaxDepth &&
        (*base)->size_bytes() == bytes.size() && Load(nullptr, *hint.base, 0, old).ok()) {
      auto delta = Compress(bytes, hint.element_bytes, old);
      if (delta.has_value()) {
        where.set_encoding(v1::StoredChunk::ENCODING_DELTA);
        where.set_base(std::string(hint.base->view()));
        where.set_depth((*base)->depth() + 1);
        return delta;
      }
    }
  }
  auto packed = Compress(bytes, hint.element_bytes);
  if (packed.has_value()) where.set_encoding(v1::StoredChunk::ENCODING_ZSTD);
  return packed;
}

absl::StatusOr<v1::StoredChunk> Chunks::Write(const Digest& digest, std::string_view bytes,
                                              const ChunkHint& hint) {
  v1::StoredChunk where;
  where.set_size_bytes(static_cast<uint32_t>(bytes.size()));
  const std::optional<std::string> smaller = Smaller(bytes, hint, where);
  const absl::Status status =
      packs_.Append(digest, smaller.has_value() ? std::string_view(*smaller) : bytes, where);
  if (absl::IsResourceExhausted(status)) {
    return Annotate(
        status, absl::StrFormat("the disk of %s is full; delete checkpoints or make room", options_.folder));
  }
  BDH_RETURN_IF_ERROR(status);
  return where;
}

void Chunks::Point(const Digest& digest, const v1::StoredChunk& where, rocksdb::WriteBatch& batch) {
  batch.Put(database_[Table::kIndex], ToSlice(digest.view()), where.SerializeAsString());
}

absl::StatusOr<std::optional<v1::StoredChunk>> Chunks::Remove(const Digest& digest, IndexBatch& batch) {
  BDH_ASSIGN_OR_RETURN(const auto there, Find(digest));
  if (there.has_value()) batch.removed.emplace(digest, *there);
  batch.Delete(database_[Table::kIndex], ToSlice(digest.view()));
  batch.Delete(database_[Table::kChunks], ToSlice(digest.view()));
  return there;
}

absl::StatusOr<std::optional<v1::StoredChunk>> Chunks::Find(const Digest& digest,
                                                            const rocksdb::Snapshot* snapshot) const {
  const auto bytes = database_.Get(Table::kIndex, digest.view(), snapshot);
  if (absl::IsNotFound(bytes.status())) return std::optional<v1::StoredChunk>();
  BDH_RETURN_IF_ERROR(bytes.status());
  BDH_ASSIGN_OR_RETURN(v1::StoredChunk where, ParseEntry(*bytes));
  return std::optional<v1::StoredChunk>(std::move(where));
}

absl::StatusOr<std::optional<int64_t>> Chunks::SizeOf(const Digest& digest,
                                                      const rocksdb::Snapshot* snapshot) const {
  BDH_ASSIGN_OR_RETURN(const auto where, Find(digest, snapshot));
  if (where.has_value()) return std::optional<int64_t>(where->size_bytes());
  const auto bytes = database_.Get(Table::kChunks, digest.view(), snapshot);
  if (absl::IsNotFound(bytes.status())) return std::optional<int64_t>();
  BDH_RETURN_IF_ERROR(bytes.status());
  return std::optional<int64_t>(static_cast<int64_t>(bytes->size()));
}

absl::Status Chunks::ReadOld(const rocksdb::Snapshot* snapshot, const Digest& digest,
                             std::string& out) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.fill_cache = false;
  const rocksdb::Status status =
      database_.db().Get(options, database_[Table::kChunks], ToSlice(digest.view()), &out);
  if (status.IsNotFound()) return absl::DataLossError("a chunk is gone");
  return database_.ToStatus(status, "a chunk cannot be read");
}

// The bytes of a chunk, not compared with its digest yet.
absl::Status Chunks::Load(const rocksdb::Snapshot* snapshot, const Digest& digest, int depth,
                          std::string& out) const {
  BDH_ASSIGN_OR_RETURN(const auto where, Find(digest, snapshot));
  if (!where.has_value()) return ReadOld(snapshot, digest, out);
  if (where->encoding() == v1::StoredChunk::ENCODING_RAW) {
    return Annotate(packs_.Read(*where, out), "a chunk cannot be read");
  }
  if (depth > kMaxDepth) return absl::DataLossError("a chunk is the difference from itself");
  std::string stored, base;
  BDH_RETURN_IF_ERROR(Annotate(packs_.Read(*where, stored), "a chunk cannot be read"));
  if (where->encoding() == v1::StoredChunk::ENCODING_DELTA) {
    const absl::Status status = Load(snapshot, Digest::FromBytes(where->base()), depth + 1, base);
    BDH_RETURN_IF_ERROR(Annotate(status, "the chunk it is the difference from"));
  }
  return Decompress(stored, static_cast<int>(where->element_bytes()), where->size_bytes(), base, out);
}

absl::Status Chunks::Read(const rocksdb::Snapshot* snapshot, const Digest& digest, int64_t size, Sha256& sha,
                          std::string& out) const {
  std::optional<Packs::Reading> reading;
  if (snapshot == nullptr) reading.emplace(packs_);
  // Whatever keeps the disk from giving the bytes back, they are not there for the caller.
  if (const absl::Status status = Load(snapshot, digest, 0, out); !status.ok()) {
    return absl::DataLossError(status.message());
  }
  if (static_cast<int64_t>(out.size()) != size || !(sha.Of(out) == digest)) {
    return absl::DataLossError("a chunk is damaged: it does not match its SHA-256");
  }
  return absl::OkStatus();
}

absl::Status Chunks::WalkIndex(const rocksdb::Snapshot* snapshot, std::string_view after,
                               const VisitEntry& visit) const {
  const auto index = database_.NewIterator(Table::kIndex, snapshot);
  for (index->Seek(ToSlice(after)); index->Valid(); index->Next()) {
    const std::string_view key = ToView(index->key());
    if (key == after || key.size() != Digest::kBytes) continue;
    BDH_ASSIGN_OR_RETURN(const v1::StoredChunk where, ParseEntry(ToView(index->value())));
    if (!visit(Digest::FromBytes(key), where)) break;
  }
  return database_.ToStatus(index->status(), "walk the index of chunks");
}

absl::Status Chunks::Walk(const rocksdb::Snapshot* snapshot, std::string_view after,
                          const Visit& visit) const {
  bool go_on = true;
  BDH_RETURN_IF_ERROR(WalkIndex(snapshot, after, [&](const Digest& digest, const v1::StoredChunk& where) {
    go_on = visit(digest, where.size_bytes());
    return go_on;
  }));
  if (!go_on) return absl::OkStatus();
  const auto chunks = database_.NewIterator(Table::kChunks, snapshot);
  for (chunks->SeekToFirst(); chunks->Valid(); chunks->Next()) {
    const std::string_view key = ToView(chunks->key());
    if (key.size() != Digest::kBytes) continue;
    if (!visit(Digest::FromBytes(key), static_cast<int64_t>(chunks->value().size()))) break;
  }
  const absl::Status status = database_.ToStatus(chunks->status(), "walk the chunks");
  if (!absl::IsDataLoss(status)) return status;
  BDH_LOG(WARNING) << "chunks of the first format behind a damaged one are not walked: " << status.message();
  return absl::OkStatus();
}

bool Chunks::HasOldChunks() const {
  const auto chunks = database_.NewIterator(Table::kChunks);
  chunks->SeekToFirst();
  return chunks->Valid() || !chunks->status().ok();
}

}  // namespace bdh::store
