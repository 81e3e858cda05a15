#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/store/store.h"
#include "ledger.h"

namespace bdh::store {

// Uploads that outlive their client: which chunks each has, held in the ledger. Thread-safe.
class NamedUploads {
 public:
  // `uploads` are those that a restart found.
  NamedUploads(const Store::Options& options, Ledger& ledger,
               std::map<std::string, Ledger::ChunkSizes> uploads);
  // Releases nothing: the store is closing, and what was written stays for the next start.
  ~NamedUploads() = default;

  absl::StatusOr<std::vector<int>> FindMissing(std::string_view name,
                                               const std::vector<std::string>& digests);
  absl::StatusOr<int64_t> PutChunk(std::string_view name, std::string_view digest, std::string_view bytes);
  // `checkpoint` is checked.
  absl::StatusOr<Upload::Result> Commit(std::string_view name, const Checkpoint& checkpoint,
                                        const std::vector<TensorDigests>& chunks, const Change& also);

  // Ends those that have been quiet for too long.
  void Expire();
  int count() const;

 private:
  struct State {
    Ledger::ChunkSizes held;
    int64_t bytes = 0;
    absl::Time used;
  };

  absl::Status Open(std::string_view name);
  absl::StatusOr<bool> Has(std::string_view name, const Digest& digest);
  // Adds a chunk that is held; releases it if the upload has it already or is gone.
  absl::Status Keep(std::string_view name, const Digest& digest, int64_t size);
  absl::StatusOr<State> Take(std::string_view name);
  void PutBack(std::string_view name, State state);
  absl::Status HoldAll(const v1::StoredManifest& manifest, State& state);

  const Store::Options& options_;
  Ledger& ledger_;
  mutable Mutex mutex_;
  std::map<std::string, State, std::less<>> uploads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bdh::store
