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

}  // namespace

std::string PendingManifest(std::string_view id_key) {
  return absl::StrFormat("m%s", id_key);
}

absl::Status Ledger::CheckRoom() const {
  const int64_t free = options_.files->FreeBytes(options_.folder);
  if (free >= options_.min_free_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the disk of %s is nearly full: %s free, and the store leaves %s; delete checkpoints or make room",
      options_.folder, FormatBytes(free), FormatBytes(options_.min_free_bytes)));
}

absl::StatusOr<bool> Ledger::Hold(const Digest& digest, std::string_view bytes, const ChunkHint& hint,
                                  std::string_view upload) {
  received_bytes_ += static_cast<int64_t>(bytes.size());
  {
    const MutexLock lock(mutex_);
    auto found = held_.find(digest);
    if (found == held_.end()) {
      BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
      const bool stored = holders.any() && damaged_.count(digest) == 0;
      found = held_.emplace(digest, HeldChunk{.stored = stored, .referenced = holders.owned}).first;
    }
    ++found->second.holders;
    if (found->second.stored) return false;
  }
  // The chunk is held: nobody frees it while the lock is open. Another upload that brings it at this moment
  // writes the same bytes.
  const absl::Status status = WriteChunk(digest, bytes, hint, upload);
  if (status.ok()) written_bytes_ += static_cast<int64_t>(bytes.size());
  if (!status.ok()) {
    ReleaseSlice({digest});
    return status;
  }
  return true;
}

absl::StatusOr<std::optional<int64_t>> Ledger::HoldExisting(const Digest& digest) {
  const MutexLock lock(mutex_);
  auto found = held_.find(digest);
  if (found != held_.end() && !found->second.stored) return std::optional<int64_t>();
  bool owned = false;
  if (found == held_.end()) {
    BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
    if (!holders.any() || damaged_.count(digest) > 0) return std::optional<int64_t>();
    owned = holders.owned;
  }
  const auto size = chunks_.SizeOf(digest);
  if (absl::IsDataLoss(size.status())) {
    // Of the first format, and unreadable: it is to be sent, and then replaces what is there.
    if (found != held_.end()) found->second.stored = false;
    damaged_.emplace(digest, std::string(size.status().message()));
    return std::optional<int64_t>();
  }
  if (!size.ok() || !size->has_value()) return size;
  if (found == held_.end()) {
    found = held_.emplace(digest, HeldChunk{.stored = true, .referenced = owned}).first;
  }
  ++found->second.holders;
  return size;
}

// A chunk that lives as long as what is kept as the difference from it.
absl::StatusOr<bool> Ledger::MayBeBase(std::string_view digest) {
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest));
  if (!holders.any() || damaged_.count(Digest::FromBytes(digest)) > 0) return false;
  BDH_ASSIGN_OR_RETURN(const auto there, chunks_.Find(Digest::FromBytes(digest)));
  return there.has_value();
}

absl::Status Ledger::WriteChunk(const Digest& digest, std::string_view bytes, ChunkHint hint,
                                std::string_view upload) {
  BDH_RETURN_IF_ERROR(CheckRoom());
  while (true) {
    BDH_ASSIGN_OR_RETURN(const v1::StoredChunk where, chunks_.Write(digest, bytes, hint));
    const MutexLock lock(mutex_);
    if (!where.base().empty()) {
      BDH_ASSIGN_OR_RETURN(const bool may_be, MayBeBase(where.base()));
      if (!may_be) {  // It was freed meanwhile.
        chunks_.packs().RemoveLive(where);
        hint.base.reset();
        continue;
      }
    }
    IndexBatch batch;
    BDH_RETURN_IF_ERROR(PointChunk(digest, where, batch));
    batch.Put(database_[Table::kPending], PendingChunk(digest.view()), ToSlice(upload));
    const bool heals = damaged_.count(digest) > 0;
    if (heals) batch.Delete(database_[Table::kRecords], RecordKey(own::kDamage, digest.view()));
    // Not synced: Commit syncs the log, and with it all that was written before.
    BDH_RETURN_IF_ERROR(Settled(database_.Write(batch), batch));
    HeldChunk& chunk = held_.at(digest);
    chunk.stored = chunk.pending = true;
    if (heals) damaged_.erase(digest);
    return absl::OkStatus();
  }
}

absl::Status Ledger::PointChunk(const Digest& digest, const v1::StoredChunk& where, IndexBatch& batch) {
  BDH_ASSIGN_OR_RETURN(const auto before, chunks_.Remove(digest, batch));
  if (before.has_value() && !before->base().empty()) {
    batch.Delete(database_[Table::kReferences], ReferenceKey(before->base(), digest.view()));
  }
  chunks_.Point(digest, where, batch);
  if (!where.base().empty()) {
    batch.Put(database_[Table::kReferences], ReferenceKey(where.base(), digest.view()), "");
  }
  return absl::OkStatus();
}

absl::Status Ledger::RemoveChunk(const Digest& digest, IndexBatch& batch) {
  BDH_ASSIGN_OR_RETURN(const auto there, chunks_.Remove(digest, batch));
  if (damaged_.erase(digest) > 0) {
    batch.Delete(database_[Table::kRecords], RecordKey(own::kDamage, digest.view()));
  }
  if (!there.has_value() || there->base().empty()) return absl::OkStatus();
  const std::string own = ReferenceKey(there->base(), digest.view());
  batch.Delete(database_[Table::kReferences], own);
  const Digest base = Digest::FromBytes(there->base());
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(base.view(), own));
  return holders.any() || held_.contains(base) ? absl::OkStatus() : RemoveChunk(base, batch);
}

// `status` is that of the write of `batch`.
absl::Status Ledger::Settled(absl::Status status, const IndexBatch& batch) {
  if (!status.ok()) return status;
  for (const auto& [digest, where] : batch.removed) chunks_.packs().RemoveLive(where);
  return status;
}

absl::Status Ledger::Relocate(const std::vector<Relocation>& moves) {
  if (moves.empty()) return absl::OkStatus();
  const MutexLock lock(mutex_);
  IndexBatch batch;
  for (const Relocation& move : moves) {
    BDH_ASSIGN_OR_RETURN(const auto now, chunks_.Find(move.digest));
    if (!now.has_value() || now->pack() != move.from.pack() || now->offset() != move.from.offset()) {
      chunks_.packs().RemoveLive(move.to);
      continue;
    }
    BDH_RETURN_IF_ERROR(chunks_.Remove(move.digest, batch).status());
    chunks_.Point(move.digest, move.to, batch);
  }
  return Settled(database_.WriteDurably(batch), batch);
}

absl::Status Ledger::Adopt(const std::vector<std::pair<Digest, v1::StoredChunk>>& chunks) {
  if (chunks.empty()) return absl::OkStatus();
  const MutexLock lock(mutex_);
  IndexBatch batch;
  for (const auto& [digest, where] : chunks) {
    BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
    BDH_ASSIGN_OR_RETURN(const auto now, chunks_.Find(digest));
    if (now.has_value() || (!holders.any() && !held_.contains(digest))) {
      chunks_.packs().RemoveLive(where);
      continue;
    }
    BDH_RETURN_IF_ERROR(chunks_.Remove(digest, batch).status());
    chunks_.Point(digest, where, batch);
  }
  return Settled(database_.WriteDurably(batch), batch);
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

absl::Status Ledger::DropUnowned(const Digest& digest, const HeldChunk& chunk, IndexBatch& batch) {
  if (chunk.referenced) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
  return holders.any() ? absl::OkStatus() : RemoveChunk(digest, batch);
}

void Ledger::ReleaseSlice(const std::vector<Digest>& slice) {
  const MutexLock lock(mutex_);
  IndexBatch batch;
  for (const Digest& digest : slice) {
    const auto found = held_.find(digest);
    if (found == held_.end() || --found->second.holders > 0) continue;
    if (const absl::Status status = DropUnowned(digest, found->second, batch); !status.ok()) {
      BDH_LOG(WARNING) << "a chunk of an unfinished upload stays until the next collection: "
                       << status.message();
    }
    if (found->second.pending) batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
    held_.erase(found);
  }
  if (batch.Count() == 0) return;
  if (const absl::Status status = Settled(database_.Write(batch), batch); !status.ok()) {
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

absl::StatusOr<int64_t> Ledger::ClaimChunks(uint64_t id, std::string_view what,
                                            const v1::StoredManifest& manifest, const ChunkSizes& chunks,
                                            Draft& draft) {
  const std::string id_key = IdKey(id);
  draft.batch.Put(database_[Table::kManifests], id_key, manifest.SerializeAsString());
  int64_t new_bytes = 0;
  for (const auto& [digest, size] : chunks) {
    const HeldChunk& chunk = held_.at(digest);
    if (!chunk.stored) {
      return absl::AbortedError(absl::StrFormat(
          "a chunk that %s shares with something else turned out damaged meanwhile; put it again", what));
    }
    draft.batch.Put(database_[Table::kReferences], ReferenceKey(digest.view(), id_key), "");
    if (chunk.pending) draft.batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
    if (!chunk.referenced) new_bytes += size;
  }
  draft.state.set_stored_bytes(draft.state.stored_bytes() + new_bytes);
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
  IndexBatch batch;
  int64_t bytes = 0;
  for (const auto& [digest, size] : slice) {
    const std::string own = ReferenceKey(digest.view(), id_key);
    const absl::Status present = database_.Get(Table::kReferences, own).status();
    if (absl::IsNotFound(present)) continue;  // Done before a crash.
    BDH_RETURN_IF_ERROR(present);
    BDH_ASSIGN_OR_RETURN(const Catalog::Holders others, catalog_.HoldersOf(digest.view(), own));
    batch.Delete(database_[Table::kReferences], own);
    if (others.owned) continue;
    bytes += size;
    const auto held = held_.find(digest);
    if (held != held_.end()) {
      // An upload relies on it: it stays, and from here on is the upload's to free.
      held->second.referenced = false;
      held->second.pending = true;
      batch.Put(database_[Table::kPending], PendingChunk(digest.view()), "");
    } else if (!others.based) {
      BDH_RETURN_IF_ERROR(RemoveChunk(digest, batch));
    }
  }
  v1::StoredState next = state_;
  next.set_stored_bytes(state_.stored_bytes() - bytes);
  // Not synced and not numbered: after a power cut it is done again.
  batch.Put(database_[Table::kState], kStateKey, next.SerializeAsString());
  BDH_RETURN_IF_ERROR(Settled(database_.Write(batch), batch));
  state_ = std::move(next);
  freed += bytes;
  return absl::OkStatus();
}

absl::StatusOr<Ledger::Freed> Ledger::FreeUnheld(const std::vector<std::pair<Digest, int64_t>>& chunks,
                                                 bool dry_run) {
  Freed freed;
  const MutexLock lock(mutex_);
  IndexBatch batch;
  for (const auto& [digest, size] : chunks) {
    if (held_.contains(digest)) continue;
    BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
    if (holders.any()) continue;
    ++freed.chunks;
    freed.bytes += size;
    if (dry_run) continue;
    BDH_RETURN_IF_ERROR(RemoveChunk(digest, batch));
    batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
  }
  if (batch.Count() > 0) {
    BDH_RETURN_IF_ERROR(Settled(database_.Write(batch), batch));
  }
  return freed;
}

absl::Status Ledger::FreeOrphan(const Digest& digest) {
  const MutexLock lock(mutex_);
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
  IndexBatch batch;
  if (!holders.any()) BDH_RETURN_IF_ERROR(RemoveChunk(digest, batch));
  batch.Delete(database_[Table::kPending], PendingChunk(digest.view()));
  return Settled(database_.Write(batch), batch);
}

// A chunk of a named upload whose client may come back. A power cut may have taken the bytes and left the
// entry.
absl::Status Ledger::KeepForUpload(const Digest& digest, ChunkSizes& chunks) {
  const auto known = chunks_.SizeOf(digest);
  if (!known.ok() && !absl::IsDataLoss(known.status())) return known.status();
  const int64_t size = known.ok() ? known->value_or(-1) : -1;
  Sha256 sha;
  std::string bytes;
  if (size < 0 || !chunks_.Read(nullptr, digest, size, sha, bytes).ok()) return FreeOrphan(digest);
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
  const MutexLock lock(mutex_);
  held_[digest] = {.holders = 1, .stored = true, .referenced = holders.owned, .pending = true};
  chunks.emplace(digest, size);
  return absl::OkStatus();
}

absl::StatusOr<Ledger::Recovered> Ledger::Recover() {
  BDH_RETURN_IF_ERROR(LoadDamage());
  Recovered recovered;
  int64_t orphans = 0, deletions = 0;
  const auto pending = database_.NewIterator(Table::kPending);
  // "c" sorts before "m", but the order does not matter: a chunk in both is freed by whichever sees no
  // reference left.
  for (pending->SeekToFirst(); pending->Valid(); pending->Next()) {
    const std::string_view key = ToView(pending->key());
    if (key.size() == 1 + Digest::kBytes && key[0] == 'c') {
      const Digest digest = Digest::FromBytes(key.substr(1));
      const std::string upload = pending->value().ToString();
      const absl::Status status =
          upload.empty() ? FreeOrphan(digest) : KeepForUpload(digest, recovered.uploads[upload]);
      BDH_RETURN_IF_ERROR(Annotate(status, "look after the chunks of an unfinished upload"));
      ++orphans;
    } else if (key.size() == 1 + 8 && key[0] == 'm') {
      BDH_RETURN_IF_ERROR(Annotate(Collect(ParseIdKey(key.substr(1))).status(), "finish a deletion"));
      ++deletions;
    }
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(pending->status(), "read unfinished work"));
  if (orphans + deletions > 0) {
    BDH_LOG(INFO) << "recovered unfinished_chunks=" << orphans << " unfinished_deletions=" << deletions
                  << " named_uploads=" << recovered.uploads.size();
  }
  recovered.finished = orphans + deletions;
  return recovered;
}

}  // namespace bdh::store
