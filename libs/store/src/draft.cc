#include "draft.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "ledger.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxTableName = 32;

absl::Status CheckTable(std::string_view table) {
  const bool letters =
      std::all_of(table.begin(), table.end(), [](char c) { return absl::ascii_islower(c) || c == '_'; });
  if (!table.empty() && table.size() <= kMaxTableName && letters && table[0] != '_') return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "\"%s\" is no table of records; want 1 to %d of [a-z_], not beginning with _", table, kMaxTableName));
}

}  // namespace

std::string RecordKey(std::string_view table, std::string_view key) {
  std::string out;
  out.reserve(table.size() + 1 + key.size());
  out.append(table).push_back('\0');
  return out.append(key);
}

absl::StatusOr<std::vector<Record>> ScanRecords(const Database& database, std::string_view table,
                                                std::string_view prefix, std::string_view after, size_t limit,
                                                const rocksdb::Snapshot* snapshot) {
  std::vector<Record> records;
  const std::string begin = RecordKey(table, prefix);
  const std::string after_key = RecordKey(table, after);
  const size_t table_bytes = table.size() + 1;
  const auto iterator = database.NewIterator(Table::kRecords, snapshot);
  for (iterator->Seek(std::max(begin, after_key)); iterator->Valid() && records.size() < limit;
       iterator->Next()) {
    const std::string_view key = ToView(iterator->key());
    if (key.substr(0, begin.size()) != begin) break;
    if (!after.empty() && key == after_key) continue;
    records.push_back({.key = std::string(key.substr(table_bytes)), .value = iterator->value().ToString()});
  }
  BDH_RETURN_IF_ERROR(database.ToStatus(iterator->status(), "read records"));
  return records;
}

absl::StatusOr<std::optional<std::string>> GetRecord(const Database& database, std::string_view table,
                                                     std::string_view key,
                                                     const rocksdb::Snapshot* snapshot) {
  auto value = database.Get(Table::kRecords, RecordKey(table, key), snapshot);
  if (absl::IsNotFound(value.status())) return std::optional<std::string>();
  BDH_RETURN_IF_ERROR(value.status());
  return std::optional<std::string>(*std::move(value));
}

absl::StatusOr<std::optional<std::string>> Draft::Get(std::string_view table, std::string_view key) {
  const auto found = written_.find(RecordKey(table, key));
  if (found != written_.end()) return found->second;
  return GetRecord(database_, table, key);
}

absl::StatusOr<std::vector<Record>> Draft::Scan(std::string_view table, std::string_view prefix,
                                                std::string_view after, size_t limit) {
  return ScanRecords(database_, table, prefix, after, limit);
}

void Draft::Put(std::string_view table, std::string_view key, std::string_view value) {
  if (by_caller_) misused_.Update(CheckTable(table));
  const std::string full = RecordKey(table, key);
  batch.Put(database_[Table::kRecords], full, ToSlice(value));
  written_[full] = std::string(value);
}

void Draft::Delete(std::string_view table, std::string_view key) {
  if (by_caller_) misused_.Update(CheckTable(table));
  const std::string full = RecordKey(table, key);
  batch.Delete(database_[Table::kRecords], full);
  written_[full] = std::nullopt;
}

void Draft::Unlist(uint64_t id) {
  batch.Put(database_[Table::kPending], PendingManifest(IdKey(id)), "");
  unlisted_.push_back(id);
}

absl::Status Draft::DeleteBlob(uint64_t id) {
  const std::string key = RecordKey(own::kBlobs, IdKey(id));
  const auto found = written_.find(key);
  if (found != written_.end() && !found->second.has_value()) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(const auto blob, GetRecord(database_, own::kBlobs, IdKey(id)));
  if (!blob.has_value()) return absl::OkStatus();
  batch.Delete(database_[Table::kRecords], key);
  written_[key] = std::nullopt;
  v1::StoredBlob stored;
  BDH_RETURN_IF_ERROR(ParseRecordInto(*blob, "a blob", stored));
  state.set_blobs(state.blobs() - 1);
  state.set_logical_bytes(state.logical_bytes() - stored.size_bytes());
  Unlist(id);
  return absl::OkStatus();
}

absl::Status Draft::Run(const Change& change) {
  if (!change) return absl::OkStatus();
  by_caller_ = true;
  const absl::Status status = change(*this);
  by_caller_ = false;
  BDH_RETURN_IF_ERROR(status);
  return misused_;
}

}  // namespace bdh::store
