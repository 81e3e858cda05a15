#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/store/model_ops.h"
#include "digest.h"
#include "tensor_stream.h"

namespace bdh::store {
namespace {

constexpr size_t kDigestsACall = 16'384;

// A checkpoint cut into chunks of the target's size.
struct Cut {
  Checkpoint checkpoint;
  std::vector<TensorDigests> chunks;
};

int64_t ChunkSizeAt(const Tensor& tensor, int64_t chunk_bytes, size_t index) {
  return std::min(chunk_bytes, tensor.size_bytes - static_cast<int64_t>(index) * chunk_bytes);
}

std::vector<Selection::Range> Whole(const Checkpoint& checkpoint) {
  std::vector<Selection::Range> ranges;
  for (const Tensor& tensor : checkpoint.tensors) {
    if (tensor.size_bytes > 0) ranges.push_back({tensor.name, 0, tensor.size_bytes});
  }
  return ranges;
}

// Where the two stores cut alike the digests are known; otherwise the bytes are read for them.
absl::StatusOr<Cut> CutTo(Store& store, std::string_view reference, int64_t chunk_bytes) {
  BDH_ASSIGN_OR_RETURN(auto list, store.ListChunks(reference));
  Cut cut{.checkpoint = std::move(list.checkpoint), .chunks = {}};
  if (list.chunk_bytes == chunk_bytes) {
    cut.chunks = std::move(list.chunks);
    return cut;
  }
  BDH_ASSIGN_OR_RETURN(auto stream, TensorStream::Open(store, cut.checkpoint.name, Whole(cut.checkpoint)));
  Sha256 sha;
  for (const Tensor& tensor : cut.checkpoint.tensors) {
    TensorDigests& digests = cut.chunks.emplace_back(TensorDigests{.tensor = tensor.name, .digests = {}});
    for (size_t i = 0; ChunkSizeAt(tensor, chunk_bytes, i) > 0; ++i) {
      BDH_ASSIGN_OR_RETURN(const std::string_view bytes,
                           stream.Next(static_cast<size_t>(ChunkSizeAt(tensor, chunk_bytes, i))));
      digests.digests.emplace_back(sha.Of(bytes).view());
    }
  }
  return cut;
}

class Copier {
 public:
  Copier(Store& store, CopyTarget& target, const OnCopyProgress& on_progress)
      : store_(store), target_(target), on_progress_(on_progress) {}

  absl::StatusOr<CopyProgress> Run(const std::vector<std::string>& references) {
    for (const std::string& reference : references) {
      BDH_ASSIGN_OR_RETURN(const Checkpoint checkpoint, store_.Describe(reference));
      names_.push_back(checkpoint.name);
      progress_.bytes_total += checkpoint.size_bytes;
    }
    for (const std::string& name : names_) {
      BDH_RETURN_IF_ERROR(Annotate(CopyOne(name), absl::StrFormat("copy %s", name)));
    }
    return progress_;
  }

 private:
  absl::Status CopyOne(const std::string& name) {
    // The same name whenever it is copied: begun again, it goes on.
    const std::string upload = "copy/" + Sha256Hex(name).substr(0, 32);
    BDH_ASSIGN_OR_RETURN(const auto hello, target_.FindMissing(upload, {}));
    BDH_ASSIGN_OR_RETURN(const Cut cut, CutTo(store_, name, hello.chunk_bytes));
    BDH_ASSIGN_OR_RETURN(const auto wanted, FindWanted(upload, cut, hello.chunk_bytes));
    BDH_RETURN_IF_ERROR(Send(upload, cut, wanted));
    return target_.Commit(upload, cut.checkpoint, cut.chunks);
  }

  struct Wanted {
    std::string digest;
    Selection::Range range;
  };

  absl::StatusOr<std::vector<Wanted>> FindWanted(const std::string& upload, const Cut& cut,
                                                 int64_t chunk_bytes) {
    std::vector<Wanted> all, wanted;
    std::set<std::string> seen;
    for (size_t t = 0; t < cut.chunks.size(); ++t) {
      const Tensor& tensor = cut.checkpoint.tensors[t];
      for (size_t i = 0; i < cut.chunks[t].digests.size(); ++i) {
        const int64_t size = ChunkSizeAt(tensor, chunk_bytes, i);
        const std::string& digest = cut.chunks[t].digests[i];
        if (!seen.insert(digest).second) {
          Skip(size);
          continue;
        }
        all.push_back({digest, {tensor.name, static_cast<int64_t>(i) * chunk_bytes, size}});
      }
    }
    for (size_t begin = 0; begin < all.size(); begin += kDigestsACall) {
      const size_t end = std::min(all.size(), begin + kDigestsACall);
      std::vector<std::string> digests;
      for (size_t i = begin; i < end; ++i) digests.push_back(all[i].digest);
      BDH_ASSIGN_OR_RETURN(const auto missing, target_.FindMissing(upload, digests));
      std::vector<bool> is_missing(digests.size());
      for (const int index : missing.indexes) {
        if (index < 0 || static_cast<size_t>(index) >= digests.size()) {
          return absl::InternalError("the other store wants a chunk that it was not asked about");
        }
        is_missing[static_cast<size_t>(index)] = true;
      }
      for (size_t i = 0; i < digests.size(); ++i) {
        if (is_missing[i]) {
          wanted.push_back(std::move(all[begin + i]));
        } else {
          Skip(all[begin + i].range.size_bytes);
        }
      }
    }
    return wanted;
  }

  absl::Status Send(const std::string& upload, const Cut& cut, const std::vector<Wanted>& wanted) {
    if (wanted.empty()) return Report();
    std::vector<Selection::Range> ranges;
    for (const Wanted& chunk : wanted) ranges.push_back(chunk.range);
    BDH_ASSIGN_OR_RETURN(auto stream, TensorStream::Open(store_, cut.checkpoint.name, ranges));
    size_t next = 0;
    return target_.PutChunks(upload, [&]() -> absl::StatusOr<std::optional<CopyTarget::Chunk>> {
      if (next == wanted.size()) return std::nullopt;
      const Wanted& chunk = wanted[next++];
      BDH_ASSIGN_OR_RETURN(const std::string_view bytes,
                           stream.Next(static_cast<size_t>(chunk.range.size_bytes)));
      progress_.bytes_done += chunk.range.size_bytes;
      BDH_RETURN_IF_ERROR(Report());
      return CopyTarget::Chunk{chunk.digest, std::string(bytes)};
    });
  }

  void Skip(int64_t bytes) {
    progress_.bytes_done += bytes;
    progress_.bytes_skipped += bytes;
  }

  absl::Status Report() const {
    if (on_progress_ && !on_progress_(progress_)) return absl::CancelledError("broken off");
    return absl::OkStatus();
  }

  Store& store_;
  CopyTarget& target_;
  const OnCopyProgress& on_progress_;
  std::vector<std::string> names_;
  CopyProgress progress_;
};

// The damaged chunks of one tensor of one checkpoint, by where they stand.
using Spots = std::map<int64_t, const Damage*>;

class Repairer {
 public:
  Repairer(Store& store, RepairSource& source) : store_(store), source_(source) {}

  // Answers how many were healed. NotFoundError: the source has no such tensor.
  absl::StatusOr<int64_t> Heal(const std::string& checkpoint, const std::string& tensor, const Spots& spots) {
    int64_t offset = 0, healed = 0;
    std::string chunk;
    auto spot = spots.begin();
    absl::Status status;
    const auto take = [&](std::string_view bytes) {
      while (!bytes.empty() && spot != spots.end()) {
        const int64_t from = spot->first + static_cast<int64_t>(chunk.size());
        const auto skip = static_cast<size_t>(std::clamp<int64_t>(from - offset, 0, bytes.size()));
        bytes.remove_prefix(skip);
        offset += static_cast<int64_t>(skip);
        const size_t want = static_cast<size_t>(spot->second->size_bytes) - chunk.size();
        const std::string_view part = bytes.substr(0, want);
        chunk += part;
        bytes.remove_prefix(part.size());
        offset += static_cast<int64_t>(part.size());
        if (chunk.size() < static_cast<size_t>(spot->second->size_bytes)) continue;
        const absl::Status put = store_.Heal(spot->second->digest, chunk);
        // Other bytes in the same place: this source cannot help here.
        if (!put.ok() && !absl::IsInvalidArgument(put) && !absl::IsNotFound(put)) status = put;
        healed += put.ok();
        chunk.clear();
        ++spot;
      }
      return status.ok() && spot != spots.end();
    };
    BDH_RETURN_IF_ERROR(source_.ReadTensor(checkpoint, tensor, take));
    BDH_RETURN_IF_ERROR(status);
    return healed;
  }

 private:
  Store& store_;
  RepairSource& source_;
};

}  // namespace

absl::StatusOr<CopyProgress> Copy(Store& store, const std::vector<std::string>& references,
                                  CopyTarget& target, const OnCopyProgress& progress) {
  return Copier(store, target, progress).Run(references);
}

absl::StatusOr<RepairProgress> Repair(Store& store, RepairSource& source,
                                      const std::function<bool(const RepairProgress&)>& on_progress) {
  constexpr size_t kMaxDamage = 100'000;
  BDH_ASSIGN_OR_RETURN(const std::vector<Damage> damage, store.ListDamage(kMaxDamage));
  std::map<std::pair<std::string, std::string>, Spots> by_tensor;
  for (const Damage& one : damage) {
    for (const Place& place : one.places) {
      if (!place.tensor.empty()) by_tensor[{place.object, place.tensor}][place.offset] = &one;
    }
  }
  RepairProgress progress{.damaged_chunks = static_cast<int64_t>(damage.size())};
  bool found = false;
  Repairer repairer(store, source);
  for (const auto& [tensor, spots] : by_tensor) {
    const auto healed = repairer.Heal(tensor.first, tensor.second, spots);
    if (!healed.ok() && !absl::IsNotFound(healed.status())) return healed.status();
    found |= healed.ok();
    if (healed.ok()) progress.repaired_chunks += *healed;
    if (on_progress && !on_progress(progress)) return absl::CancelledError("broken off");
  }
  if (damage.empty() || found) return progress;
  return absl::NotFoundError(
      absl::StrFormat("%d chunks are damaged and the other store has none of their "
                      "checkpoints",
                      damage.size()));
}

}  // namespace bdh::store
