#include "coordination/records.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "database.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxRecordBytes = 1 << 20;
constexpr size_t kMaxPageBytes = 4 << 20;  // So that a page fits into a message.
constexpr int kMaxLooks = 10'000;          // Records that one page looks at.

RunRecord FromStored(std::string_view run, v1::StoredRunRecord stored) {
  return {.run = std::string(run),
          .bytes = std::move(*stored.mutable_record()),
          .labels = {stored.labels().begin(), stored.labels().end()},
          .revision = stored.revision(),
          .update_time = absl::FromUnixMicros(stored.update_time_us())};
}

absl::Status NoRecord(std::string_view run) {
  return absl::NotFoundError(absl::StrFormat("no record of run %s", run.substr(0, 64)));
}

bool HasAll(const RunRecord& record, const Labels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto at = record.labels.find(label.first);
    return at != record.labels.end() && at->second == label.second;
  });
}

// A token is where the next page begins: before this change.
absl::StatusOr<uint64_t> ParseToken(std::string_view token) {
  if (token.empty()) return UINT64_MAX;
  uint64_t before = 0;
  if (absl::SimpleAtoi(absl::string_view(token.data(), token.size()), &before) && before > 0) return before;
  return absl::InvalidArgumentError("page_token is none that this store gave");
}

}  // namespace

absl::StatusOr<std::optional<v1::StoredRunRecord>> RecordTable::Find(std::string_view run) const {
  const auto bytes = core_.journal->Get(Family::kRecords, run);
  if (absl::IsNotFound(bytes.status())) return std::nullopt;
  BDH_RETURN_IF_ERROR(bytes.status());
  v1::StoredRunRecord stored;
  if (!stored.ParseFromString(*bytes)) {
    return absl::DataLossError(absl::StrFormat("the record of run %s is damaged", run));
  }
  return stored;
}

absl::StatusOr<RunRecord> RecordTable::Put(RunRecord record, std::optional<int64_t> expected_revision,
                                           const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(CheckRun(record.run));
  BDH_RETURN_IF_ERROR(CheckLabels(record.labels));
  if (record.bytes.size() > kMaxRecordBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("the record of run %s has %d bytes; want at most %d",
                                                      record.run, record.bytes.size(), kMaxRecordBytes));
  }
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) {
    return PutLocked(std::move(record), expected_revision, fence);
  });
}

absl::StatusOr<RunRecord> RecordTable::PutLocked(RunRecord record, std::optional<int64_t> expected_revision,
                                                 const std::optional<Fence>& fence) {
  BDH_RETURN_IF_ERROR(groups_.CheckFence(fence));
  BDH_ASSIGN_OR_RETURN(const auto old, Find(record.run));
  const int64_t revision = old.has_value() ? old->revision() : 0;
  if (expected_revision.value_or(revision) != revision) {
    return absl::AbortedError(absl::StrFormat("the record of run %s is at revision %d, not %d; read it again",
                                              record.run, revision, *expected_revision));
  }
  const Journal& journal = *core_.journal;
  if (!old.has_value() &&
      journal.state().run_records() >= static_cast<uint64_t>(core_.options.max_run_records)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the store keeps %d run records and no more; delete some", journal.state().run_records()));
  }
  record.revision = revision + 1;
  record.update_time = absl::FromUnixMicros(absl::ToUnixMicros(core_.options.clock()));
  v1::StoredRunRecord stored;
  stored.set_record(record.bytes);
  stored.mutable_labels()->insert(record.labels.begin(), record.labels.end());
  stored.set_revision(record.revision);
  stored.set_update_time_us(absl::ToUnixMicros(record.update_time));
  stored.set_order(journal.state().sequence() + 1);

  rocksdb::WriteBatch batch;
  if (old.has_value()) batch.Delete(journal[Family::kRecordOrder], IdKey(old->order()));
  batch.Put(journal[Family::kRecordOrder], IdKey(stored.order()), ToSlice(record.run));
  batch.Put(journal[Family::kRecords], ToSlice(record.run), stored.SerializeAsString());
  const bool is_new = !old.has_value();
  BDH_RETURN_IF_ERROR(core_.journal->Write(
      batch, [is_new](v1::StoredCoordination& all) { all.set_run_records(all.run_records() + is_new); }));
  return record;
}

absl::StatusOr<RunRecord> RecordTable::Get(std::string_view run) {
  BDH_RETURN_IF_ERROR(CheckRun(run));
  return core_.Answer([&]() -> absl::StatusOr<RunRecord> {
    BDH_ASSIGN_OR_RETURN(auto stored, Find(run));
    if (!stored.has_value()) return NoRecord(run);
    return FromStored(run, *std::move(stored));
  });
}

absl::StatusOr<Coordination::Records> RecordTable::List(const Labels& labels, int size,
                                                        std::string_view token) {
  BDH_RETURN_IF_ERROR(CheckPageSize(size));
  BDH_RETURN_IF_ERROR(CheckLabels(labels));
  BDH_ASSIGN_OR_RETURN(const uint64_t before, ParseToken(token));
  return core_.Answer(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return ListLocked(labels, size, before); });
}

absl::StatusOr<Coordination::Records> RecordTable::ListLocked(const Labels& labels, int size,
                                                              uint64_t before) const {
  Coordination::Records page;
  size_t bytes = 0;
  int looks = 0;
  uint64_t last = 0;
  const auto order = core_.journal->NewIterator(Family::kRecordOrder);
  for (order->SeekForPrev(IdKey(before - 1)); order->Valid(); order->Prev()) {
    if (page.records.size() == static_cast<size_t>(size) || bytes > kMaxPageBytes || looks++ == kMaxLooks) {
      page.next_token = std::to_string(last);
      break;
    }
    last = ParseIdKey(ToView(order->key()));
    const std::string_view run = ToView(order->value());
    BDH_ASSIGN_OR_RETURN(auto stored, Find(run));
    if (!stored.has_value()) return absl::DataLossError(absl::StrFormat("the record of run %s is gone", run));
    RunRecord record = FromStored(run, *std::move(stored));
    if (!HasAll(record, labels)) continue;
    bytes += record.bytes.size();
    page.records.push_back(std::move(record));
  }
  BDH_RETURN_IF_ERROR(Journal::ToStatus(order->status(), "list"));
  return page;
}

absl::Status RecordTable::Delete(std::string_view run) {
  BDH_RETURN_IF_ERROR(CheckRun(run));
  return core_.Answer([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_.mutex) { return DeleteLocked(run); });
}

absl::Status RecordTable::DeleteLocked(std::string_view run) {
  BDH_ASSIGN_OR_RETURN(const auto old, Find(run));
  if (!old.has_value()) return NoRecord(run);
  const std::string group = absl::StrFormat("runs/%s", run);
  BDH_ASSIGN_OR_RETURN(const bool alive, groups_.HasWorkers(group));
  if (alive) {
    return absl::FailedPreconditionError(
        absl::StrFormat("group %s has living workers; stop the run before you delete its record", group));
  }
  const Journal& journal = *core_.journal;
  rocksdb::WriteBatch batch;
  batch.Delete(journal[Family::kRecordOrder], IdKey(old->order()));
  batch.Delete(journal[Family::kRecords], ToSlice(run));
  return core_.journal->Write(
      batch, [](v1::StoredCoordination& all) { all.set_run_records(all.run_records() - 1); });
}

}  // namespace bdh::store
