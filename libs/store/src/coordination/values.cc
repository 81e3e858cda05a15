#include "coordination/values.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "database.h"

namespace bdh::store {
namespace {

constexpr uint64_t kMaxKeys = 65'536;
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;
constexpr uint64_t kRequestsKept = 1024;
constexpr size_t kMaxRequestId = 64;
constexpr size_t kMaxKeysOfWait = 4096;

// No namespace has a byte 0 in its name, so what begins with "name\0" is all of it and nothing else's.
std::string KeyOf(std::string_view space, std::string_view key) {
  return absl::StrFormat("%s%c%s", space, '\0', key);
}
std::string EndOf(std::string_view space) {
  return absl::StrFormat("%s%c", space, '\1');
}
// Requests by what the caller drew, and in the order they came.
std::string RequestKey(std::string_view space, std::string_view id) {
  return absl::StrFormat("%s%cr%s", space, '\0', id);
}
std::string RequestOrderKey(std::string_view space, uint64_t number) {
  return absl::StrFormat("%s%co%s", space, '\0', IdKey(number));
}

std::string ForPeople(std::string_view key) {
  return absl::CHexEscape(absl::string_view(key.data(), std::min<size_t>(key.size(), 128)));
}

absl::Status CheckName(std::string_view space, std::string_view key) {
  BDH_RETURN_IF_ERROR(CheckNamespace(space));
  return CheckKey(key);
}

absl::Status CheckKeys(std::string_view space, const std::vector<std::string>& keys) {
  BDH_RETURN_IF_ERROR(CheckNamespace(space));
  if (keys.empty() || keys.size() > kMaxKeysOfWait) {
    return absl::InvalidArgumentError(
        absl::StrFormat("there are %d keys; want 1 to %d", keys.size(), kMaxKeysOfWait));
  }
  for (const std::string& key : keys) BDH_RETURN_IF_ERROR(CheckKey(key));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Sum(const std::optional<std::string>& value, int64_t amount) {
  int64_t number = 0;
  if (value.has_value() && !absl::SimpleAtoi(*value, &number)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the value '%s' is not a number of 64 bits", ForPeople(*value)));
  }
  int64_t sum = 0;
  if (__builtin_add_overflow(number, amount, &sum)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%d + %d is not a number of 64 bits", number, amount));
  }
  return sum;
}

}  // namespace

// Collects what one call changes, and writes it only if the namespace and the store have room for it.
class ValueTable::Change {
 public:
  Change(ValueTable& table, std::string_view space) : table_(table), space_(space) {}

  absl::Status Begin() {
    BDH_ASSIGN_OR_RETURN(const auto record, table_.ReadNamespace(space_));
    existed_ = record.has_value();
    if (existed_) before_ = after_ = *record;
    return absl::OkStatus();
  }

  void Put(std::string_view key, const std::optional<std::string>& old, std::string_view value) {
    after_.set_keys(after_.keys() + (old.has_value() ? 0 : 1));
    after_.set_bytes(after_.bytes() - (old.has_value() ? key.size() + old->size() : 0) + key.size() +
                     value.size());
    batch_.Put(journal()[Family::kValues], KeyOf(space_, key), ToSlice(value));
  }

  void Delete(std::string_view key, const std::string& old) {
    after_.set_keys(after_.keys() - 1);
    after_.set_bytes(after_.bytes() - key.size() - old.size());
    batch_.Delete(journal()[Family::kValues], KeyOf(space_, key));
  }

  absl::Status Remember(std::string_view id, std::string_view key, int64_t amount, int64_t sum) {
    v1::StoredRequest request;
    request.set_number(after_.next_request());
    request.set_key(std::string(key));
    request.set_amount(amount);
    request.set_sum(sum);
    batch_.Put(journal()[Family::kRequests], RequestKey(space_, id), request.SerializeAsString());
    batch_.Put(journal()[Family::kRequests], RequestOrderKey(space_, after_.next_request()), ToSlice(id));
    after_.set_next_request(after_.next_request() + 1);
    if (after_.next_request() - after_.first_request() <= kRequestsKept) return absl::OkStatus();
    const std::string oldest = RequestOrderKey(space_, after_.first_request());
    BDH_ASSIGN_OR_RETURN(const std::string forgotten, journal().Get(Family::kRequests, oldest));
    batch_.Delete(journal()[Family::kRequests], RequestKey(space_, forgotten));
    batch_.Delete(journal()[Family::kRequests], oldest);
    after_.set_first_request(after_.first_request() + 1);
    return absl::OkStatus();
  }

  // Of the whole namespace.
  int64_t DeleteAll() {
    for (const Family family : {Family::kValues, Family::kRequests}) {
      batch_.DeleteRange(journal()[family], KeyOf(space_, ""), EndOf(space_));
    }
    gone_ = true;
    after_.Clear();
    return static_cast<int64_t>(before_.keys());
  }

  // The caller holds the lock of `table`, which clang does not see to be this one.
  absl::Status Commit() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    BDH_RETURN_IF_ERROR(CheckRoom());
    const bool existed = existed_, exists = !gone_;
    if (exists) {
      batch_.Put(journal()[Family::kNamespaces], ToSlice(space_), after_.SerializeAsString());
    } else if (existed) {
      batch_.Delete(journal()[Family::kNamespaces], ToSlice(space_));
    } else {
      return absl::OkStatus();
    }
    const uint64_t less = before_.bytes(), more = after_.bytes();
    BDH_RETURN_IF_ERROR(journal().Write(batch_, [=](v1::StoredCoordination& all) {
      all.set_namespaces(all.namespaces() - existed + exists);
      all.set_value_bytes(all.value_bytes() - less + more);
    }));
    if (const auto watch = table_.watches_.find(space_); watch != table_.watches_.end()) {
      watch->second.changed.NotifyAll();
    }
    return absl::OkStatus();
  }

  bool existed() const { return existed_; }

 private:
  Journal& journal() const { return *table_.core_.journal; }

  absl::Status CheckRoom() const {
    if (after_.keys() > before_.keys() && after_.keys() > kMaxKeys) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "namespace %s is full: it has %d keys; delete some, or the namespace", space_, before_.keys()));
    }
    if (after_.bytes() <= before_.bytes() && existed_) return absl::OkStatus();
    if (after_.bytes() > kMaxBytes) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "namespace %s is full: it holds %s and %s would not fit into %s; delete keys, or the namespace",
          space_, FormatBytes(before_.bytes()), FormatBytes(after_.bytes() - before_.bytes()),
          FormatBytes(kMaxBytes)));
    }
    return CheckRoomOfAll();
  }

  absl::Status CheckRoomOfAll() const {
    const v1::StoredCoordination& all = journal().state();
    const Coordination::Options& options = table_.core_.options;
    if (!existed_ && all.namespaces() >= static_cast<uint64_t>(options.max_namespaces)) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the store has %d namespaces and no room for another; delete those of generations "
                          "that are over",
                          all.namespaces()));
    }
    if (all.value_bytes() + after_.bytes() - before_.bytes() >
        static_cast<uint64_t>(options.max_value_bytes)) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "the namespaces hold %s and no more than %s; delete those of generations that are over",
          FormatBytes(all.value_bytes()), FormatBytes(static_cast<uint64_t>(options.max_value_bytes))));
    }
    return absl::OkStatus();
  }

  ValueTable& table_;
  const std::string space_;
  rocksdb::WriteBatch batch_;
  v1::StoredNamespace before_, after_;
  bool existed_ = false;
  bool gone_ = false;
};

absl::StatusOr<std::optional<std::string>> ValueTable::Read(std::string_view space,
                                                            std::string_view key) const {
  auto value = core_.journal->Get(Family::kValues, KeyOf(space, key));
  if (absl::IsNotFound(value.status())) return std::nullopt;
  BDH_RETURN_IF_ERROR(value.status());
  return *std::move(value);
}

absl::StatusOr<std::optional<v1::StoredNamespace>> ValueTable::ReadNamespace(std::string_view space) const {
  const auto bytes = core_.journal->Get(Family::kNamespaces, space);
  if (absl::IsNotFound(bytes.status())) return std::nullopt;
  BDH_RETURN_IF_ERROR(bytes.status());
  v1::StoredNamespace record;
  if (record.ParseFromString(*bytes)) return record;
  return absl::DataLossError(absl::StrFormat("the record of namespace %s is damaged", space));
}

absl::Status ValueTable::Set(std::string_view space, std::string_view key, std::string_view value,
                             const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckName(space, key));
  BDH_RETURN_IF_ERROR(CheckValue(value));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return SetLocked(space, key, value, fence); });
}

absl::Status ValueTable::SetLocked(std::string_view space, std::string_view key, std::string_view value,
                                   const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  BDH_ASSIGN_OR_RETURN(const auto old, Read(space, key));
  Change change(*this, space);
  BDH_RETURN_IF_ERROR(change.Begin());
  change.Put(key, old, value);
  return change.Commit();
}

absl::StatusOr<std::string> ValueTable::Get(std::string_view space, std::string_view key) {
  BDH_RETURN_IF_ERROR(CheckName(space, key));
  return core_.Answer([&]() -> absl::StatusOr<std::string> {
    BDH_ASSIGN_OR_RETURN(auto value, Read(space, key));
    if (value.has_value()) return *std::move(value);
    return absl::NotFoundError(absl::StrFormat("namespace %s has no key '%s'", space, ForPeople(key)));
  });
}

absl::Status ValueTable::WaitForKeys(std::string_view space, const std::vector<std::string>& keys,
                                     const Interrupt& interrupt) {
  BDH_RETURN_IF_ERROR(CheckKeys(space, keys));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return WaitLocked(space, keys, interrupt); });
}

absl::Status ValueTable::WaitLocked(std::string_view space, const std::vector<std::string>& keys,
                                    const Interrupt& interrupt) {
  const auto at = watches_.try_emplace(std::string(space)).first;
  ++at->second.waiting;
  absl::Status status;
  while (status.ok()) {
    // All are looked for again once the one that was missing is there: others may have been deleted.
    const auto missing = FindMissing(space, keys);
    status = missing.status();
    if (!status.ok() || !missing->has_value()) break;
    status = WaitForOne(space, **missing, at->second, interrupt);
  }
  if (--at->second.waiting == 0) watches_.erase(at);
  return status;
}

absl::Status ValueTable::WaitForOne(std::string_view space, std::string_view key, Watch& watch,
                                    const Interrupt& interrupt) {
  while (true) {
    BDH_ASSIGN_OR_RETURN(const bool there, core_.journal->Has(Family::kValues, KeyOf(space, key)));
    if (there) return absl::OkStatus();
    const absl::Status status = interrupt();
    if (absl::IsDeadlineExceeded(status)) {
      return absl::DeadlineExceededError(
          absl::StrFormat("namespace %s still has no key '%s'", space, ForPeople(key)));
    }
    BDH_RETURN_IF_ERROR(status);
    watch.changed.WaitFor(core_.mutex, kLook);
  }
}

absl::StatusOr<std::optional<std::string>> ValueTable::FindMissing(
    std::string_view space, const std::vector<std::string>& keys) const {
  for (const std::string& key : keys) {
    BDH_ASSIGN_OR_RETURN(const bool there, core_.journal->Has(Family::kValues, KeyOf(space, key)));
    if (!there) return key;
  }
  return std::nullopt;
}

absl::StatusOr<bool> ValueTable::HasKeys(std::string_view space, const std::vector<std::string>& keys) {
  BDH_RETURN_IF_ERROR(CheckKeys(space, keys));
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) -> absl::StatusOr<bool> {
    BDH_ASSIGN_OR_RETURN(const auto missing, FindMissing(space, keys));
    return !missing.has_value();
  });
}

absl::StatusOr<int64_t> ValueTable::Add(std::string_view space, std::string_view key, int64_t amount,
                                        std::string_view request_id, const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckName(space, key));
  if (request_id.size() > kMaxRequestId) {
    return absl::InvalidArgumentError(
        absl::StrFormat("request_id has %d bytes; want at most %d", request_id.size(), kMaxRequestId));
  }
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) {
    return AddLocked(space, key, amount, request_id, fence);
  });
}

absl::StatusOr<int64_t> ValueTable::AddLocked(std::string_view space, std::string_view key, int64_t amount,
                                              std::string_view request_id,
                                              const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  if (!request_id.empty()) {
    const auto known = core_.journal->Get(Family::kRequests, RequestKey(space, request_id));
    v1::StoredRequest request;
    if (known.ok() && request.ParseFromString(*known)) {
      if (request.key() == key && request.amount() == amount) return request.sum();
      return absl::InvalidArgumentError(
          "request_id was used for another key or amount; draw a new one for each request");
    }
    if (!absl::IsNotFound(known.status())) return known.status();
  }
  BDH_ASSIGN_OR_RETURN(const auto old, Read(space, key));
  BDH_ASSIGN_OR_RETURN(const int64_t sum, Sum(old, amount));
  Change change(*this, space);
  BDH_RETURN_IF_ERROR(change.Begin());
  change.Put(key, old, std::to_string(sum));
  if (!request_id.empty()) BDH_RETURN_IF_ERROR(change.Remember(request_id, key, amount, sum));
  BDH_RETURN_IF_ERROR(change.Commit());
  return sum;
}

absl::StatusOr<Coordination::Swap> ValueTable::CompareAndSet(std::string_view space, std::string_view key,
                                                             std::string_view expected,
                                                             std::string_view desired,
                                                             const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckName(space, key));
  BDH_RETURN_IF_ERROR(CheckValue(desired));
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) {
    return SwapLocked(space, key, expected, desired, fence);
  });
}

absl::StatusOr<Coordination::Swap> ValueTable::SwapLocked(std::string_view space, std::string_view key,
                                                          std::string_view expected, std::string_view desired,
                                                          const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  BDH_ASSIGN_OR_RETURN(const auto old, Read(space, key));
  if (old.value_or("") != expected) return Coordination::Swap{.was_set = false, .value = old.value_or("")};
  Change change(*this, space);
  BDH_RETURN_IF_ERROR(change.Begin());
  change.Put(key, old, desired);
  BDH_RETURN_IF_ERROR(change.Commit());
  return Coordination::Swap{.was_set = true, .value = std::string(desired)};
}

absl::StatusOr<bool> ValueTable::Delete(std::string_view space, std::string_view key,
                                        const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckName(space, key));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return DeleteLocked(space, key, fence); });
}

absl::StatusOr<bool> ValueTable::DeleteLocked(std::string_view space, std::string_view key,
                                              const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  BDH_ASSIGN_OR_RETURN(const auto old, Read(space, key));
  if (!old.has_value()) return false;
  Change change(*this, space);
  BDH_RETURN_IF_ERROR(change.Begin());
  change.Delete(key, *old);
  BDH_RETURN_IF_ERROR(change.Commit());
  return true;
}

absl::StatusOr<int64_t> ValueTable::CountKeys(std::string_view space) {
  BDH_RETURN_IF_ERROR(CheckNamespace(space));
  return core_.Answer([&]() -> absl::StatusOr<int64_t> {
    BDH_ASSIGN_OR_RETURN(const auto record, ReadNamespace(space));
    return record.has_value() ? static_cast<int64_t>(record->keys()) : 0;
  });
}

absl::StatusOr<int64_t> ValueTable::DeleteNamespace(std::string_view space,
                                                    const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckNamespace(space));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return DeleteAllLocked(space, fence); });
}

absl::StatusOr<int64_t> ValueTable::DeleteAllLocked(std::string_view space,
                                                    const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  Change change(*this, space);
  BDH_RETURN_IF_ERROR(change.Begin());
  const int64_t keys = change.DeleteAll();
  BDH_RETURN_IF_ERROR(change.Commit());
  return keys;
}

}  // namespace bdh::store
