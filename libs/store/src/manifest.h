// Checking what a checkpoint says about itself, and its stored form.
#pragma once

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/checkpoint.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "digest.h"

namespace bdh::store {

// Whether the store can keep this: names, shapes, sizes, limits. Fills in size_bytes.
absl::Status CheckDescription(const Store::Options& options, Checkpoint& checkpoint);

// "tensor \"encoder\" of runs/a/steps/1"
std::string TensorInWords(std::string_view tensor, std::string_view checkpoint);

v1::StoredManifest NewManifest(const Checkpoint& checkpoint, int64_t chunk_bytes);
v1::StoredCheckpoint NewRecord(const Checkpoint& checkpoint, const Digest& digest, uint64_t id,
                               absl::Time now);

// Over tensors, chunks and facts; not over name, time and provenance.
Digest ContentDigest(const v1::StoredManifest& manifest, std::string_view facts);

// Number and size of the chunks a tensor of this size is cut into.
int64_t ChunkCount(int64_t size_bytes, int64_t chunk_bytes);
int64_t ChunkSize(int64_t size_bytes, int64_t chunk_bytes, int64_t index);

// Of a tensor's chunk.
Digest DigestAt(const v1::StoredTensor& tensor, int64_t index);

// Every chunk once, with its size.
std::vector<std::pair<Digest, int64_t>> DistinctChunks(const v1::StoredManifest& manifest);

// DataLossError: the bytes are no manifest, or one that contradicts itself.
absl::StatusOr<v1::StoredManifest> ParseManifest(std::string_view bytes);
absl::StatusOr<v1::StoredCheckpoint> ParseRecord(std::string_view bytes);

// Without tensors and tags.
Checkpoint FromRecord(const v1::StoredCheckpoint& record);
Tensor FromStored(const v1::TensorInfo& info);

}  // namespace bdh::store
