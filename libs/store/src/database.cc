#include "database.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "digest.h"

namespace bdh::store {
namespace {

constexpr size_t kMiB = 1 << 20;

// RocksDB demands that the first one has this name.
constexpr const char* kTableNames[] = {"default", "checkpoints", "order",   "manifests",
                                       "chunks",  "references",  "pending", "tags"};
static_assert(std::size(kTableNames) == static_cast<size_t>(Table::kCount));

rocksdb::DBOptions OptionsOfDatabase(bool create) {
  rocksdb::DBOptions options;
  options.create_if_missing = create;
  options.create_missing_column_families = create;
  // A power cut may leave holes in the part of the log that was not synced. Recovery stops at the first one,
  // behind all that was acknowledged; HighWater tells this from damage to what was. Of 7.8.3's other options
  // on the log, wal_compression and track_and_verify_wals_in_manifest have bugs fixed only later.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_total_wal_size = 128 * kMiB;  // Else tables that change rarely would keep old logs alive.
  // Chunks go to disk while they arrive, so that the sync of a commit has little left to do.
  options.wal_bytes_per_sync = 4 * kMiB;
  options.bytes_per_sync = 4 * kMiB;
  options.max_open_files = 1000;
  options.max_log_file_size = 4 * kMiB;  // RocksDB's own text log.
  options.keep_log_file_num = 4;
  options.stats_dump_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions OptionsOfTable(Table table) {
  rocksdb::ColumnFamilyOptions options;
  rocksdb::BlockBasedTableOptions blocks;
  blocks.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.write_buffer_size = 8 * kMiB;
  if (table == Table::kChunks) {
    // Chunks live in blob files, so that compaction moves their 32-byte keys and not them. They are never
    // compressed: weights do not shrink. No automatic collection: it would rewrite the oldest quarter of all
    // files at every compaction, needed or not; see Reclaimer.
    options.write_buffer_size = 32 * kMiB;
    options.enable_blob_files = true;
    options.min_blob_size = 4096;
    options.compression = rocksdb::kNoCompression;
    options.bottommost_compression = rocksdb::kNoCompression;
  }
  if (table == Table::kReferences) {
    // "Does anything hold this chunk?" is asked for every chunk that arrives; mostly a filter answers.
    options.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(Digest::kBytes));
    options.memtable_prefix_bloom_size_ratio = 0.1;
  }
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(blocks));
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> Descriptors() {
  std::vector<rocksdb::ColumnFamilyDescriptor> out;
  for (int i = 0; i < static_cast<int>(Table::kCount); ++i) {
    out.emplace_back(kTableNames[i], OptionsOfTable(static_cast<Table>(i)));
  }
  return out;
}

absl::StatusCode CodeOf(const rocksdb::Status& status) {
  if (status.IsNoSpace()) return absl::StatusCode::kResourceExhausted;
  if (status.IsNotFound()) return absl::StatusCode::kNotFound;
  // A file that RocksDB wrote and cannot find again is as lost as one that fails its checksum.
  if (status.IsCorruption() || status.IsPathNotFound()) return absl::StatusCode::kDataLoss;
  if (absl::StrContains(status.ToString(), "Permission denied")) return absl::StatusCode::kPermissionDenied;
  if (status.IsIOError() && absl::StrContains(status.ToString(), "No such file")) {
    return absl::StatusCode::kDataLoss;
  }
  if (status.IsBusy() || status.IsTryAgain() || status.IsTimedOut()) return absl::StatusCode::kUnavailable;
  return absl::StatusCode::kInternal;
}

}  // namespace

std::string IdKey(uint64_t id) {
  std::string key(8, '\0');
  for (int i = 0; i < 8; ++i) key[i] = static_cast<char>(id >> (8 * (7 - i)));
  return key;
}

uint64_t ParseIdKey(std::string_view key) {
  BDH_CHECK(key.size() == 8);
  uint64_t id = 0;
  for (const char c : key) id = id << 8 | static_cast<unsigned char>(c);
  return id;
}

absl::StatusOr<bool> Database::Exists(const std::string& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder + "/CURRENT", error)) return true;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string extension = entry.path().extension().string();
    // A database whose making was cut short has none of these.
    if (extension == ".sst" || extension == ".blob" || extension == ".log") {
      return absl::DataLossError(absl::StrFormat(
          "%s holds data but its file CURRENT is gone; restore the folder from a backup", folder));
    }
  }
  return false;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& folder, Mode mode, bool create) {
  auto database = std::unique_ptr<Database>(new Database(folder));
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      mode == Mode::kReadOnly
          ? rocksdb::DB::OpenForReadOnly(OptionsOfDatabase(false), folder, Descriptors(), &database->tables_,
                                         &db)
          : rocksdb::DB::Open(OptionsOfDatabase(create), folder, Descriptors(), &database->tables_, &db);
  database->db_.reset(db);
  BDH_RETURN_IF_ERROR(database->ToStatus(status, absl::StrFormat("open %s", folder)));
  return database;
}

Database::~Database() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* table : tables_) db_->DestroyColumnFamilyHandle(table);
  const rocksdb::Status status = db_->Close();
  if (!status.ok()) BDH_LOG(WARNING) << "store closed with an error: " << status.ToString();
}

absl::StatusOr<std::string> Database::Get(Table table, std::string_view key,
                                          const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  std::string value;
  BDH_RETURN_IF_ERROR(ToStatus(db_->Get(options, (*this)[table], ToSlice(key), &value), "read"));
  return value;
}

std::unique_ptr<rocksdb::Iterator> Database::NewIterator(Table table,
                                                         const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.total_order_seek = true;
  return std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(options, (*this)[table]));
}

absl::StatusOr<uint64_t> Database::CountKeys(Table table) const {
  uint64_t count = 0;
  const auto iterator = NewIterator(table);
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) ++count;
  BDH_RETURN_IF_ERROR(ToStatus(iterator->status(), "read"));
  return count;
}

absl::Status Database::Write(rocksdb::WriteBatch& batch) {
  return Write(batch, false);
}

absl::Status Database::WriteDurably(rocksdb::WriteBatch& batch) {
  return Write(batch, true);
}

absl::Status Database::Write(rocksdb::WriteBatch& batch, bool sync) {
  if (stopped_) {
    // After a full disk RocksDB writes nothing until told that there is room again.
    const rocksdb::Status resumed = db_->Resume();
    if (!resumed.ok()) return ToStatus(resumed, "resume writing");
    stopped_ = false;
  }
  rocksdb::WriteOptions options;
  options.sync = sync;
  const rocksdb::Status status = db_->Write(options, &batch);
  if (!status.ok()) stopped_ = true;
  return ToStatus(status, "write");
}

absl::Status Database::SyncLog() {
  return ToStatus(db_->SyncWAL(), "sync the log");
}

absl::Status Database::Flush() {
  return ToStatus(db_->Flush(rocksdb::FlushOptions(), tables_), "flush");
}

int64_t Database::FreeBytes() const {
  struct statvfs info;
  // A disk that cannot be asked is not taken for a full one: the write itself will tell.
  if (statvfs(folder_.c_str(), &info) != 0) return INT64_MAX;
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

absl::Status Database::ToStatus(const rocksdb::Status& status, std::string_view doing) const {
  if (status.ok()) return absl::OkStatus();
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: the disk of %s is full: %s free; delete checkpoints or make room", doing,
                        folder_, FormatBytes(static_cast<uint64_t>(FreeBytes()))));
  }
  return absl::Status(CodeOf(status), absl::StrFormat("%s: %s", doing, status.ToString()));
}

}  // namespace bdh::store
