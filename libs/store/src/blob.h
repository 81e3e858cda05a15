#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bdh/store/store.h"
#include "catalog.h"
#include "chunks.h"
#include "digest.h"
#include "intake.h"
#include "ledger.h"

namespace bdh::store {

Blob FromStoredBlob(const v1::StoredBlob& stored);
absl::StatusOr<v1::StoredBlob> FindBlob(const Database& database, uint64_t id,
                                        const rocksdb::Snapshot* snapshot = nullptr);

// Cuts what arrives into chunks, which are handed to the ledger. Keeps at most one itself.
class LedgerBlobUpload final : public BlobUpload {
 public:
  // BeginUpload was called.
  LedgerBlobUpload(const Store::Options& options, Ledger& ledger, Helpers& helpers, std::string label,
                   int64_t max_bytes);
  ~LedgerBlobUpload() override;
  absl::Status Add(std::string_view bytes) override;
  absl::StatusOr<Result> Commit(const Owner& also) override;

 private:
  absl::Status Take(std::string_view bytes);
  absl::Status StoreChunk(std::string_view bytes);

  const Store::Options& options_;
  Ledger& ledger_;
  const int64_t max_bytes_;
  v1::StoredBlob blob_;
  v1::StoredManifest manifest_;
  Sha256 whole_;
  int64_t size_bytes_ = 0;
  std::string partial_;
  absl::Status failed_;
  std::optional<Intake> intake_;  // Last: it writes into the manifest.
};

class DatabaseBlobReader final : public BlobReader {
 public:
  static absl::StatusOr<std::unique_ptr<BlobReader>> Open(const Database& database, const Chunks& chunks,
                                                          Ledger& ledger, uint64_t id);
  const Blob& blob() const override { return blob_; }
  absl::StatusOr<std::optional<std::string>> Next() override;

 private:
  DatabaseBlobReader(const Database& database, const Chunks& chunks, Ledger& ledger)
      : chunks_(chunks), ledger_(ledger), view_(database, chunks.packs()) {}

  const Chunks& chunks_;
  Ledger& ledger_;
  const View view_;
  Blob blob_;
  v1::StoredManifest manifest_;
  Sha256 sha_;
  int64_t next_chunk_ = 0;
};

}  // namespace bdh::store
