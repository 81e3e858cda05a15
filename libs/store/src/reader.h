#pragma once

#include <memory>

#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "catalog.h"
#include "digest.h"
#include "ledger.h"

namespace bdh::store {

// Reads one chunk and checks it. DataLossError without a name: the caller knows whose chunk it is.
absl::Status ReadChunk(const Database& database, const rocksdb::Snapshot* snapshot, const Digest& digest,
                       int64_t size, Sha256& sha, std::string& out);

// Walks the chunks of the tensors selected; reads one at a time.
class DatabaseReader final : public Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const Database& database, const Catalog& catalog,
                                                      Ledger& ledger, std::string_view reference,
                                                      const Selection& selection);

  const Checkpoint& checkpoint() const override { return checkpoint_; }
  absl::StatusOr<std::optional<Piece>> Next() override;

 private:
  DatabaseReader(const Database& database, Ledger& ledger)
      : database_(database), ledger_(ledger), snapshot_(database) {}
  absl::Status Select(const Selection& selection);

  const Database& database_;
  Ledger& ledger_;
  const Snapshot snapshot_;  // Keeps every chunk readable while a deletion or a collection runs.
  Checkpoint checkpoint_;
  v1::StoredManifest manifest_;
  std::vector<int> selected_;  // Indices of tensors.
  Sha256 sha_;
  size_t next_ = 0;         // In selected_.
  int64_t next_chunk_ = 0;  // Of that tensor.
};

}  // namespace bdh::store
