// Chunks: held by uploads, referenced by checkpoints, freed when neither.
#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "ledger.h"
#include "manifest.h"

namespace bdh::store {
namespace {

// Chunks looked at under one hold of the lock: few, so that uploads are not kept waiting.
constexpr size_t kSlice = 64;

std::string PendingChunk(std::string_view digest) {
  return absl::StrFormat("c%s", digest);
}

std::string ReferenceKey(std::string_view digest, std::string_view id_key) {
  return absl::StrFormat("%s%s", digest, id_key);
}

std::vector<std::pair<Digest, int64_t>> DistinctChunks(const v1::StoredManifest& manifest) {
  absl::flat_hash_map<Digest, int64_t> sizes;
  const auto chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    const std::string_view digests = tensor.chunk_digests();
    for (size_t i = 0; i * Digest::kBytes < digests.size(); ++i) {
      sizes[Digest::FromBytes(digests.substr(i * Digest::kBytes, Digest::kBytes))] =
          ChunkSize(tensor.info().size_bytes(), chunk_bytes, static_cast<int64_t>(i));
    }
  }
  return {sizes.begin(), sizes.end()};
}

}  // namespace

std::string PendingManifest(std::string_view id_key) {
  return absl::StrFormat("m%s", id_key);
}

absl::Status Ledger::CheckRoom() const {
  const int64_t free = database_.FreeBytes();
  if (free >= options_.min_free_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the disk of %s is nearly full: %s free, and the store leaves %s; delete checkpoints or make room",
      options_.folder, FormatBytes(free), FormatBytes(options_.min_free_bytes)));
}

absl::Status Ledger::Hold(const Digest& digest, std::string_view bytes) {
  {
    const MutexLock lock(mutex_);
    auto found = held_.find(digest);
    if (found == held_.end()) {
      BDH_ASSIGN_OR_RETURN(const bool referenced, catalog_.IsReferenced(digest.view()));
      const bool stored = referenced && !damaged_.contains(digest);
      found = held_.emplace(digest, HeldChunk{.stored = stored, .referenced = referenced}).first;
    }
    ++found->second.holders;
    if (found->second.stored) return absl::OkStatus();
  }
  // The chunk is held: nobody frees it while the lock is open. Another upload that brings it at this moment
  // writes the same bytes.
  const absl::Status status = WriteChunk(digest, bytes);
  if (!status.ok()) ReleaseSlice({digest});
  return status;
}

absl::Status Ledger::WriteChunk(const Digest& digest, std::string_view bytes) {
  BDH_RETURN_IF_ERROR(CheckRoom());
  rocksdb::WriteBatch batch(bytes.size() + 256);
  batch.Put(database_[Table::kChunks], ToSlice(digest.view()), ToSlice(bytes));
  batch.Put(database_[Table::kPending], PendingChunk(digest.view()), "");
  // Not synced: Commit syncs the log, and with it all that was written before.
  BDH_RETURN_IF_ERROR(database_.Write(batch));
  const MutexLock lock(mutex_);
  HeldChunk& chunk = held_.at(digest);
  chunk.stored = chunk.pending = true;
  damaged_.erase(digest);
  return absl::OkStatus();
}

void Ledger::Release(const ChunkSizes& chunks) {
  std::vector<Digest> slice;
  for (const auto& [digest, size] : chunks) {
    slice.push_back(digest);
    if (slice.size() == kSlice) {
      ReleaseSlice(slice);
      slice.clear();
    }
  }
  ReleaseSlice(slice);
}

void Ledger::ReleaseSlice(const std::vector<Digest>& slice) {
  const MutexLock lock(mutex_);
  rocksdb::WriteBatch batch;
  for (const Digest& digest : slice) {
    const auto found = held_.find(digest);
    if (found == held_.end() || --found->second.holders > 0) continue;
    if (!found->second.referenced) {
      batch.Delete(database_[Table::kChunks], ToSlice(digest.view()));
      batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
    }
    held_.erase(found);
  }
  if (batch.Count() == 0) return;
  if (const absl::Status status = database_.Write(batch); !status.ok()) {
    BDH_LOG(WARNING) << "chunks of an unfinished upload stay until the next start: " << status.message();
  }
}

void Ledger::ReleaseCommitted(const ChunkSizes& chunks) {
  for (const auto& [digest, size] : chunks) {
    const auto found = held_.find(digest);
    found->second.referenced = true;
    found->second.pending = false;
    if (--found->second.holders == 0) held_.erase(found);
  }
}

absl::StatusOr<int64_t> Ledger::CommitNew(const v1::StoredCheckpoint& record,
                                          const v1::StoredManifest& manifest, const ChunkSizes& chunks) {
  const std::string id_key = IdKey(record.id());
  rocksdb::WriteBatch batch;
  batch.Put(database_[Table::kCheckpoints], record.name(), record.SerializeAsString());
  batch.Put(database_[Table::kOrder], id_key, record.name());
  batch.Put(database_[Table::kManifests], id_key, manifest.SerializeAsString());
  int64_t new_bytes = 0;
  for (const auto& [digest, size] : chunks) {
    const HeldChunk& chunk = held_.at(digest);
    if (!chunk.stored) {
      return absl::AbortedError(absl::StrFormat(
          "a chunk that %s shares with another checkpoint turned out damaged meanwhile; put it again",
          record.name()));
    }
    batch.Put(database_[Table::kReferences], ReferenceKey(digest.view(), id_key), "");
    if (chunk.pending) batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
    if (!chunk.referenced) new_bytes += size;
  }
  v1::StoredState next = state_;
  next.set_checkpoints(state_.checkpoints() + 1);
  next.set_stored_bytes(state_.stored_bytes() + new_bytes);
  BDH_RETURN_IF_ERROR(Apply(batch, std::move(next)));
  ReleaseCommitted(chunks);
  return new_bytes;
}

// Takes the checkpoint's references away and frees what nobody else holds. May be repeated.
absl::StatusOr<int64_t> Ledger::Collect(uint64_t id) {
  const std::string id_key = IdKey(id);
  const auto bytes = database_.Get(Table::kManifests, id_key);
  int64_t freed = 0;
  if (bytes.ok()) {
    BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, ParseManifest(*bytes));
    const auto chunks = DistinctChunks(manifest);
    for (size_t begin = 0; begin < chunks.size(); begin += kSlice) {
      const size_t end = std::min(chunks.size(), begin + kSlice);
      BDH_RETURN_IF_ERROR(CollectSlice(id_key, {chunks.begin() + begin, chunks.begin() + end}, freed));
    }
  } else if (!absl::IsNotFound(bytes.status())) {
    return bytes.status();
  }
  rocksdb::WriteBatch batch;
  batch.Delete(database_[Table::kManifests], id_key);
  batch.Delete(database_[Table::kPending], PendingManifest(id_key));
  BDH_RETURN_IF_ERROR(database_.Write(batch));
  return freed;
}

absl::Status Ledger::CollectSlice(const std::string& id_key,
                                  const std::vector<std::pair<Digest, int64_t>>& slice, int64_t& freed) {
  const MutexLock lock(mutex_);
  rocksdb::WriteBatch batch;
  int64_t bytes = 0;
  for (const auto& [digest, size] : slice) {
    const std::string own = ReferenceKey(digest.view(), id_key);
    const absl::Status present = database_.Get(Table::kReferences, own).status();
    if (absl::IsNotFound(present)) continue;  // Done before a crash.
    BDH_RETURN_IF_ERROR(present);
    BDH_ASSIGN_OR_RETURN(const bool shared, catalog_.IsReferenced(digest.view(), own));
    batch.Delete(database_[Table::kReferences], own);
    if (shared) continue;
    bytes += size;
    const auto held = held_.find(digest);
    if (held != held_.end()) {
      // An upload relies on it: it stays, and from here on is the upload's to free.
      held->second.referenced = false;
      held->second.pending = true;
      batch.Put(database_[Table::kPending], PendingChunk(digest.view()), "");
    } else {
      batch.Delete(database_[Table::kChunks], ToSlice(digest.view()));
    }
  }
  v1::StoredState next = state_;
  next.set_stored_bytes(state_.stored_bytes() - bytes);
  // Not synced and not numbered: after a power cut it is done again.
  batch.Put(database_[Table::kState], kStateKey, next.SerializeAsString());
  BDH_RETURN_IF_ERROR(database_.Write(batch));
  state_ = std::move(next);
  freed += bytes;
  return absl::OkStatus();
}

absl::Status Ledger::FreeOrphan(std::string_view digest) {
  BDH_ASSIGN_OR_RETURN(const bool referenced, catalog_.IsReferenced(digest));
  rocksdb::WriteBatch batch;
  if (!referenced) batch.Delete(database_[Table::kChunks], ToSlice(digest));
  batch.Delete(database_[Table::kPending], PendingChunk(digest));
  return database_.Write(batch);
}

absl::StatusOr<int64_t> Ledger::Recover() {
  const auto pending = database_.NewIterator(Table::kPending);
  int64_t orphans = 0, deletions = 0;
  // "c" sorts before "m", but the order does not matter: a chunk in both is freed by whichever sees no
  // reference left.
  for (pending->SeekToFirst(); pending->Valid(); pending->Next()) {
    const std::string_view key = ToView(pending->key());
    if (key.size() == 1 + Digest::kBytes && key[0] == 'c') {
      BDH_RETURN_IF_ERROR(Annotate(FreeOrphan(key.substr(1)), "free the chunks of an unfinished upload"));
      ++orphans;
    } else if (key.size() == 1 + 8 && key[0] == 'm') {
      BDH_RETURN_IF_ERROR(Annotate(Collect(ParseIdKey(key.substr(1))).status(), "finish a deletion"));
      ++deletions;
    }
  }
  if (orphans + deletions > 0) {
    BDH_LOG(INFO) << "recovered unfinished_chunks=" << orphans << " unfinished_deletions=" << deletions;
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(pending->status(), "read unfinished work"));
  return orphans + deletions;
}

}  // namespace bdh::store
