#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordination/core.h"
#include "coordination/groups.h"

namespace bdh::store {

// Small values under keys, in namespaces. They live on disk; in memory are only those who wait for keys.
class ValueTable {
 public:
  ValueTable(Core& core, const GroupTable& groups) : core_(core), groups_(groups) {}

  // As in Coordination.
  absl::Status Set(std::string_view space, std::string_view key, std::string_view value,
                   const std::optional<Fence>& fence);
  absl::StatusOr<std::string> Get(std::string_view space, std::string_view key);
  absl::Status WaitForKeys(std::string_view space, const std::vector<std::string>& keys,
                           const Interrupt& interrupt);
  absl::StatusOr<bool> HasKeys(std::string_view space, const std::vector<std::string>& keys);
  absl::StatusOr<int64_t> Add(std::string_view space, std::string_view key, int64_t amount,
                              std::string_view request_id, const std::optional<Fence>& fence);
  absl::StatusOr<Coordination::Swap> CompareAndSet(std::string_view space, std::string_view key,
                                                   std::string_view expected, std::string_view desired,
                                                   const std::optional<Fence>& fence);
  absl::StatusOr<bool> Delete(std::string_view space, std::string_view key,
                              const std::optional<Fence>& fence);
  absl::StatusOr<int64_t> CountKeys(std::string_view space);
  absl::StatusOr<int64_t> DeleteNamespace(std::string_view space, const std::optional<Fence>& fence);

 private:
  struct Watch {
    int waiting = 0;
    CondVar changed;
  };
  // One change of a namespace on its way into a batch.
  class Change;

  absl::Status SetLocked(std::string_view space, std::string_view key, std::string_view value,
                         const std::optional<Fence>& fence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status WaitLocked(std::string_view space, const std::vector<std::string>& keys,
                          const Interrupt& interrupt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status WaitForOne(std::string_view space, std::string_view key, Watch& watch,
                          const Interrupt& interrupt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  // The first of `keys` that has no value; nullopt if all have.
  absl::StatusOr<std::optional<std::string>> FindMissing(std::string_view space,
                                                         const std::vector<std::string>& keys) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<int64_t> AddLocked(std::string_view space, std::string_view key, int64_t amount,
                                    std::string_view request_id, const std::optional<Fence>& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Coordination::Swap> SwapLocked(std::string_view space, std::string_view key,
                                                std::string_view expected, std::string_view desired,
                                                const std::optional<Fence>& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<bool> DeleteLocked(std::string_view space, std::string_view key,
                                    const std::optional<Fence>& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<int64_t> DeleteAllLocked(std::string_view space, const std::optional<Fence>& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<std::optional<std::string>> Read(std::string_view space, std::string_view key) const;
  absl::StatusOr<std::optional<v1::StoredNamespace>> ReadNamespace(std::string_view space) const;

  Core& core_;
  const GroupTable& groups_;
  std::map<std::string, Watch, std::less<>> watches_ ABSL_GUARDED_BY(core_.mutex);
};

}  // namespace bdh::store
