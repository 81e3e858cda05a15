#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/store/care.h"
#include "catalog.h"
#include "chunks.h"
#include "ledger.h"

namespace bdh::store {

// Looks whether what is kept is right, and says to whom it matters where it is not. Thread-safe.
class Integrity {
 public:
  Integrity(const Database& database, const Catalog& catalog, const Chunks& chunks, Ledger& ledger)
      : database_(database), catalog_(catalog), chunks_(chunks), ledger_(ledger) {}

  absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options);
  absl::StatusOr<std::vector<Damage>> ListDamage(size_t limit) const;

  // Reads one chunk; damage is quarantined, and what is right is taken out of quarantine. OK or
  // DataLossError.
  absl::Status Check(const Digest& digest, int64_t size, Sha256& sha, std::string& buffer);

 private:
  class Run;
  absl::StatusOr<Damage> Describe(const Digest& digest, std::string_view message) const;

  const Database& database_;
  const Catalog& catalog_;
  const Chunks& chunks_;
  Ledger& ledger_;
};

}  // namespace bdh::store
