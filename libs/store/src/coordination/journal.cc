#include "coordination/journal.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "database.h"

namespace bdh::store {
namespace {

constexpr uint32_t kFormat = 1;
constexpr size_t kMiB = 1 << 20;
constexpr char kState[] = "state";

// RocksDB demands that the first one has this name.
constexpr const char* kNames[] = {"default",  "groups",  "namespaces",  "values",
                                  "requests", "records", "record_order"};
static_assert(std::size(kNames) == static_cast<size_t>(Family::kCount));

rocksdb::DBOptions OptionsOfDatabase(bool create) {
  rocksdb::DBOptions options;
  options.create_if_missing = create;
  options.create_missing_column_families = create;
  // As for the checkpoints: recovery stops where a power cut tore the log, HighWater tells that from damage.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_total_wal_size = 64 * kMiB;
  options.max_open_files = 200;
  options.max_log_file_size = kMiB;
  options.keep_log_file_num = 2;
  options.stats_dump_period_sec = 0;
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> Descriptors() {
  rocksdb::ColumnFamilyOptions options;
  rocksdb::BlockBasedTableOptions blocks;
  blocks.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(blocks));
  options.write_buffer_size = 4 * kMiB;
  std::vector<rocksdb::ColumnFamilyDescriptor> out;
  for (const char* name : kNames) out.emplace_back(name, options);
  return out;
}

absl::Status InWords(const absl::Status& status, const std::string& folder) {
  if (status.ok() || absl::IsFailedPrecondition(status)) return status;
  const absl::StatusCode code = absl::IsInternal(status) ? absl::StatusCode::kDataLoss : status.code();
  return absl::Status(
      code,
      absl::StrFormat("what runs agreed on, in %s, cannot be opened: %s. Nothing was changed; restore the "
                      "folder from a backup, or remove it if no run is to go on",
                      folder, status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& folder) {
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_ASSIGN_OR_RETURN(HighWater high_water, HighWater::Open(SystemFiles(), folder + "/high_water"));
  const bool used = high_water.value() > 0;
  const std::string database = folder + "/db";
  BDH_ASSIGN_OR_RETURN(const bool exists, Database::Exists(SystemFiles(), database));
  if (used && !exists) return InWords(absl::DataLossError("its database is gone"), folder);
  if (used) {
    // Looks before anything is written: opening for writing would make what a damaged log has lost final.
    BDH_ASSIGN_OR_RETURN(HighWater witness, HighWater::Open(SystemFiles(), folder + "/high_water"));
    const auto look = std::unique_ptr<Journal>(new Journal(std::move(witness)));
    BDH_RETURN_IF_ERROR(InWords(look->OpenDatabase(database, Mode::kReadOnly), folder));
  }
  auto journal = std::unique_ptr<Journal>(new Journal(std::move(high_water)));
  BDH_RETURN_IF_ERROR(InWords(journal->OpenDatabase(database, Mode::kReadWrite), folder));
  return journal;
}

absl::Status Journal::OpenDatabase(const std::string& folder, Mode mode) {
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      mode == Mode::kReadOnly
          ? rocksdb::DB::OpenForReadOnly(OptionsOfDatabase(false), folder, Descriptors(), &families_, &db)
          : rocksdb::DB::Open(OptionsOfDatabase(true), folder, Descriptors(), &families_, &db);
  db_.reset(db);
  BDH_RETURN_IF_ERROR(ToStatus(status, "open"));
  return ReadState();
}

absl::Status Journal::ReadState() {
  MutexLock lock(mutex_);
  const auto bytes = Get(Family::kState, kState);
  if (!bytes.ok() && !absl::IsNotFound(bytes.status())) return bytes.status();
  if (bytes.ok() && !state_.ParseFromString(*bytes))
    return absl::DataLossError("its first record is damaged");
  if (!bytes.ok()) state_.set_format(kFormat);
  if (state_.format() > kFormat) {
    return absl::FailedPreconditionError(
        absl::StrFormat("what runs agreed on was written in format %d by a newer version; this one knows %d: "
                        "use the newer one",
                        state_.format(), kFormat));
  }
  if (state_.sequence() < high_water_.value()) {
    return absl::DataLossError(
        absl::StrFormat("its last %d changes are lost: the log is damaged or a file was replaced",
                        high_water_.value() - state_.sequence()));
  }
  BDH_RETURN_IF_ERROR(CheckCount(Family::kGroups, "groups", state_.groups()));
  BDH_RETURN_IF_ERROR(CheckCount(Family::kRecords, "run records", state_.run_records()));
  BDH_RETURN_IF_ERROR(CheckCount(Family::kNamespaces, "namespaces", state_.namespaces()));
  written_ = durable_ = state_.sequence();
  return absl::OkStatus();
}

absl::Status Journal::CheckCount(Family family, std::string_view what, uint64_t want) const {
  uint64_t count = 0;
  const auto iterator = NewIterator(family);
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) ++count;
  BDH_RETURN_IF_ERROR(ToStatus(iterator->status(), "read"));
  if (count == want) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("there are %d %s where %d were committed", count, what, want));
}

Journal::~Journal() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
  const rocksdb::Status status = db_->Close();
  if (!status.ok()) BDH_LOG(WARNING) << "coordination closed with an error: " << status.ToString();
}

absl::StatusOr<std::string> Journal::Get(Family family, std::string_view key) const {
  std::string value;
  BDH_RETURN_IF_ERROR(
      ToStatus(db_->Get(rocksdb::ReadOptions(), (*this)[family], ToSlice(key), &value), "read"));
  return value;
}

absl::StatusOr<bool> Journal::Has(Family family, std::string_view key) const {
  rocksdb::PinnableSlice value;
  const absl::Status status =
      ToStatus(db_->Get(rocksdb::ReadOptions(), (*this)[family], ToSlice(key), &value), "read");
  if (absl::IsNotFound(status)) return false;
  if (!status.ok()) return status;
  return true;
}

std::unique_ptr<rocksdb::Iterator> Journal::NewIterator(Family family) const {
  return std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(rocksdb::ReadOptions(), (*this)[family]));
}

absl::Status Journal::Write(rocksdb::WriteBatch& batch, const Edit& edit) {
  if (stopped_) {
    // After a full disk RocksDB writes nothing until told that there is room again.
    BDH_RETURN_IF_ERROR(ToStatus(db_->Resume(), "resume writing"));
    stopped_ = false;
  }
  v1::StoredCoordination next = state_;
  if (edit) edit(next);
  next.set_sequence(state_.sequence() + 1);
  batch.Put((*this)[Family::kState], kState, next.SerializeAsString());
  const rocksdb::Status status = db_->Write(rocksdb::WriteOptions(), &batch);
  if (!status.ok()) {
    stopped_ = true;
    return ToStatus(status, "write");
  }
  state_ = std::move(next);
  written_ = state_.sequence();
  return absl::OkStatus();
}

absl::Status Journal::AwaitDurable(uint64_t number) {
  MutexLock lock(mutex_);
  while (durable_ < number) {
    if (syncing_) {
      synced_.Wait(mutex_);
      continue;
    }
    // This caller syncs for all that have written until now; those that write meanwhile share the next one.
    syncing_ = true;
    const uint64_t target = written_;
    mutex_.Unlock();
    const rocksdb::Status status = db_->SyncWAL();
    mutex_.Lock();
    syncing_ = false;
    if (status.ok()) {
      durable_ = target;
      high_water_.Raise(target);
    }
    synced_.NotifyAll();
    if (!status.ok()) return ToStatus(status, "sync the log");
  }
  return absl::OkStatus();
}

absl::Status Journal::CopyTo(const std::string& folder) {
  BDH_RETURN_IF_ERROR(AwaitDurable(written()));
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  rocksdb::Checkpoint* made = nullptr;
  BDH_RETURN_IF_ERROR(ToStatus(rocksdb::Checkpoint::Create(db_.get(), &made), "copy"));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  uint64_t sequence = 0;
  return ToStatus(checkpoint->CreateCheckpoint(folder + "/db", /*log_size_for_flush=*/0, &sequence), "copy");
}

absl::Status Journal::ToStatus(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrFormat("%s what runs agreed on: %s", doing, status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(message + "; delete checkpoints or make room");
  }
  if (status.IsCorruption() || status.IsPathNotFound()) return absl::DataLossError(message);
  return absl::InternalError(message);
}

}  // namespace bdh::store
