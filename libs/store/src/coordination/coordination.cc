#include "bdh/store/coordination.h"

#include <chrono>
#include <utility>

#include "bdh/base/status_macros.h"
#include "coordination/core.h"
#include "coordination/groups.h"
#include "coordination/records.h"
#include "coordination/values.h"

namespace bdh::store {

class Coordination::Impl {
 public:
  Impl(Options options, std::unique_ptr<Journal> journal) : core(std::move(options), std::move(journal)) {}

  Core core;
  GroupTable groups{core};
  ValueTable values{core, groups};
  RecordTable records{core, groups};
};

absl::Time Coordination::Monotonic() {
  return absl::FromChrono(
      std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::steady_clock::now().time_since_epoch())));
}

Coordination::Coordination(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Coordination::~Coordination() = default;

absl::StatusOr<std::unique_ptr<Coordination>> Coordination::Open(Options options) {
  BDH_ASSIGN_OR_RETURN(auto journal, Journal::Open(options.folder));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(journal));
  BDH_RETURN_IF_ERROR(impl->groups.Load());
  return std::unique_ptr<Coordination>(new Coordination(std::move(impl)));
}

absl::StatusOr<Coordination::Registration> Coordination::Register(std::string_view group,
                                                                  const std::optional<GroupSpec>& spec,
                                                                  const Worker& worker) {
  return impl_->groups.Register(group, spec, worker);
}
absl::StatusOr<Group> Coordination::Heartbeat(std::string_view group, std::string_view lease) {
  return impl_->groups.Heartbeat(group, lease);
}
absl::StatusOr<Coordination::Place> Coordination::AwaitGeneration(std::string_view group,
                                                                  std::string_view lease, int64_t after,
                                                                  const Interrupt& interrupt) {
  return impl_->groups.AwaitGeneration(group, lease, after, interrupt);
}
absl::Status Coordination::Leave(std::string_view group, std::string_view lease) {
  return impl_->groups.Leave(group, lease);
}
absl::StatusOr<Group> Coordination::GetGroup(std::string_view group) {
  return impl_->groups.GetGroup(group);
}
absl::StatusOr<Coordination::Groups> Coordination::ListGroups(int size, std::string_view token) {
  return impl_->groups.ListGroups(size, token);
}
absl::StatusOr<Coordination::Hold> Coordination::HoldGeneration(const Fence& fence) {
  return impl_->groups.HoldGeneration(fence);
}

absl::Status Coordination::Set(std::string_view space, std::string_view key, std::string_view value,
                               const std::optional<Fence>& fence) {
  return impl_->values.Set(space, key, value, fence);
}
absl::StatusOr<std::string> Coordination::Get(std::string_view space, std::string_view key) {
  return impl_->values.Get(space, key);
}
absl::Status Coordination::WaitForKeys(std::string_view space, const std::vector<std::string>& keys,
                                       const Interrupt& interrupt) {
  return impl_->values.WaitForKeys(space, keys, interrupt);
}
absl::StatusOr<bool> Coordination::HasKeys(std::string_view space, const std::vector<std::string>& keys) {
  return impl_->values.HasKeys(space, keys);
}
absl::StatusOr<int64_t> Coordination::Add(std::string_view space, std::string_view key, int64_t amount,
                                          std::string_view request_id, const std::optional<Fence>& fence) {
  return impl_->values.Add(space, key, amount, request_id, fence);
}
absl::StatusOr<Coordination::Swap> Coordination::CompareAndSet(std::string_view space, std::string_view key,
                                                               std::string_view expected,
                                                               std::string_view desired,
                                                               const std::optional<Fence>& fence) {
  return impl_->values.CompareAndSet(space, key, expected, desired, fence);
}
absl::StatusOr<bool> Coordination::Delete(std::string_view space, std::string_view key,
                                          const std::optional<Fence>& fence) {
  return impl_->values.Delete(space, key, fence);
}
absl::StatusOr<int64_t> Coordination::CountKeys(std::string_view space) {
  return impl_->values.CountKeys(space);
}
absl::StatusOr<int64_t> Coordination::DeleteNamespace(std::string_view space,
                                                      const std::optional<Fence>& fence) {
  return impl_->values.DeleteNamespace(space, fence);
}

absl::StatusOr<RunRecord> Coordination::PutRecord(RunRecord record, std::optional<int64_t> expected_revision,
                                                  const std::optional<Fence>& fence) {
  return impl_->records.Put(std::move(record), expected_revision, fence);
}
absl::StatusOr<RunRecord> Coordination::GetRecord(std::string_view run) {
  return impl_->records.Get(run);
}
absl::StatusOr<Coordination::Records> Coordination::ListRecords(const Labels& labels, int size,
                                                                std::string_view token) {
  return impl_->records.List(labels, size, token);
}
absl::Status Coordination::DeleteRecord(std::string_view run) {
  return impl_->records.Delete(run);
}

Coordination::Totals Coordination::totals() {
  MutexLock lock(impl_->core.mutex);
  const v1::StoredCoordination& state = impl_->core.journal->state();
  Totals totals{.namespaces = static_cast<int64_t>(state.namespaces()),
                .value_bytes = static_cast<int64_t>(state.value_bytes()),
                .run_records = static_cast<int64_t>(state.run_records())};
  impl_->groups.AddTo(totals);
  return totals;
}

absl::Status Coordination::CopyTo(const std::string& folder) {
  return impl_->core.journal->CopyTo(folder);
}

}  // namespace bdh::store
