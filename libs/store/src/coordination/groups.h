#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "coordination/core.h"

namespace bdh::store {

// Membership. All groups are in memory; what must survive is written before anybody hears of it. Nothing runs
// in the background: whoever asks about a group first brings it up to the present.
class GroupTable {
 public:
  explicit GroupTable(Core& core) : core_(core) {}
  // Gives every lease its whole time.
  absl::Status Load();

  absl::StatusOr<Coordination::Registration> Register(std::string_view group,
                                                      const std::optional<GroupSpec>& spec,
                                                      const Worker& worker);
  absl::StatusOr<Group> Heartbeat(std::string_view group, std::string_view lease);
  absl::StatusOr<Coordination::Place> AwaitGeneration(std::string_view group, std::string_view lease,
                                                      int64_t after, const Interrupt& interrupt);
  absl::Status Leave(std::string_view group, std::string_view lease);
  absl::StatusOr<Group> GetGroup(std::string_view group);
  absl::StatusOr<Coordination::Groups> ListGroups(int size, std::string_view token);
  absl::StatusOr<Coordination::Hold> HoldGeneration(const Fence& fence);

  // For those who hold the lock of `core`; clang does not see that theirs is this one.
  absl::Status CheckFence(const std::optional<Fence>& fence) const ABSL_NO_THREAD_SAFETY_ANALYSIS;
  absl::StatusOr<bool> HasWorkers(std::string_view group) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void AddTo(Coordination::Totals& totals) ABSL_NO_THREAD_SAFETY_ANALYSIS;

 private:
  struct Lease {
    std::string id;
    Worker worker;
    absl::Time ends;
  };
  // What of a group is written down.
  struct State {
    GroupSpec spec;
    bool formed = false;
    Generation generation;
    std::map<std::string, Lease, std::less<>> leases;  // By the worker's name.
    absl::Time change_time;
  };
  struct Entry {
    State state;
    absl::Time settled = absl::InfiniteFuture();  // When it forms with what it has then.
    int holds = 0;                                // Writes in flight that its generation must outlive.
    int waiting = 0;                              // On `changed`: keeps the entry from being forgotten.
    CondVar changed;
  };
  using Entries = std::map<std::string, std::unique_ptr<Entry>, std::less<>>;

  absl::StatusOr<Entry*> Find(std::string_view group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Lease*> FindLease(std::string_view group, Entry& entry, std::string_view lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Coordination::Registration> RegisterLocked(std::string_view group,
                                                            const std::optional<GroupSpec>& spec,
                                                            const Worker& worker)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Entry*> FindOrMake(std::string_view group, const std::optional<GroupSpec>& spec)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status ForgetOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Group> HeartbeatLocked(std::string_view group, std::string_view lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Coordination::Place> AwaitLocked(std::string_view group, std::string_view lease,
                                                  int64_t after, const Interrupt& interrupt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status LeaveLocked(std::string_view group, std::string_view lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::StatusOr<Coordination::Groups> ListLocked(int size, std::string_view token)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  // Ends leases whose time is over and forms the generation that is due.
  absl::Status Advance(std::string_view group, Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status EndLeases(std::string_view group, Entry& entry, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status FormIfDue(std::string_view group, Entry& entry, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  absl::Status Save(std::string_view group, Entry& entry, State state, bool is_new = false)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex);
  void Release(const std::string& group);

  static std::string Serialize(const State& state);
  static absl::StatusOr<State> Parse(std::string_view group, std::string_view bytes);
  static Group Describe(std::string_view name, const State& state);

  Core& core_;
  Entries entries_ ABSL_GUARDED_BY(core_.mutex);
  int64_t formed_ ABSL_GUARDED_BY(core_.mutex) = 0;
};

}  // namespace bdh::store
