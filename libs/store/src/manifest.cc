#include "manifest.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxTensorNameLength = 512;
constexpr size_t kMaxRank = 16;

absl::Status CheckTensorName(std::string_view name) {
  if (name.empty() || name.size() > kMaxTensorNameLength) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a tensor's name has %d bytes; want 1 to %d", name.size(), kMaxTensorNameLength));
  }
  const bool controls = std::any_of(name.begin(), name.end(), absl::ascii_iscntrl);
  if (controls || !IsUtf8(name)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor name \"%s\" holds control characters or is not UTF-8",
                        absl::CHexEscape(absl::string_view(name.data(), name.size()))));
  }
  return absl::OkStatus();
}

// The product of shape and element size, or -1 if it is no number of bytes.
int64_t SizeOf(const Tensor& tensor) {
  int64_t size = ElementBytes(tensor.dtype);
  bool empty = false;
  for (const int64_t extent : tensor.shape) {
    if (extent < 0) return -1;
    if (extent == 0) empty = true;
    // Checked also beside a zero, so that no shape overflows in a reader that multiplies in another order.
    if (extent > 0 && __builtin_mul_overflow(size, extent, &size)) return -1;
  }
  return empty ? 0 : size;
}

absl::Status CheckTensor(const Tensor& tensor) {
  BDH_RETURN_IF_ERROR(CheckTensorName(tensor.name));
  if (ElementBytes(tensor.dtype) == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor \"%s\" has the unknown dtype %d", tensor.name,
                                                      static_cast<int>(tensor.dtype)));
  }
  if (tensor.shape.size() > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor \"%s\" has %d dimensions; at most %d are kept",
                                                      tensor.name, tensor.shape.size(), kMaxRank));
  }
  const int64_t size = SizeOf(tensor);
  if (size < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the shape of tensor \"%s\" is negative or too large", tensor.name));
  }
  if (size != tensor.size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("size_bytes of tensor \"%s\" is %d; its shape and dtype make %d", tensor.name,
                        tensor.size_bytes, size));
  }
  return absl::OkStatus();
}

// About what the description takes on the wire.
int64_t DescriptionBytes(const Checkpoint& checkpoint) {
  size_t bytes = checkpoint.facts.size() + checkpoint.provenance.size();
  for (const Tensor& tensor : checkpoint.tensors) bytes += tensor.name.size() + 10 * tensor.shape.size() + 24;
  return static_cast<int64_t>(bytes);
}

absl::Status CheckLimits(const Store::Options& options, const Checkpoint& checkpoint) {
  if (checkpoint.tensors.size() > static_cast<size_t>(options.max_tensors)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d tensors; at most %d are kept",
                                                      checkpoint.name, checkpoint.tensors.size(),
                                                      options.max_tensors));
  }
  if (const int64_t bytes = DescriptionBytes(checkpoint); bytes > options.max_description_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the description of %s (tensor names, shapes, facts) takes %s; at most %s are kept",
                        checkpoint.name, FormatBytes(bytes), FormatBytes(options.max_description_bytes)));
  }
  return absl::OkStatus();
}

bool FitsItself(const v1::StoredManifest& manifest) {
  const int64_t chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
  if (chunk_bytes <= 0) return false;
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    const int64_t size = tensor.info().size_bytes();
    if (size < 0) return false;
    const auto chunks = static_cast<size_t>(ChunkCount(size, chunk_bytes));
    if (tensor.chunk_digests().size() != chunks * Digest::kBytes) return false;
  }
  return true;
}

}  // namespace

absl::Status CheckDescription(const Store::Options& options, Checkpoint& checkpoint) {
  BDH_RETURN_IF_ERROR(CheckCheckpointName(checkpoint.name));
  BDH_RETURN_IF_ERROR(CheckLimits(options, checkpoint));
  std::set<std::string_view> names;
  checkpoint.size_bytes = 0;
  for (const Tensor& tensor : checkpoint.tensors) {
    BDH_RETURN_IF_ERROR(CheckTensor(tensor));
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor \"%s\" is listed twice", tensor.name));
    }
    if (tensor.size_bytes > options.max_checkpoint_bytes - checkpoint.size_bytes) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%s is larger than %s, the largest checkpoint this store accepts (max_checkpoint_bytes)",
          checkpoint.name, FormatBytes(options.max_checkpoint_bytes)));
    }
    checkpoint.size_bytes += tensor.size_bytes;
  }
  return absl::OkStatus();
}

std::string TensorInWords(std::string_view tensor, std::string_view checkpoint) {
  return absl::StrFormat("tensor \"%s\" of %s", tensor, checkpoint);
}

v1::StoredManifest NewManifest(const Checkpoint& checkpoint, int64_t chunk_bytes) {
  v1::StoredManifest manifest;
  manifest.set_chunk_bytes(chunk_bytes);
  for (const Tensor& tensor : checkpoint.tensors) {
    v1::TensorInfo& info = *manifest.add_tensors()->mutable_info();
    info.set_name(tensor.name);
    info.set_dtype(static_cast<v1::DType>(tensor.dtype));
    info.mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    info.set_size_bytes(tensor.size_bytes);
  }
  return manifest;
}

v1::StoredCheckpoint NewRecord(const Checkpoint& checkpoint, const Digest& digest, uint64_t id,
                               absl::Time now) {
  v1::StoredCheckpoint record;
  record.set_id(id);
  record.set_name(checkpoint.name);
  record.set_create_time_us(absl::ToUnixMicros(now));
  record.set_size_bytes(checkpoint.size_bytes);
  record.set_digest(std::string(digest.view()));
  record.set_facts(checkpoint.facts);
  record.set_provenance(checkpoint.provenance);
  if (checkpoint.loss.has_value()) record.set_loss(*checkpoint.loss);
  return record;
}

Digest ContentDigest(const v1::StoredManifest& manifest, std::string_view facts) {
  Sha256 sha;
  sha.UpdateText("bdh checkpoint 1");
  sha.UpdateNumber(manifest.chunk_bytes());
  sha.UpdateNumber(manifest.tensors_size());
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    sha.UpdateText(tensor.info().name());
    sha.UpdateNumber(tensor.info().dtype());
    sha.UpdateNumber(tensor.info().shape_size());
    for (const int64_t extent : tensor.info().shape()) sha.UpdateNumber(extent);
    sha.UpdateText(tensor.chunk_digests());
  }
  sha.UpdateText(facts);
  return sha.Finish();
}

int64_t ChunkCount(int64_t size_bytes, int64_t chunk_bytes) {
  return size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0 ? 1 : 0);
}

int64_t ChunkSize(int64_t size_bytes, int64_t chunk_bytes, int64_t index) {
  return std::min(chunk_bytes, size_bytes - index * chunk_bytes);
}

Digest DigestAt(const v1::StoredTensor& tensor, int64_t index) {
  const auto begin = static_cast<size_t>(index) * Digest::kBytes;
  return Digest::FromBytes(std::string_view(tensor.chunk_digests()).substr(begin, Digest::kBytes));
}

std::vector<std::pair<Digest, int64_t>> DistinctChunks(const v1::StoredManifest& manifest) {
  absl::flat_hash_map<Digest, int64_t> sizes;
  const auto chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    const int64_t size = tensor.info().size_bytes();
    for (int64_t i = 0; i < ChunkCount(size, chunk_bytes); ++i) {
      sizes[DigestAt(tensor, i)] = ChunkSize(size, chunk_bytes, i);
    }
  }
  return {sizes.begin(), sizes.end()};
}

absl::StatusOr<v1::StoredManifest> ParseManifest(std::string_view bytes) {
  v1::StoredManifest manifest;
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max()) ||
      !manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !FitsItself(manifest)) {
    return absl::DataLossError("the manifest is damaged");
  }
  return manifest;
}

absl::StatusOr<v1::StoredCheckpoint> ParseRecord(std::string_view bytes) {
  v1::StoredCheckpoint record;
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      record.digest().size() != Digest::kBytes) {
    return absl::DataLossError("the record of a checkpoint is damaged");
  }
  return record;
}

Checkpoint FromRecord(const v1::StoredCheckpoint& record) {
  Checkpoint checkpoint;
  checkpoint.name = record.name();
  checkpoint.facts = record.facts();
  checkpoint.provenance = record.provenance();
  checkpoint.create_time = absl::FromUnixMicros(record.create_time_us());
  checkpoint.size_bytes = static_cast<int64_t>(record.size_bytes());
  checkpoint.digest = Digest::FromBytes(record.digest()).Hex();
  if (record.has_loss()) checkpoint.loss = record.loss();
  return checkpoint;
}

Tensor FromStored(const v1::TensorInfo& info) {
  return {.name = info.name(),
          .dtype = static_cast<DType>(info.dtype()),
          .shape = {info.shape().begin(), info.shape().end()},
          .size_bytes = info.size_bytes()};
}

}  // namespace bdh::store
