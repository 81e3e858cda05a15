#include "coordination/groups.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/store/coordination_messages.h"
#include "database.h"

namespace bdh::store {
namespace {

absl::Status NoSuchGroup(std::string_view group) {
  return absl::NotFoundError(absl::StrFormat("no such group: %s", group.substr(0, 128)));
}

absl::Status OtherSpec(std::string_view group, std::string_view field, std::string_view is,
                       std::string_view asked) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "group %s exists with %s %s, not %s; send the same GroupSpec or none, or wait until it has "
      "no workers",
      group, field, is, asked));
}

absl::Status CheckSame(std::string_view group, const GroupSpec& is, const GroupSpec& asked) {
  if (is.min_workers != asked.min_workers) {
    return OtherSpec(group, "min_workers", std::to_string(is.min_workers), std::to_string(asked.min_workers));
  }
  if (is.max_workers != asked.max_workers) {
    return OtherSpec(group, "max_workers", std::to_string(is.max_workers), std::to_string(asked.max_workers));
  }
  if (is.settle != asked.settle) {
    return OtherSpec(group, "settle_duration", absl::FormatDuration(is.settle),
                     absl::FormatDuration(asked.settle));
  }
  if (is.lease != asked.lease) {
    return OtherSpec(group, "lease_duration", absl::FormatDuration(is.lease),
                     absl::FormatDuration(asked.lease));
  }
  return absl::OkStatus();
}

// A lease's id begins with its worker's name, so that it is found without a search.
std::string NewLease(std::string_view worker) {
  return absl::StrFormat("%s.%s", worker, RandomHex(16));
}
std::string_view WorkerOf(std::string_view lease) {
  return lease.substr(0, std::min(lease.rfind('.'), lease.size()));
}

}  // namespace

absl::Status GroupTable::Load() {
  MutexLock lock(core_.mutex);
  const absl::Time now = core_.options.steady_clock();
  const auto iterator = core_.journal->NewIterator(Family::kGroups);
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
    const std::string name(ToView(iterator->key()));
    auto entry = std::make_unique<Entry>();
    BDH_ASSIGN_OR_RETURN(entry->state, Parse(name, ToView(iterator->value())));
    for (auto& [worker, lease] : entry->state.leases) lease.ends = now + entry->state.spec.lease;
    entries_.emplace(name, std::move(entry));
  }
  return Journal::ToStatus(iterator->status(), "read");
}

absl::StatusOr<Coordination::Registration> GroupTable::Register(std::string_view group,
                                                                const std::optional<GroupSpec>& spec,
                                                                const Worker& worker) {
  BDH_RETURN_IF_ERROR(CheckGroupName(group));
  BDH_RETURN_IF_ERROR(CheckWorker(worker));
  if (spec.has_value()) BDH_RETURN_IF_ERROR(CheckSpec(*spec));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return RegisterLocked(group, spec, worker); });
}

absl::StatusOr<Coordination::Registration> GroupTable::RegisterLocked(std::string_view group,
                                                                      const std::optional<GroupSpec>& spec,
                                                                      const Worker& worker) {
  BDH_ASSIGN_OR_RETURN(Entry* const entry, FindOrMake(group, spec));
  State state = entry->state;
  if (spec.has_value()) state.spec = *spec;
  const auto at = state.leases.find(worker.name);
  if (at == state.leases.end() && state.leases.size() >= static_cast<size_t>(state.spec.max_workers)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "group %s has its %d workers (max_workers); wait until one leaves or its lease of %s ends", group,
        state.spec.max_workers, absl::FormatDuration(state.spec.lease)));
  }
  const std::string id = NewLease(worker.name);
  state.leases[worker.name] = {
      .id = id, .worker = worker, .ends = core_.options.steady_clock() + state.spec.lease};
  state.formed = false;
  BDH_RETURN_IF_ERROR(Save(group, *entry, std::move(state)));
  BDH_RETURN_IF_ERROR(Advance(group, *entry));
  return Coordination::Registration{.lease = id, .group = Describe(group, entry->state)};
}

absl::StatusOr<GroupTable::Entry*> GroupTable::FindOrMake(std::string_view group,
                                                          const std::optional<GroupSpec>& spec) {
  if (const auto at = entries_.find(group); at != entries_.end()) {
    Entry& entry = *at->second;
    BDH_RETURN_IF_ERROR(Advance(group, entry));
    if (spec.has_value() && !entry.state.leases.empty()) {
      BDH_RETURN_IF_ERROR(CheckSame(group, entry.state.spec, *spec));
    }
    return &entry;
  }
  if (!spec.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("group %s has no workers yet; its first one must send a GroupSpec", group));
  }
  if (entries_.size() >= static_cast<size_t>(core_.options.max_groups)) BDH_RETURN_IF_ERROR(ForgetOne());
  auto entry = std::make_unique<Entry>();
  State state;
  state.spec = *spec;
  state.generation.number = core_.journal->state().forgotten_generation();
  BDH_RETURN_IF_ERROR(Save(group, *entry, std::move(state), /*is_new=*/true));
  return entries_.emplace(group, std::move(entry)).first->second.get();
}

absl::Status GroupTable::ForgetOne() {
  auto oldest = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    BDH_RETURN_IF_ERROR(Advance(at->first, *at->second));
    if (!at->second->state.leases.empty() || at->second->holds > 0 || at->second->waiting > 0) continue;
    if (oldest == entries_.end() || at->second->state.change_time < oldest->second->state.change_time) {
      oldest = at;
    }
  }
  if (oldest == entries_.end()) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the store keeps %d groups and each has workers; try again when a run has ended", entries_.size()));
  }
  rocksdb::WriteBatch batch;
  batch.Delete((*core_.journal)[Family::kGroups], oldest->first);
  const int64_t number = oldest->second->state.generation.number;
  BDH_RETURN_IF_ERROR(core_.journal->Write(batch, [number](v1::StoredCoordination& all) {
    all.set_groups(all.groups() - 1);
    all.set_forgotten_generation(std::max(all.forgotten_generation(), number));
  }));
  entries_.erase(oldest);
  return absl::OkStatus();
}

absl::StatusOr<Group> GroupTable::Heartbeat(std::string_view group, std::string_view lease) {
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return HeartbeatLocked(group, lease); });
}

absl::StatusOr<Group> GroupTable::HeartbeatLocked(std::string_view group, std::string_view lease) {
  BDH_ASSIGN_OR_RETURN(Entry* const entry, Find(group));
  BDH_ASSIGN_OR_RETURN(Lease* const found, FindLease(group, *entry, lease));
  found->ends = core_.options.steady_clock() + entry->state.spec.lease;
  Group answer{.name = std::string(group), .spec = entry->state.spec, .formed = entry->state.formed};
  answer.generation.number = entry->state.generation.number;
  return answer;
}

absl::StatusOr<Coordination::Place> GroupTable::AwaitGeneration(std::string_view group,
                                                                std::string_view lease, int64_t after,
                                                                const Interrupt& interrupt) {
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) {
    return AwaitLocked(group, lease, after, interrupt);
  });
}

absl::StatusOr<Coordination::Place> GroupTable::AwaitLocked(std::string_view group, std::string_view lease,
                                                            int64_t after, const Interrupt& interrupt) {
  while (true) {
    BDH_ASSIGN_OR_RETURN(Entry* const entry, Find(group));
    BDH_RETURN_IF_ERROR(FindLease(group, *entry, lease).status());
    const State& state = entry->state;
    if (state.formed && state.generation.number > after) {
      const auto& members = state.generation.members;
      const auto me = std::find_if(members.begin(), members.end(), [&](const Member& member) {
        return member.worker.name == WorkerOf(lease);
      });
      BDH_CHECK(me != members.end());  // In a formed generation is whoever has a lease.
      return Coordination::Place{.generation = state.generation, .rank = me->rank};
    }
    const absl::Status status = interrupt();
    if (absl::IsDeadlineExceeded(status)) {
      return absl::DeadlineExceededError(
          absl::StrFormat("group %s has %d of the %d workers a generation needs, and its newest is %d", group,
                          state.leases.size(), state.spec.min_workers, state.generation.number));
    }
    BDH_RETURN_IF_ERROR(status);
    ++entry->waiting;
    entry->changed.WaitFor(core_.mutex, kLook);
    --entry->waiting;
  }
}

absl::Status GroupTable::Leave(std::string_view group, std::string_view lease) {
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return LeaveLocked(group, lease); });
}

absl::Status GroupTable::LeaveLocked(std::string_view group, std::string_view lease) {
  BDH_ASSIGN_OR_RETURN(Entry* const entry, Find(group));
  if (!FindLease(group, *entry, lease).ok()) return absl::OkStatus();
  State state = entry->state;
  state.leases.erase(state.leases.find(WorkerOf(lease)));
  state.formed = false;
  BDH_RETURN_IF_ERROR(Save(group, *entry, std::move(state)));
  return Advance(group, *entry);
}

absl::StatusOr<Group> GroupTable::GetGroup(std::string_view group) {
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) -> absl::StatusOr<Group> {
    BDH_ASSIGN_OR_RETURN(const Entry* const entry, Find(group));
    return Describe(group, entry->state);
  });
}

absl::StatusOr<Coordination::Groups> GroupTable::ListGroups(int size, std::string_view token) {
  BDH_RETURN_IF_ERROR(CheckPageSize(size));
  if (!token.empty() && !CheckGroupName(token).ok()) {
    return absl::InvalidArgumentError("page_token is none that this store gave");
  }
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return ListLocked(size, token); });
}

absl::StatusOr<Coordination::Groups> GroupTable::ListLocked(int size, std::string_view token) {
  constexpr size_t kMaxWorkersOfPage = 16'384;  // So that a page fits into a message.
  Coordination::Groups page;
  size_t workers = 0;
  for (auto at = entries_.upper_bound(token); at != entries_.end(); ++at) {
    if (page.groups.size() == static_cast<size_t>(size) || workers > kMaxWorkersOfPage) {
      page.next_token = page.groups.back().name;
      break;
    }
    BDH_RETURN_IF_ERROR(Advance(at->first, *at->second));
    page.groups.push_back(Describe(at->first, at->second->state));
    workers += page.groups.back().workers.size() + page.groups.back().generation.members.size();
  }
  return page;
}

absl::StatusOr<Coordination::Hold> GroupTable::HoldGeneration(const Fence& fence) {
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) -> absl::StatusOr<Coordination::Hold> {
    BDH_RETURN_IF_ERROR(CheckFence(fence));
    ++entries_.find(fence.group)->second->holds;
    return Coordination::Hold([this, group = fence.group] { Release(group); });
  });
}

void GroupTable::Release(const std::string& group) {
  MutexLock lock(core_.mutex);
  const auto at = entries_.find(group);
  BDH_CHECK(at != entries_.end() && at->second->holds > 0);
  --at->second->holds;
  at->second->changed.NotifyAll();
}

absl::Status GroupTable::CheckFence(const std::optional<Fence>& fence) const {
  if (!fence.has_value()) return absl::OkStatus();
  const auto at = entries_.find(fence->group);
  if (at == entries_.end()) return NoSuchGroup(fence->group);
  const int64_t newest = at->second->state.generation.number;
  if (fence->generation == newest) return absl::OkStatus();
  return absl::AbortedError(absl::StrFormat("generation %d of group %s is over: the newest is %d",
                                            fence->generation, fence->group, newest));
}

absl::StatusOr<bool> GroupTable::HasWorkers(std::string_view group) {
  const auto entry = Find(group);
  if (absl::IsNotFound(entry.status())) return false;
  BDH_RETURN_IF_ERROR(entry.status());
  return !(*entry)->state.leases.empty();
}

void GroupTable::AddTo(Coordination::Totals& totals) {
  totals.groups += static_cast<int64_t>(entries_.size());
  totals.generations += formed_;
  const absl::Time now = core_.options.steady_clock();
  for (const auto& [name, entry] : entries_) {
    for (const auto& [worker, lease] : entry->state.leases) totals.workers += lease.ends > now;
  }
}

absl::StatusOr<GroupTable::Entry*> GroupTable::Find(std::string_view group) {
  const auto at = entries_.find(group);
  if (at == entries_.end()) return NoSuchGroup(group);
  BDH_RETURN_IF_ERROR(Advance(group, *at->second));
  return at->second.get();
}

absl::StatusOr<GroupTable::Lease*> GroupTable::FindLease(std::string_view group, Entry& entry,
                                                         std::string_view lease) {
  const auto at = entry.state.leases.find(WorkerOf(lease));
  if (at != entry.state.leases.end() && at->second.id == lease) return &at->second;
  return absl::NotFoundError(absl::StrFormat(
      "the lease is over: group %s knows no lease '%s'; register again", group, lease.substr(0, 256)));
}

absl::Status GroupTable::Advance(std::string_view group, Entry& entry) {
  const absl::Time now = core_.options.steady_clock();
  BDH_RETURN_IF_ERROR(EndLeases(group, entry, now));
  return FormIfDue(group, entry, now);
}

absl::Status GroupTable::EndLeases(std::string_view group, Entry& entry, absl::Time now) {
  const auto is_over = [now](const auto& item) { return item.second.ends <= now; };
  if (std::none_of(entry.state.leases.begin(), entry.state.leases.end(), is_over)) return absl::OkStatus();
  State state = entry.state;
  std::erase_if(state.leases, is_over);
  state.formed = false;
  return Save(group, entry, std::move(state));
}

absl::Status GroupTable::FormIfDue(std::string_view group, Entry& entry, absl::Time now) {
  const GroupSpec& spec = entry.state.spec;
  const size_t workers = entry.state.leases.size();
  if (entry.state.formed || workers < static_cast<size_t>(spec.min_workers)) {
    entry.settled = absl::InfiniteFuture();
    return absl::OkStatus();
  }
  if (entry.settled == absl::InfiniteFuture()) entry.settled = now + spec.settle;
  const bool due = now >= entry.settled || workers == static_cast<size_t>(spec.max_workers);
  if (!due || entry.holds > 0) return absl::OkStatus();
  State state = entry.state;
  state.formed = true;
  state.generation = {.number = state.generation.number + 1, .form_time = core_.options.clock()};
  for (const auto& [name, lease] : state.leases) {
    const int rank = static_cast<int>(state.generation.members.size());
    state.generation.members.push_back({.worker = lease.worker, .rank = rank});
  }
  BDH_RETURN_IF_ERROR(Save(group, entry, std::move(state)));
  entry.settled = absl::InfiniteFuture();
  ++formed_;
  return absl::OkStatus();
}

absl::Status GroupTable::Save(std::string_view group, Entry& entry, State state, bool is_new) {
  state.change_time = core_.options.clock();
  rocksdb::WriteBatch batch;
  batch.Put((*core_.journal)[Family::kGroups], ToSlice(group), Serialize(state));
  Journal::Edit edit;
  if (is_new) edit = [](v1::StoredCoordination& all) { all.set_groups(all.groups() + 1); };
  BDH_RETURN_IF_ERROR(core_.journal->Write(batch, edit));
  entry.state = std::move(state);
  entry.changed.NotifyAll();
  return absl::OkStatus();
}

std::string GroupTable::Serialize(const State& state) {
  v1::StoredGroup record;
  *record.mutable_spec() = ToMessage(state.spec);
  record.set_formed(state.formed);
  *record.mutable_generation() = ToMessage(state.generation);
  for (const auto& [name, lease] : state.leases) {
    v1::StoredLease& stored = *record.add_leases();
    stored.set_id(lease.id);
    *stored.mutable_worker() = ToMessage(lease.worker);
  }
  record.set_change_time_us(absl::ToUnixMicros(state.change_time));
  return record.SerializeAsString();
}

absl::StatusOr<GroupTable::State> GroupTable::Parse(std::string_view group, std::string_view bytes) {
  v1::StoredGroup record;
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError(absl::StrFormat("the record of group %s is damaged", group));
  }
  State state{.spec = FromMessage(record.spec()),
              .formed = record.formed(),
              .generation = FromMessage(record.generation()),
              .leases = {},
              .change_time = absl::FromUnixMicros(record.change_time_us())};
  for (const v1::StoredLease& stored : record.leases()) {
    state.leases[stored.worker().name()] = {
        .id = stored.id(), .worker = FromMessage(stored.worker()), .ends = absl::InfinitePast()};
  }
  return state;
}

Group GroupTable::Describe(std::string_view name, const State& state) {
  Group group{.name = std::string(name),
              .spec = state.spec,
              .formed = state.formed,
              .generation = state.generation,
              .workers = {}};
  for (const auto& [worker, lease] : state.leases) group.workers.push_back(lease.worker);
  return group;
}

}  // namespace bdh::store
