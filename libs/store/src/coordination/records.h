#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "coordination/core.h"
#include "coordination/groups.h"

namespace bdh::store {

// Run records, in the order of their last changes.
class RecordTable {
 public:
  RecordTable(Core& core, GroupTable& groups) : core_(core), groups_(groups) {}

  // As in Coordination.
  absl::StatusOr<RunRecord> Put(RunRecord record, std::optional<int64_t> expected_revision,
                                const std::optional<Fence>& fence);
  absl::StatusOr<RunRecord> Get(std::string_view run);
  absl::StatusOr<Coordination::Records> List(const Labels& labels, int size, std::string_view token);
  absl::Status Delete(std::string_view run);

 private:
  absl::StatusOr<std::optional<v1::StoredRunRecord>> Find(std::string_view run) const;
  absl::StatusOr<RunRecord> PutLocked(RunRecord record, std::optional<int64_t> expected_revision,
                                      const std::optional<Fence>& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Coordination::Records> ListLocked(const Labels& labels, int size, uint64_t before) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status DeleteLocked(std::string_view run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);

  Core& core_;
  GroupTable& groups_;
};

}  // namespace bdh::store
