#include "integrity.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "blob.h"
#include "manifest.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxDamageListed = 1000;
constexpr size_t kMaxPlaces = 1000;
constexpr int64_t kProgressBytes = 4 << 20;

std::string_view ToStd(absl::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

absl::Status Integrity::Check(const Digest& digest, int64_t size, Sha256& sha, std::string& buffer) {
  const absl::Status status = chunks_.Read(nullptr, digest, size, sha, buffer);
  if (status.ok()) {
    BDH_RETURN_IF_ERROR(ledger_.ClearDamage(digest));
    return status;
  }
  if (!absl::IsDataLoss(status)) return status;
  // It may have been deleted since it was listed: then nobody misses it.
  BDH_ASSIGN_OR_RETURN(const Catalog::Holders holders, catalog_.HoldersOf(digest.view()));
  if (!holders.any()) return absl::OkStatus();
  ledger_.MarkDamaged(digest, ToStd(status.message()));
  return status;
}

absl::StatusOr<Damage> Integrity::Describe(const Digest& digest, std::string_view message) const {
  Damage damage;
  damage.digest = std::string(digest.view());
  damage.message = std::string(message);
  BDH_ASSIGN_OR_RETURN(std::vector<uint64_t> owners, catalog_.OwnersOf(digest));
  if (owners.size() > kMaxPlaces) owners.resize(kMaxPlaces);
  for (const uint64_t owner : owners) {
    Place place;
    const auto name = database_.Get(Table::kOrder, IdKey(owner));
    if (name.ok()) {
      place.object = *name;
    } else {
      const auto blob = FindBlob(database_, owner);
      if (!blob.ok()) continue;  // Deleted meanwhile.
      place.object = blob->label();
    }
    const auto bytes = database_.Get(Table::kManifests, IdKey(owner));
    if (!bytes.ok()) continue;
    BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, ParseManifest(*bytes));
    const auto chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
    for (const v1::StoredTensor& tensor : manifest.tensors()) {
      const int64_t count = ChunkCount(tensor.info().size_bytes(), chunk_bytes);
      int64_t i = 0;
      while (i < count && !(DigestAt(tensor, i) == digest)) ++i;
      if (i == count) continue;
      place.tensor = tensor.info().name();
      place.offset = i * chunk_bytes;
      damage.size_bytes = ChunkSize(tensor.info().size_bytes(), chunk_bytes, i);
      break;
    }
    damage.places.push_back(std::move(place));
  }
  return damage;
}

absl::StatusOr<std::vector<Damage>> Integrity::ListDamage(size_t limit) const {
  std::vector<Damage> list;
  for (const auto& [digest, message] : ledger_.Damaged()) {
    if (list.size() == limit) break;
    BDH_ASSIGN_OR_RETURN(Damage damage, Describe(digest, message));
    list.push_back(std::move(damage));
  }
  return list;
}

// One verification.
class Integrity::Run {
 public:
  Run(Integrity& integrity, const VerifyOptions& options)
      : integrity_(integrity), options_(options), begin_(std::chrono::steady_clock::now()) {}

  absl::StatusOr<VerifyResult> Everything() {
    progress_.bytes_total = integrity_.ledger_.totals().stored_bytes;
    BDH_RETURN_IF_ERROR(Manifests());
    absl::Status status;
    const auto visit = [&](const Digest& digest, int64_t size) {
      status = One(digest, size);
      return status.ok();
    };
    const Snapshot snapshot(integrity_.database_);
    BDH_RETURN_IF_ERROR(integrity_.chunks_.WalkIndex(snapshot.get(), "",
                                                     [&](const Digest& digest, const v1::StoredChunk& where) {
                                                       return visit(digest, where.size_bytes());
                                                     }));
    BDH_RETURN_IF_ERROR(status);
    return Finish();
  }

  absl::StatusOr<VerifyResult> OneCheckpoint() {
    BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, integrity_.catalog_.Find(options_.reference));
    BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, integrity_.catalog_.ManifestOf(record));
    const auto chunks = DistinctChunks(manifest);
    for (const auto& [digest, size] : chunks) progress_.bytes_total += size;
    for (const auto& [digest, size] : chunks) BDH_RETURN_IF_ERROR(One(digest, size));
    return Finish();
  }

 private:
  // Whether every chunk that is referenced is there at all. What is in packs is read later; the others, of
  // the first format, are read here, as they cannot be walked past a damaged one.
  absl::Status Manifests() {
    const Snapshot snapshot(integrity_.database_);
    const auto manifests = integrity_.database_.NewIterator(Table::kManifests, snapshot.get());
    for (manifests->SeekToFirst(); manifests->Valid(); manifests->Next()) {
      const auto manifest = ParseManifest(ToView(manifests->value()));
      const uint64_t id = ParseIdKey(ToView(manifests->key()));
      if (!manifest.ok()) {
        DamagedManifest(id, ToStd(manifest.status().message()));
        continue;
      }
      for (const auto& [digest, size] : DistinctChunks(*manifest)) {
        BDH_ASSIGN_OR_RETURN(const auto in_pack, integrity_.chunks_.Find(digest, snapshot.get()));
        if (in_pack.has_value() || !outside_packs_.insert(digest).second) continue;
        BDH_RETURN_IF_ERROR(One(digest, size));
      }
      const auto name = integrity_.database_.Get(Table::kOrder, IdKey(id), snapshot.get());
      if (!name.ok()) continue;  // A blob, or deleted.
      const auto record = integrity_.catalog_.Find(*name, snapshot.get());
      if (!record.ok()) {
        DamagedManifest(id, ToStd(record.status().message()));
      } else if (ContentDigest(*manifest, record->facts()).view() != record->digest()) {
        DamagedManifest(id, "its manifest does not match its digest");
      }
    }
    return integrity_.database_.ToStatus(manifests->status(), "walk the manifests");
  }

  void DamagedManifest(uint64_t id, std::string_view message) {
    const auto name = integrity_.database_.Get(Table::kOrder, IdKey(id));
    ++result_.damaged_chunks;
    if (result_.damage.size() == kMaxDamageListed) return;
    Damage damage{.digest = "", .message = std::string(message), .size_bytes = 0, .places = {}};
    damage.places.push_back(
        {.object = name.ok() ? *name : absl::StrFormat("object %d", id), .tensor = "", .offset = 0});
    result_.damage.push_back(std::move(damage));
  }

  absl::Status One(const Digest& digest, int64_t size) {
    const absl::Status status = integrity_.Check(digest, size, sha_, buffer_);
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    ++result_.chunks;
    result_.bytes += size;
    progress_.bytes_done += size;
    if (!status.ok()) {
      ++result_.damaged_chunks;
      if (result_.damage.size() < kMaxDamageListed) {
        BDH_ASSIGN_OR_RETURN(Damage damage, integrity_.Describe(digest, ToStd(status.message())));
        result_.damage.push_back(std::move(damage));
      }
    }
    Throttle();
    return Tell(false);
  }

  void Throttle() const {
    if (options_.bytes_per_second <= 0) return;
    const double due = static_cast<double>(result_.bytes) / static_cast<double>(options_.bytes_per_second);
    std::this_thread::sleep_until(
        begin_ + std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(due)));
  }

  absl::Status Tell(bool at_the_end) {
    if (!options_.progress || (!at_the_end && result_.bytes - told_ < kProgressBytes))
      return absl::OkStatus();
    told_ = result_.bytes;
    progress_.damaged_chunks = result_.damaged_chunks;
    progress_.bytes_total = std::max(progress_.bytes_total, progress_.bytes_done);
    if (options_.progress(progress_)) return absl::OkStatus();
    return absl::CancelledError("the verification was broken off");
  }

  absl::StatusOr<VerifyResult> Finish() {
    BDH_RETURN_IF_ERROR(Tell(true));
    return std::move(result_);
  }

  Integrity& integrity_;
  const VerifyOptions& options_;
  const std::chrono::steady_clock::time_point begin_;
  VerifyProgress progress_;
  VerifyResult result_;
  int64_t told_ = 0;
  absl::flat_hash_set<Digest> outside_packs_;  // Missing, or of the first format; looked at already.
  Sha256 sha_;
  std::string buffer_;
};

absl::StatusOr<VerifyResult> Integrity::Verify(const VerifyOptions& options) {
  Run run(*this, options);
  return options.reference.empty() ? run.Everything() : run.OneCheckpoint();
}

}  // namespace bdh::store
