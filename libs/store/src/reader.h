#pragma once

#include <memory>

#include "bdh/store/store.h"
#include "bdh/v1/store_manifest.pb.h"
#include "catalog.h"
#include "chunks.h"
#include "digest.h"
#include "ledger.h"

namespace bdh::store {

// Reads a chunk for somebody: what is quarantined is refused, what turns out damaged is quarantined.
// DataLossError without a name: the caller knows whose chunk it is.
absl::Status ReadServable(const Chunks& chunks, Ledger& ledger, const rocksdb::Snapshot* snapshot,
                          const Digest& digest, int64_t size, Sha256& sha, std::string& out);

// Walks the chunks of the tensors selected; reads one at a time.
class DatabaseReader final : public Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const Database& database, const Catalog& catalog,
                                                      const Chunks& chunks, Ledger& ledger,
                                                      std::string_view reference, const Selection& selection);

  const Checkpoint& checkpoint() const override { return checkpoint_; }
  absl::StatusOr<std::optional<Piece>> Next() override;

 private:
  // Bytes of a tensor that are wanted.
  struct Part {
    int tensor;  // Its index.
    int64_t begin, end;
  };

  DatabaseReader(const Database& database, const Chunks& chunks, Ledger& ledger)
      : chunks_(chunks), ledger_(ledger), view_(database, chunks.packs()) {}
  absl::Status Select(const Selection& selection);
  absl::Status SelectRanges(const std::vector<Selection::Range>& ranges);

  const Chunks& chunks_;
  Ledger& ledger_;
  const View view_;  // Keeps every chunk readable while a deletion or a collection runs.
  Checkpoint checkpoint_;
  v1::StoredManifest manifest_;
  std::vector<Part> parts_;
  Sha256 sha_;
  size_t next_ = 0;     // In parts_.
  int64_t offset_ = 0;  // Bytes of that part that were read.
};

}  // namespace bdh::store
