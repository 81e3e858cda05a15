#include "database.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>

#include <algorithm>
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
constexpr uint64_t kRoom = 1 << 20;  // Left free on the disk by every write.

// RocksDB demands that the first one has this name.
constexpr const char* kTableNames[] = {"default",    "checkpoints", "order", "manifests", "chunks",
                                       "references", "pending",     "tags",  "records",   "index"};
static_assert(std::size(kTableNames) == static_cast<size_t>(Table::kCount));

rocksdb::DBOptions OptionsOfDatabase(bool create, rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
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
  options.max_file_opening_threads = 1;  // There are few files; 16 threads a table make opening slow.
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
    // Of a store of the first format, in blob files; nothing is added to them any more.
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

absl::StatusCode CodeOf(const rocksdb::Status& status) {
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

// Hears of a full disk first, also when it is a thread of RocksDB that finds it so.
class Database::DiskWatch final : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* error) override {
    if (error->IsNoSpace()) full = true;
  }
  // CheckWritable says when it is written again. Else RocksDB looks by itself every few seconds, and refuses
  // our attempt while it does.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status, bool* by_itself) override {
    *by_itself = false;
  }

  std::atomic<bool> full{false};
};

Database::Database(Files& files, std::string folder)
    : files_(files), folder_(std::move(folder)), disk_(std::make_shared<DiskWatch>()) {}

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

absl::StatusOr<bool> Database::Exists(Files& files, const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(const std::vector<Files::Entry> entries, files.List(folder));
  bool has_data = false;
  for (const Files::Entry& entry : entries) {
    if (entry.name == "CURRENT") return true;
    // A database whose making was cut short has none of these.
    for (const char* extension : {".sst", ".blob", ".log"}) {
      if (absl::EndsWith(entry.name, extension)) has_data = true;
    }
  }
  if (!has_data) return false;
  return absl::DataLossError(absl::StrFormat(
      "%s holds data but its file CURRENT is gone; restore the folder from a backup", folder));
}

// The tables to open: all, or those that are there if the format is an older one.
absl::StatusOr<std::vector<Table>> Database::PresentTables(bool create, rocksdb::Env* env) {
  std::vector<std::string> names;
  if (!create) {
    const rocksdb::Status status =
        rocksdb::DB::ListColumnFamilies(OptionsOfDatabase(false, env), folder_, &names);
    BDH_RETURN_IF_ERROR(ToStatus(status, absl::StrFormat("open %s", folder_)));
  }
  std::vector<Table> tables;
  for (int i = 0; i < static_cast<int>(Table::kCount); ++i) {
    const auto table = static_cast<Table>(i);
    const bool there = create || std::find(names.begin(), names.end(), kTableNames[i]) != names.end();
    // A table of the first format that is gone is named by RocksDB's own refusal.
    if (there || table < Table::kRecords) {
      tables.push_back(table);
    } else {
      lacked_tables_ = true;
    }
  }
  return tables;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(Files& files, const std::string& folder, Mode mode,
                                                         bool create, rocksdb::Env* env) {
  auto database = std::unique_ptr<Database>(new Database(files, folder));
  BDH_ASSIGN_OR_RETURN(std::vector<Table> present, database->PresentTables(create, env));
  const bool read_only = mode == Mode::kReadOnly;
  if (!read_only && database->lacked_tables_) {
    BDH_ASSIGN_OR_RETURN(present, database->PresentTables(true, env));
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (const Table table : present) {
    descriptors.emplace_back(kTableNames[static_cast<int>(table)], OptionsOfTable(table));
  }
  rocksdb::DBOptions options = OptionsOfDatabase(create && !read_only, env);
  if (database->lacked_tables_) options.create_missing_column_families = !read_only;
  options.listeners.push_back(database->disk_);
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      read_only ? rocksdb::DB::OpenForReadOnly(options, folder, descriptors, &handles, &db)
                : rocksdb::DB::Open(options, folder, descriptors, &handles, &db);
  database->db_.reset(db);
  BDH_RETURN_IF_ERROR(database->ToStatus(status, absl::StrFormat("open %s", folder)));
  database->tables_.assign(static_cast<size_t>(Table::kCount), nullptr);
  for (size_t i = 0; i < present.size(); ++i) database->tables_[static_cast<int>(present[i])] = handles[i];
  return database;
}

Database::~Database() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* table : tables_) {
    if (table != nullptr) db_->DestroyColumnFamilyHandle(table);
  }
  const rocksdb::Status status = db_->Close();
  if (!status.ok()) BDH_LOG(WARNING) << "store closed with an error: " << status.ToString();
}

absl::StatusOr<std::string> Database::Get(Table table, std::string_view key,
                                          const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  std::string value;
  if ((*this)[table] == nullptr) return absl::NotFoundError("no such table");
  BDH_RETURN_IF_ERROR(ToStatus(db_->Get(options, (*this)[table], ToSlice(key), &value), "read"));
  return value;
}

std::unique_ptr<rocksdb::Iterator> Database::NewIterator(Table table,
                                                         const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.total_order_seek = true;
  if ((*this)[table] == nullptr) return std::unique_ptr<rocksdb::Iterator>(rocksdb::NewEmptyIterator());
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

// RocksDB does not find the disk full if it can be helped: it comes out of that state by chance, or ends the
// process.
absl::Status Database::CheckWritable(uint64_t bytes) {
  if (broken_) {
    return absl::InternalError(absl::StrFormat(
        "the store writes no more until it is started again, since the disk of %s failed", folder_));
  }
  if (files_.FreeBytes(folder_) < static_cast<int64_t>(bytes + kRoom)) return Full("write");
  if (!disk_->full) return absl::OkStatus();
  const MutexLock lock(resume_mutex_);
  if (!disk_->full) return absl::OkStatus();  // Somebody else did it.
  // Not before there is room: when it is full again while RocksDB resumes, it may wait for ever.
  uint64_t in_memory = 0;
  db_->GetAggregatedIntProperty(rocksdb::DB::Properties::kCurSizeAllMemTables, &in_memory);
  if (files_.FreeBytes(folder_) < static_cast<int64_t>(in_memory + kRoom)) return Full("write");
  BDH_RETURN_IF_ERROR(ToStatus(db_->Resume(), "resume writing"));
  disk_->full = false;
  return absl::OkStatus();
}

absl::Status Database::Failed(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  if (status.IsNoSpace()) disk_->full = true;
  // What fails after that, fails for that.
  if (disk_->full) return Full(doing);
  broken_ = true;
  return ToStatus(status, doing);
}

absl::Status Database::Full(std::string_view doing) const {
  return absl::ResourceExhaustedError(
      absl::StrFormat("%s: the disk of %s is full: %s free; delete checkpoints or make room", doing, folder_,
                      FormatBytes(static_cast<uint64_t>(files_.FreeBytes(folder_)))));
}

absl::Status Database::Write(rocksdb::WriteBatch& batch, bool sync) {
  const std::shared_lock lock(flush_mutex_);
  BDH_RETURN_IF_ERROR(CheckWritable(batch.GetDataSize()));
  rocksdb::WriteOptions options;
  options.sync = sync;
  return Failed(db_->Write(options, &batch), "write");
}

// Not by SyncWAL, which does not wait for its turn: beside a write that fails at this moment it would end the
// process by an assertion.
absl::Status Database::SyncLog() {
  rocksdb::WriteBatch nothing;
  return Write(nothing, true);
}

absl::Status Database::Flush() {
  const std::unique_lock lock(flush_mutex_);
  BDH_RETURN_IF_ERROR(CheckWritable(0));
  return Failed(db_->Flush(rocksdb::FlushOptions(), tables_), "flush");
}

absl::Status Database::ToStatus(const rocksdb::Status& status, std::string_view doing) const {
  if (status.ok()) return absl::OkStatus();
  if (status.IsNoSpace()) return Full(doing);
  return absl::Status(CodeOf(status), absl::StrFormat("%s: %s", doing, status.ToString()));
}

}  // namespace bdh::store
