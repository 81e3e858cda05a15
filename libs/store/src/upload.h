#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "digest.h"
#include "intake.h"
#include "ledger.h"

namespace bdh::store {

// Cuts what arrives into chunks, which are hashed once and handed to the ledger. Keeps at most one itself.
class LedgerUpload final : public Upload {
 public:
  // `checkpoint` is checked, BeginUpload was called.
  // `committed` is told the name of the checkpoint once it is there.
  using Committed = std::function<void(const std::string& name)>;
  // `parent` is the manifest of the checkpoint that this one continues, or empty.
  LedgerUpload(const Store::Options& options, Ledger& ledger, Helpers& helpers, Checkpoint checkpoint,
               v1::StoredManifest parent, Committed committed);
  ~LedgerUpload() override;

  absl::Status AddChunk(std::string_view tensor, int64_t offset, std::string_view bytes) override;
  absl::StatusOr<Result> Commit(const Change& also) override;

 private:
  absl::Status CheckPosition(std::string_view tensor, int64_t offset, std::string_view bytes) const;
  absl::Status Append(std::string_view bytes);
  absl::Status StoreChunk(std::string_view bytes);
  ChunkHint HintFor(size_t bytes) const;
  void SkipFinishedTensors();
  const Tensor& current() const { return checkpoint_.tensors[index_]; }
  bool complete() const { return index_ == checkpoint_.tensors.size(); }

  const Store::Options& options_;
  Ledger& ledger_;
  Checkpoint checkpoint_;
  v1::StoredManifest manifest_;
  const v1::StoredManifest parent_;
  absl::flat_hash_map<std::string_view, const v1::StoredTensor*> parent_tensors_;
  size_t index_ = 0;     // The tensor whose bytes come next.
  int64_t offset_ = 0;   // In it.
  std::string partial_;  // The begun chunk, when pieces do not fit the store's chunks.
  absl::Status failed_;
  const Committed committed_;
  std::optional<Intake> intake_;  // Last: it writes into the manifest.
};

}  // namespace bdh::store
