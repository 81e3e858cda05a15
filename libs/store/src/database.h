#pragma once

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/store/files.h"

namespace bdh::store {

// The tables of the store; libs/store/README.md says what stands in each. The numbers are not stored.
enum class Table {
  kState,
  kCheckpoints,
  kOrder,
  kManifests,
  kChunks,
  kReferences,
  kPending,
  kTags,
  kRecords,  // From here on: format 2.
  kIndex,
  kCount
};

inline rocksdb::Slice ToSlice(std::string_view text) {
  return {text.data(), text.size()};
}
inline std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

// Ids as keys: big-endian, so that RocksDB sorts them by number.
std::string IdKey(uint64_t id);
uint64_t ParseIdKey(std::string_view key);

// RocksDB with our tables, our options and our errors. Thread-safe.
class Database {
 public:
  enum class Mode { kReadOnly, kReadWrite };

  // Whether `folder` holds a database: false for a missing or empty one. DataLossError: it holds files of one
  // without the file that says which of them count.
  static absl::StatusOr<bool> Exists(Files& files, const std::string& folder);

  // kReadWrite makes the database, or the tables it lacks, if `create`. kReadOnly changes no file.
  static absl::StatusOr<std::unique_ptr<Database>> Open(Files& files, const std::string& folder, Mode mode,
                                                        bool create, rocksdb::Env* env = nullptr);
  ~Database();

  rocksdb::DB& db() const { return *db_; }
  // Null for a table that a database of an older format does not have; only when opened kReadOnly.
  rocksdb::ColumnFamilyHandle* operator[](Table table) const { return tables_[static_cast<int>(table)]; }
  // Whether the database was there without some of the tables of the present format.
  bool lacked_tables() const { return lacked_tables_; }

  // NotFoundError without a message of use to people: the caller knows what was looked for.
  absl::StatusOr<std::string> Get(Table table, std::string_view key,
                                  const rocksdb::Snapshot* snapshot = nullptr) const;
  std::unique_ptr<rocksdb::Iterator> NewIterator(Table table,
                                                 const rocksdb::Snapshot* snapshot = nullptr) const;
  // Of all keys. DataLossError if the table cannot be read to its end.
  absl::StatusOr<uint64_t> CountKeys(Table table) const;

  // Survives the death of the process, not a power cut.
  absl::Status Write(rocksdb::WriteBatch& batch);
  // All that was written before, by Write too, survives a power cut.
  absl::Status WriteDurably(rocksdb::WriteBatch& batch);
  absl::Status SyncLog();
  // Moves what stands in the log only into tables, so that the log's files can go.
  absl::Status Flush();

  absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing) const;

 private:
  class DiskWatch;

  Database(Files& files, std::string folder);
  absl::StatusOr<std::vector<Table>> PresentTables(bool create, rocksdb::Env* env);
  absl::Status Write(rocksdb::WriteBatch& batch, bool sync);

  absl::Status CheckWritable(uint64_t bytes);
  absl::Status Failed(const rocksdb::Status& status, std::string_view doing);
  absl::Status Full(std::string_view doing) const;

  Files& files_;
  const std::string folder_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> tables_;
  bool lacked_tables_ = false;
  // Held alone for a flush: beside a write that finds the disk full it would leave a state out of which
  // RocksDB does not come again.
  std::shared_mutex flush_mutex_;
  Mutex resume_mutex_;
  // Whether the disk was full: RocksDB writes nothing until told that there is room again.
  const std::shared_ptr<DiskWatch> disk_;
  // The disk failed: nobody knows what is on it until the store is opened again.
  std::atomic<bool> broken_{false};
};

}  // namespace bdh::store
