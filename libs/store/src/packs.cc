#include "packs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "crc32c.h"

namespace bdh::store {
namespace {

constexpr int64_t kHeaderBytes = 48;
constexpr uint32_t kMagic = 0x31434442;  // "BDC1"
constexpr int64_t kWriteAhead = 8 << 20;
constexpr int kMaxOpenFiles = 512;
constexpr size_t kManySmallPacks = 16;
constexpr std::string_view kSuffix = ".pack";

std::array<char, kHeaderBytes> HeaderOf(const Digest& digest, uint32_t size, uint32_t crc) {
  std::array<char, kHeaderBytes> header = {};
  std::memcpy(&header[0], &kMagic, 4);
  std::memcpy(&header[4], &size, 4);
  std::memcpy(&header[8], &crc, 4);
  std::memcpy(&header[16], digest.bytes.data(), Digest::kBytes);
  const uint32_t own = Crc32c({header.data(), header.size()});
  std::memcpy(&header[12], &own, 4);
  return header;
}

// The number in "0000000000000007-5f3a9c01.pack"; 0 for a name that is no pack's.
uint64_t IdOf(std::string_view name) {
  if (name.size() != 16 + 1 + 8 + kSuffix.size() || name.substr(name.size() - kSuffix.size()) != kSuffix)
    return 0;
  uint64_t id = 0;
  return absl::SimpleHexAtoi(absl::string_view(name.data(), 16), &id) ? id : 0;
}

int64_t RecordBytes(const v1::StoredChunk& where) {
  return kHeaderBytes + static_cast<int64_t>(where.stored_bytes());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Packs>> Packs::Open(Files& files, std::string folder, int64_t pack_bytes) {
  auto packs = std::unique_ptr<Packs>(new Packs(files, std::move(folder), pack_bytes));
  BDH_RETURN_IF_ERROR(files.MakeFolder(packs->folder_));
  BDH_ASSIGN_OR_RETURN(const std::vector<Files::Entry> entries, files.List(packs->folder_));
  const MutexLock lock(packs->mutex_);
  for (const Files::Entry& entry : entries) {
    const uint64_t id = IdOf(entry.name);
    if (id == 0) continue;
    State& state = packs->packs_[id];
    state.name = entry.name;
    state.size_bytes = entry.size_bytes;
    packs->next_id_ = std::max(packs->next_id_, id + 1);
  }
  return packs;
}

absl::Status Packs::BeginPack() {
  const uint64_t id = next_id_;
  // The random part tells packs apart that two lives of the store gave one number, when a power cut took the
  // first.
  const std::string name = absl::StrFormat("%016x-%s%s", id, RandomHex(4), kSuffix);
  BDH_ASSIGN_OR_RETURN(std::unique_ptr<File> file, files_.Open(PathOf(name), Files::Mode::kCreate));
  ++next_id_;
  State& state = packs_[id];
  state.name = name;
  state.file = std::move(file);
  ++open_files_;
  folder_dirty_ = true;
  current_ = id;
  return absl::OkStatus();
}

absl::Status Packs::Append(const Digest& digest, std::string_view bytes, v1::StoredChunk& where) {
  const uint32_t crc = Crc32c(bytes);
  const auto header = HeaderOf(digest, static_cast<uint32_t>(bytes.size()), crc);
  const int64_t record = kHeaderBytes + static_cast<int64_t>(bytes.size());
  std::shared_ptr<File> file;
  uint64_t id = 0;
  int64_t offset = 0;
  {
    const MutexLock lock(mutex_);
    BDH_RETURN_IF_ERROR(broken_);
    if (current_ == 0) BDH_RETURN_IF_ERROR(BeginPack());
    id = current_;
    State& state = packs_[id];
    offset = state.size_bytes;
    state.size_bytes += record;
    state.live_bytes += record;  // From the start, or the pack could go before the index points to it.
    ++state.writers;
    file = state.file;
    if (state.size_bytes >= pack_bytes_) current_ = 0;
  }
  // The place is ours: others write beside it at the same time. A write that fails leaves a hole nobody
  // points to.
  absl::Status status = file->WriteAt(offset, {header.data(), header.size()});
  status.Update(file->WriteAt(offset + kHeaderBytes, bytes));
  if (offset / kWriteAhead != (offset + record) / kWriteAhead) {
    const int64_t begin = offset / kWriteAhead * kWriteAhead;
    file->StartWriting(begin, offset + record - begin);
  }
  {
    const MutexLock lock(mutex_);
    State& state = packs_[id];
    state.dirty = true;
    if (--state.writers == 0) writers_gone_.NotifyAll();
  }
  where.set_pack(id);
  where.set_offset(static_cast<uint64_t>(offset));
  where.set_stored_bytes(static_cast<uint32_t>(bytes.size()));
  where.set_crc32c(crc);
  return status;
}

absl::Status Packs::Sync() {
  const MutexLock sync_lock(sync_mutex_);
  std::vector<std::shared_ptr<File>> dirty;
  bool folder_dirty = false;
  {
    const MutexLock lock(mutex_);
    BDH_RETURN_IF_ERROR(broken_);
    for (auto& [id, state] : packs_) {
      if (!state.dirty) continue;
      dirty.push_back(state.file);
      state.dirty = false;
    }
    folder_dirty = std::exchange(folder_dirty_, false);
  }
  if (dirty.empty() && !folder_dirty) return absl::OkStatus();
  const auto begin = std::chrono::steady_clock::now();
  absl::Status status;
  for (const std::shared_ptr<File>& file : dirty) status.Update(file->Sync());
  if (folder_dirty) status.Update(files_.SyncFolder(folder_));
  const MutexLock lock(mutex_);
  ++syncs_;
  sync_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (status.ok()) return status;
  // After a failed sync the system forgets what it could not write: a second one would say OK without.
  broken_ =
      Annotate(status, "the store writes no more until it is started again, since the disk failed to sync");
  BDH_LOG(ERROR) << broken_.message();
  return broken_;
}

absl::StatusOr<std::shared_ptr<File>> Packs::FileOf(uint64_t id) const {
  const MutexLock lock(mutex_);
  const auto found = packs_.find(id);
  if (found == packs_.end() || found->second.name.empty()) {
    return absl::DataLossError(absl::StrFormat("pack %016x of %s is missing", id, folder_));
  }
  if (found->second.file == nullptr) {
    if (open_files_ >= kMaxOpenFiles) {
      for (auto& [other, state] : packs_) {
        if (state.file == nullptr || other == current_ || state.dirty || state.writers > 0) continue;
        state.file = nullptr;
        --open_files_;
      }
    }
    auto file = files_.Open(PathOf(found->second.name), Files::Mode::kRead);
    if (absl::IsNotFound(file.status())) {
      return absl::DataLossError(absl::StrFormat("pack %s of %s is missing", found->second.name, folder_));
    }
    BDH_RETURN_IF_ERROR(file.status());
    found->second.file = *std::move(file);
    ++open_files_;
  }
  return found->second.file;
}

absl::Status Packs::Read(const v1::StoredChunk& where, std::string& out) const {
  BDH_ASSIGN_OR_RETURN(const std::shared_ptr<File> file, FileOf(where.pack()));
  out.resize(where.stored_bytes());
  return file->ReadAt(static_cast<int64_t>(where.offset()) + kHeaderBytes, out.size(), out.data());
}

void Packs::AddLive(const v1::StoredChunk& where) {
  const MutexLock lock(mutex_);
  State& state = packs_[where.pack()];
  state.live_bytes += RecordBytes(where);
  state.needed_bytes =
      std::max(state.needed_bytes, static_cast<int64_t>(where.offset()) + RecordBytes(where));
  next_id_ = std::max(next_id_, where.pack() + 1);
}

void Packs::RemoveLive(const v1::StoredChunk& where) {
  const MutexLock lock(mutex_);
  const auto found = packs_.find(where.pack());
  if (found != packs_.end()) found->second.live_bytes -= RecordBytes(where);
}

bool Packs::FinishAccounting() {
  bool wrong = false;
  const MutexLock lock(mutex_);
  for (auto state = packs_.begin(); state != packs_.end();) {
    const auto& [id, pack] = *state;
    if (pack.live_bytes > 0 && (pack.name.empty() || pack.size_bytes < pack.needed_bytes)) wrong = true;
    state = pack.name.empty() && pack.live_bytes == 0 ? packs_.erase(state) : std::next(state);
  }
  return wrong;
}

bool Packs::MayHave(const v1::StoredChunk& where) const {
  const MutexLock lock(mutex_);
  const auto found = packs_.find(where.pack());
  return found != packs_.end() && !found->second.name.empty() &&
         static_cast<int64_t>(where.offset()) + RecordBytes(where) <= found->second.size_bytes;
}

std::vector<Packs::Pack> Packs::WorthRewriting() {
  std::vector<Pack> worth, small;
  const MutexLock lock(mutex_);
  for (const auto& [id, state] : packs_) {
    if (state.name.empty() || state.live_bytes == 0 || state.writers > 0 || state.retired_at > 0) continue;
    const Pack pack{.id = id, .size_bytes = state.size_bytes, .live_bytes = state.live_bytes};
    if (state.live_bytes < state.size_bytes / 2) {
      worth.push_back(pack);
    } else if (state.size_bytes < pack_bytes_ / 8 && id != current_) {
      small.push_back(pack);
    }
  }
  if (small.size() >= kManySmallPacks) worth.insert(worth.end(), small.begin(), small.end());
  for (const Pack& pack : worth) {
    if (pack.id == current_) current_ = 0;
  }
  return worth;
}

std::vector<uint64_t> Packs::Dead() {
  const MutexLock lock(mutex_);
  if (current_ != 0 && packs_[current_].live_bytes == 0 && packs_[current_].size_bytes > 0 &&
      packs_[current_].writers == 0) {
    current_ = 0;
  }
  std::vector<uint64_t> dead;
  for (const auto& [id, state] : packs_) {
    if (id == current_ || state.live_bytes > 0 || state.writers > 0 || state.retired_at > 0) continue;
    dead.push_back(id);
  }
  return dead;
}

void Packs::Clean(const std::vector<uint64_t>& dead) {
  const MutexLock lock(mutex_);
  ++moment_;
  for (const uint64_t id : dead) {
    const auto found = packs_.find(id);
    if (found == packs_.end() || found->second.retired_at > 0) continue;
    found->second.retired_at = moment_;
    found->second.dirty = false;
  }
  RemoveRetired();
}

void Packs::RemoveRetired() {
  const uint64_t oldest = readers_.empty() ? UINT64_MAX : *readers_.begin();
  for (auto pack = packs_.begin(); pack != packs_.end();) {
    const State& state = pack->second;
    if (state.retired_at == 0 || state.retired_at > oldest) {
      ++pack;
      continue;
    }
    const absl::Status status = state.name.empty() ? absl::OkStatus() : files_.Remove(PathOf(state.name));
    if (!status.ok()) BDH_LOG(WARNING) << "a dead pack stays until the next start: " << status.message();
    if (state.file != nullptr) --open_files_;
    pack = packs_.erase(pack);
  }
}

std::vector<Packs::Sealed> Packs::SealAll() {
  std::vector<Sealed> sealed;
  const MutexLock lock(mutex_);
  current_ = 0;
  const uint64_t end = next_id_;  // While we wait for writers others may begin a new one.
  for (auto& [id, state] : packs_) {
    if (id >= end) break;
    while (state.writers > 0) writers_gone_.Wait(mutex_);
    if (!state.name.empty() && state.retired_at == 0)
      sealed.push_back({.name = state.name, .size_bytes = state.size_bytes});
  }
  return sealed;
}

Packs::Totals Packs::totals() const {
  const MutexLock lock(mutex_);
  Totals totals{.packs = static_cast<int64_t>(packs_.size()),
                .bytes = 0,
                .live_bytes = 0,
                .syncs = syncs_,
                .sync_seconds = sync_seconds_};
  for (const auto& [id, state] : packs_) {
    totals.bytes += state.size_bytes;
    totals.live_bytes += state.live_bytes;
  }
  return totals;
}

Packs::Reading::Reading(Packs& packs) : packs_(packs) {
  const MutexLock lock(packs_.mutex_);
  moment_ = packs_.readers_.insert(packs_.moment_);
}

Packs::Reading::~Reading() {
  const MutexLock lock(packs_.mutex_);
  packs_.readers_.erase(moment_);
  packs_.RemoveRetired();
}

}  // namespace bdh::store
