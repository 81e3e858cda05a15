#include "named_uploads.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "manifest.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxNameLength = 128;

absl::Status CheckUploadName(std::string_view name) {
  const bool fits = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '/' || c == '-';
  });
  if (fits && !name.empty() && name.size() <= kMaxNameLength) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("upload is no name of one; want 1 to %d of [A-Za-z0-9._/-]", kMaxNameLength));
}

absl::StatusOr<Digest> ParseDigest(std::string_view bytes) {
  if (bytes.size() == Digest::kBytes) return Digest::FromBytes(bytes);
  return absl::InvalidArgumentError(
      absl::StrFormat("a digest has %d bytes; want the %d of a SHA-256", bytes.size(), Digest::kBytes));
}

absl::Status NoSuchUpload(std::string_view name) {
  return absl::NotFoundError(absl::StrFormat(
      "there is no upload \"%s\": it was committed, or quiet for too long; begin again with its digests",
      name));
}

// The manifest of a checkpoint whose chunks are named, not sent.
absl::StatusOr<v1::StoredManifest> ManifestOf(const Checkpoint& checkpoint,
                                              const std::vector<TensorDigests>& chunks, int64_t chunk_bytes) {
  if (chunks.size() != checkpoint.tensors.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d tensors, but chunks of %d came",
                                                      checkpoint.name, checkpoint.tensors.size(),
                                                      chunks.size()));
  }
  v1::StoredManifest manifest = NewManifest(checkpoint, chunk_bytes);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Tensor& tensor = checkpoint.tensors[i];
    if (chunks[i].tensor != tensor.name) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "chunks of tensor \"%s\" came where those of \"%s\" belong", chunks[i].tensor, tensor.name));
    }
    const int64_t count = ChunkCount(tensor.size_bytes, chunk_bytes);
    if (static_cast<int64_t>(chunks[i].digests.size()) != count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor \"%s\" has %d chunks of %d bytes, but %d digests came", tensor.name, count,
                          chunk_bytes, chunks[i].digests.size()));
    }
    for (const std::string& bytes : chunks[i].digests) {
      BDH_ASSIGN_OR_RETURN(const Digest digest, ParseDigest(bytes));
      manifest.mutable_tensors(static_cast<int>(i))->mutable_chunk_digests()->append(digest.view());
    }
  }
  return manifest;
}

}  // namespace

NamedUploads::NamedUploads(const Store::Options& options, Ledger& ledger,
                           std::map<std::string, Ledger::ChunkSizes> uploads)
    : options_(options), ledger_(ledger) {
  const absl::Time now = uploads.empty() ? absl::InfinitePast() : options.clock();
  const MutexLock lock(mutex_);
  for (auto& [name, held] : uploads) {
    State& state = uploads_[name];
    for (const auto& [digest, size] : held) state.bytes += size;
    state.held = std::move(held);
    state.used = now;
  }
}

absl::Status NamedUploads::Open(std::string_view name) {
  BDH_RETURN_IF_ERROR(CheckUploadName(name));
  Expire();
  const absl::Time now = options_.clock();
  const MutexLock lock(mutex_);
  const auto found = uploads_.find(name);
  if (found == uploads_.end() && uploads_.size() >= static_cast<size_t>(options_.max_named_uploads)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "there are %d named uploads, as many as the store keeps; try again when one has ended",
        uploads_.size()));
  }
  uploads_[std::string(name)].used = now;
  return absl::OkStatus();
}

absl::StatusOr<bool> NamedUploads::Has(std::string_view name, const Digest& digest) {
  const absl::Time now = options_.clock();
  const MutexLock lock(mutex_);
  const auto found = uploads_.find(name);
  if (found == uploads_.end()) return NoSuchUpload(name);
  found->second.used = now;
  return found->second.held.contains(digest);
}

absl::Status NamedUploads::Keep(std::string_view name, const Digest& digest, int64_t size) {
  absl::Status status;
  {
    const MutexLock lock(mutex_);
    const auto found = uploads_.find(name);
    if (found == uploads_.end()) {
      status = NoSuchUpload(name);
    } else if (size > options_.max_checkpoint_bytes - found->second.bytes) {
      status = absl::ResourceExhaustedError(
          absl::StrFormat("upload \"%s\" is larger than %s, the largest checkpoint this store accepts "
                          "(max_checkpoint_bytes)",
                          name, FormatBytes(options_.max_checkpoint_bytes)));
    } else if (found->second.held.emplace(digest, size).second) {
      found->second.bytes += size;
      return absl::OkStatus();
    }
  }
  ledger_.Release({{digest, size}});
  return status;
}

absl::StatusOr<std::vector<int>> NamedUploads::FindMissing(std::string_view name,
                                                           const std::vector<std::string>& digests) {
  BDH_RETURN_IF_ERROR(Open(name));
  std::vector<int> missing;
  for (size_t i = 0; i < digests.size(); ++i) {
    BDH_ASSIGN_OR_RETURN(const Digest digest, ParseDigest(digests[i]));
    BDH_ASSIGN_OR_RETURN(const bool has, Has(name, digest));
    if (has) continue;
    BDH_ASSIGN_OR_RETURN(const std::optional<int64_t> size, ledger_.HoldExisting(digest));
    if (size.has_value()) {
      BDH_RETURN_IF_ERROR(Keep(name, digest, *size));
    } else {
      missing.push_back(static_cast<int>(i));
    }
  }
  return missing;
}

absl::StatusOr<int64_t> NamedUploads::PutChunk(std::string_view name, std::string_view digest_bytes,
                                               std::string_view bytes) {
  BDH_ASSIGN_OR_RETURN(const Digest digest, ParseDigest(digest_bytes));
  if (bytes.empty() || static_cast<int64_t>(bytes.size()) > options_.max_piece_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat("a chunk of upload \"%s\" has %d bytes; want 1 to %d",
                                                      name, bytes.size(), options_.max_piece_bytes));
  }
  Sha256 sha;
  if (!(sha.Of(bytes) == digest)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the bytes of a chunk of upload \"%s\" do not have the SHA-256 %s they came with",
                        name, digest.Hex()));
  }
  BDH_ASSIGN_OR_RETURN(const bool has, Has(name, digest));
  if (has) return 0;
  BDH_ASSIGN_OR_RETURN(const bool written, ledger_.Hold(digest, bytes, {}, name));
  const auto size = static_cast<int64_t>(bytes.size());
  BDH_RETURN_IF_ERROR(Keep(name, digest, size));
  return written ? size : 0;
}

absl::StatusOr<NamedUploads::State> NamedUploads::Take(std::string_view name) {
  const MutexLock lock(mutex_);
  const auto found = uploads_.find(name);
  if (found == uploads_.end()) return NoSuchUpload(name);
  State state = std::move(found->second);
  uploads_.erase(found);
  return state;
}

void NamedUploads::PutBack(std::string_view name, State state) {
  Ledger::ChunkSizes twice;
  {
    const MutexLock lock(mutex_);
    State& now = uploads_[std::string(name)];  // Somebody may have begun it anew meanwhile.
    now.used = std::max(now.used, state.used);
    for (const auto& [digest, size] : state.held) {
      if (now.held.emplace(digest, size).second) {
        now.bytes += size;
      } else {
        twice.emplace(digest, size);
      }
    }
  }
  ledger_.Release(twice);
}

// Chunks that the store has, but the upload did not ask for by name.
absl::Status NamedUploads::HoldAll(const v1::StoredManifest& manifest, State& state) {
  const auto chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    const int64_t size = tensor.info().size_bytes();
    for (int64_t i = 0; i < ChunkCount(size, chunk_bytes); ++i) {
      const Digest digest = DigestAt(tensor, i);
      if (!state.held.contains(digest)) {
        BDH_ASSIGN_OR_RETURN(const auto held, ledger_.HoldExisting(digest));
        if (!held.has_value()) {
          return absl::FailedPreconditionError(
              absl::StrFormat("chunk %s of tensor \"%s\" is missing; ask which are missing and send them",
                              digest.Hex(), tensor.info().name()));
        }
        state.held.emplace(digest, *held);
        state.bytes += *held;
      }
      if (state.held[digest] != ChunkSize(size, chunk_bytes, i)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("chunk %d of tensor \"%s\" has %d bytes; its place demands %d", i,
                            tensor.info().name(), state.held[digest], ChunkSize(size, chunk_bytes, i)));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Upload::Result> NamedUploads::Commit(std::string_view name, const Checkpoint& checkpoint,
                                                    const std::vector<TensorDigests>& chunks,
                                                    const Change& also) {
  BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest,
                       ManifestOf(checkpoint, chunks, options_.chunk_bytes));
  BDH_ASSIGN_OR_RETURN(State state, Take(name));
  absl::Status status = HoldAll(manifest, state);
  Ledger::Committed committed;
  Ledger::ChunkSizes wanted;
  if (status.ok()) {
    for (const auto& [digest, size] : DistinctChunks(manifest)) wanted.emplace(digest, size);
    auto done = ledger_.Commit(checkpoint, manifest, wanted, also);
    status = done.status();
    if (done.ok()) committed = *std::move(done);
  }
  if (!status.ok()) {
    PutBack(name, std::move(state));
    return status;
  }
  // The commit has released what it wanted.
  for (const auto& [digest, size] : wanted) state.held.erase(digest);
  ledger_.Release(state.held);
  Upload::Result result{.checkpoint = FromRecord(committed.record), .stored_bytes = committed.new_bytes};
  result.checkpoint.tensors = checkpoint.tensors;
  return result;
}

void NamedUploads::Expire() {
  const absl::Time now = options_.clock();
  std::vector<State> expired;
  {
    const MutexLock lock(mutex_);
    for (auto upload = uploads_.begin(); upload != uploads_.end();) {
      if (now - upload->second.used < options_.upload_quiet_time) {
        ++upload;
        continue;
      }
      BDH_LOG(INFO) << "upload ended, it was quiet too long name=" << upload->first;
      expired.push_back(std::move(upload->second));
      upload = uploads_.erase(upload);
    }
  }
  for (const State& state : expired) ledger_.Release(state.held);
}

int NamedUploads::count() const {
  const MutexLock lock(mutex_);
  return static_cast<int>(uploads_.size());
}

}  // namespace bdh::store
