#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/store/care.h"
#include "catalog.h"
#include "chunks.h"
#include "ledger.h"

namespace bdh::store {

// "poem" of "runs/poem/steps/500"; `name` is a checkpoint's.
std::string_view RunOf(std::string_view name);

// What is kept of each run. Thread-safe.
class Retention {
 public:
  Retention(const Database& database, const Catalog& catalog, const Chunks& chunks, Ledger& ledger)
      : database_(database), catalog_(catalog), chunks_(chunks), ledger_(ledger) {}

  absl::Status Set(std::string_view run, const std::optional<RetentionPolicy>& policy);
  absl::StatusOr<RetentionRule> Get(std::string_view run) const;
  // Of one run, or of all ("").
  absl::StatusOr<RetentionResult> Apply(std::string_view run, bool dry_run);
  // Applies the policy of the checkpoint's run, if there is one. Errors are logged: the commit stands.
  void AfterCommit(std::string_view checkpoint);

 private:
  absl::StatusOr<std::vector<std::string>> Runs() const;
  // What the policy lets go of the run, oldest first.
  absl::StatusOr<std::vector<v1::StoredCheckpoint>> Spare(std::string_view run,
                                                          const RetentionPolicy& policy) const;
  absl::StatusOr<int64_t> BytesOnlyHeldBy(const std::vector<v1::StoredCheckpoint>& records) const;

  const Database& database_;
  const Catalog& catalog_;
  const Chunks& chunks_;
  Ledger& ledger_;
};

}  // namespace bdh::store
