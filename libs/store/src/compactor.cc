#include "compactor.h"

#include <rocksdb/options.h>

#include <algorithm>

#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "crc32c.h"
#include "manifest.h"

namespace bdh::store {
namespace {

constexpr int64_t kStepBytes = 32 << 20;  // Copied between two changes of the index.
constexpr int kMaxRounds = 1000;

}  // namespace

Compactor::Compactor(const Store::Options& options, Database& database, Chunks& chunks, Ledger& ledger)
    : options_(options), database_(database), chunks_(chunks), ledger_(ledger), thread_([this] { Run(); }) {}

Compactor::~Compactor() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void Compactor::Request() {
  const MutexLock lock(mutex_);
  ++requested_;
  changed_.NotifyAll();
}

void Compactor::Wait() {
  const MutexLock lock(mutex_);
  const int target = requested_;
  while (done_ < target && !stop_) changed_.Wait(mutex_);
}

void Compactor::Run() {
  while (true) {
    int target = 0;
    {
      const MutexLock lock(mutex_);
      while (requested_ == done_ && !stop_) changed_.Wait(mutex_);
      if (stop_) return;
      target = requested_;  // One round serves all who asked before it began.
    }
    if (const absl::Status status = Compact(); !status.ok() && !stop_) {
      BDH_LOG(WARNING) << "space not reclaimed: " << status.message();
    }
    const MutexLock lock(mutex_);
    done_ = target;
    changed_.NotifyAll();
  }
}

absl::Status Compactor::Compact() {
  BDH_RETURN_IF_ERROR(Clean());
  BDH_RETURN_IF_ERROR(TakeOver());
  return RewriteAll();
}

// Only once the log is synced is it sure that no power cut brings back an entry that points to what goes
// here.
absl::Status Compactor::Clean() {
  const std::vector<uint64_t> dead = chunks_.packs().Dead();
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  chunks_.packs().Clean(dead);
  return absl::OkStatus();
}

bool Compactor::HasRoomFor(int64_t bytes) const {
  return options_.files->FreeBytes(options_.folder) - bytes >= options_.min_free_bytes;
}

// Those with the least to copy first: what they give back is room for the others. Half of what the store
// leaves free may be used, or on a full disk deleting would never give anything back.
void Compactor::KeepWhatFits(std::vector<Packs::Pack>& packs) const {
  std::sort(packs.begin(), packs.end(),
            [](const Packs::Pack& a, const Packs::Pack& b) { return a.live_bytes < b.live_bytes; });
  int64_t room = options_.files->FreeBytes(options_.folder) - options_.min_free_bytes / 2;
  const auto too_much = [&](const Packs::Pack& pack) { return (room -= pack.live_bytes) < 0; };
  packs.erase(std::find_if(packs.begin(), packs.end(), too_much), packs.end());
}

absl::Status Compactor::RewriteAll() {
  for (int round = 0; round < kMaxRounds && !stop_; ++round) {
    std::vector<Packs::Pack> worth = chunks_.packs().WorthRewriting();
    worth.erase(std::remove_if(worth.begin(), worth.end(),
                               [&](const Packs::Pack& pack) { return stuck_.count(pack.id) > 0; }),
                worth.end());
    KeepWhatFits(worth);
    if (worth.empty()) return absl::OkStatus();
    BDH_RETURN_IF_ERROR(Rewrite(worth));
    BDH_RETURN_IF_ERROR(Clean());
  }
  return absl::OkStatus();
}

absl::Status Compactor::Rewrite(const std::vector<Packs::Pack>& packs) {
  std::set<uint64_t> ids;
  for (const Packs::Pack& pack : packs) ids.insert(pack.id);
  std::vector<Entry> entries;
  BDH_RETURN_IF_ERROR(chunks_.WalkIndex(nullptr, "", [&](const Digest& digest, const v1::StoredChunk& where) {
    if (ids.count(where.pack()) > 0) entries.emplace_back(digest, where);
    return !stop_;
  }));
  // In the order in which they stand on the disk.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.second.pack(), a.second.offset()) < std::pair(b.second.pack(), b.second.offset());
  });
  std::vector<Entry> step;
  int64_t bytes = 0;
  for (Entry& entry : entries) {
    if (stop_) return absl::OkStatus();
    bytes += entry.second.stored_bytes();
    step.push_back(std::move(entry));
    if (bytes < kStepBytes) continue;
    BDH_RETURN_IF_ERROR(Move(step));
    step.clear();
    bytes = 0;
  }
  BDH_RETURN_IF_ERROR(Move(step));
  // Whatever is left there cannot be moved; it is not tried again in this life.
  for (const Packs::Pack& pack : packs) stuck_.insert(pack.id);
  return absl::OkStatus();
}

absl::Status Compactor::Move(const std::vector<Entry>& entries) {
  std::vector<Ledger::Relocation> moves;
  std::string bytes;
  for (const auto& [digest, from] : entries) {
    const Packs::Reading reading(chunks_.packs());
    const absl::Status read = chunks_.packs().Read(from, bytes);
    if (!read.ok() || Crc32c(bytes) != from.crc32c()) {
      ledger_.MarkDamaged(digest, "a chunk is damaged: its pack cannot be read or has other bytes there");
      if (!read.ok()) continue;
    }
    v1::StoredChunk to = from;
    BDH_RETURN_IF_ERROR(chunks_.packs().Append(digest, bytes, to));
    to.set_crc32c(from.crc32c());  // What was damaged is not made right by being copied.
    moves.push_back({.digest = digest, .from = from, .to = std::move(to)});
  }
  BDH_RETURN_IF_ERROR(chunks_.Sync());
  return ledger_.Relocate(moves);
}

// Chunks of the first format stand in RocksDB's blob files: they are copied into packs, slice by slice, as
// long as the disk has room. What cannot be read stays there, as damaged as it was.
absl::Status Compactor::TakeOver() {
  if (!chunks_.HasOldChunks()) return absl::OkStatus();
  std::vector<std::pair<Digest, v1::StoredChunk>> slice;
  int64_t bytes = 0, moved = 0;
  bool unreadable = false;
  Sha256 sha;
  std::string buffer;
  const auto adopt = [&]() -> absl::Status {
    BDH_RETURN_IF_ERROR(chunks_.Sync());
    BDH_RETURN_IF_ERROR(ledger_.Adopt(slice));
    moved += static_cast<int64_t>(slice.size());
    slice.clear();
    bytes = 0;
    return absl::OkStatus();
  };
  const auto manifests = database_.NewIterator(Table::kManifests);
  for (manifests->SeekToFirst(); manifests->Valid() && !stop_; manifests->Next()) {
    const auto manifest = ParseManifest(ToView(manifests->value()));
    if (!manifest.ok()) continue;
    for (const auto& [digest, size] : DistinctChunks(*manifest)) {
      BDH_ASSIGN_OR_RETURN(const auto there, chunks_.Find(digest));
      if (there.has_value() || stop_) continue;
      if (!chunks_.Read(nullptr, digest, size, sha, buffer).ok()) {
        unreadable = true;
        continue;
      }
      if (!HasRoomFor(size)) return absl::OkStatus();
      BDH_ASSIGN_OR_RETURN(v1::StoredChunk where, chunks_.Write(digest, buffer, {}));
      slice.emplace_back(digest, std::move(where));
      bytes += size;
      if (bytes < kStepBytes) continue;
      BDH_RETURN_IF_ERROR(adopt());
    }
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(manifests->status(), "take over chunks"));
  BDH_RETURN_IF_ERROR(adopt());
  if (moved > 0) BDH_LOG(INFO) << "chunks of the first format moved into packs chunks=" << moved;
  if (unreadable || stop_) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(database_.Flush());
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.canceled = &stop_;
  return database_.ToStatus(database_.db().CompactRange(options, database_[Table::kChunks], nullptr, nullptr),
                            "drop the old chunks' files");
}

}  // namespace bdh::store
