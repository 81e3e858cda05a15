#pragma once

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/v1/coordination_records.pb.h"
#include "high_water.h"

namespace bdh::store {

// The tables of coordination; libs/store/README.md says what stands in each. The numbers are not stored.
enum class Family { kState, kGroups, kNamespaces, kValues, kRequests, kRecords, kRecordOrder, kCount };

// The database below Coordination. A write is seen by reads at once and is durable later: whoever answers a
// client first awaits that what it wrote or saw is. So many clients share one sync of the log, and nobody
// holds a lock while the disk works.
class Journal {
 public:
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& folder);
  ~Journal();

  // NotFoundError without a message of use to people: the caller knows what was looked for.
  absl::StatusOr<std::string> Get(Family family, std::string_view key) const;
  absl::StatusOr<bool> Has(Family family, std::string_view key) const;
  std::unique_ptr<rocksdb::Iterator> NewIterator(Family family) const;
  rocksdb::ColumnFamilyHandle* operator[](Family family) const { return families_[static_cast<int>(family)]; }

  // One caller at a time, as for `state`. `edit` changes the record about the whole in the same batch.
  using Edit = std::function<void(v1::StoredCoordination&)>;
  absl::Status Write(rocksdb::WriteBatch& batch, const Edit& edit = {});
  const v1::StoredCoordination& state() const { return state_; }

  // Number of the last batch written.
  uint64_t written() const { return written_; }
  // Returns when the batches up to `number` survive a power cut.
  absl::Status AwaitDurable(uint64_t number);

  absl::Status CopyTo(const std::string& folder);

  static absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing);

 private:
  explicit Journal(HighWater high_water) : high_water_(std::move(high_water)) {}
  enum class Mode { kReadOnly, kReadWrite };
  absl::Status OpenDatabase(const std::string& folder, Mode mode);
  absl::Status ReadState();
  absl::Status CheckCount(Family family, std::string_view what, uint64_t want) const;

  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  v1::StoredCoordination state_;
  bool stopped_ = false;  // RocksDB refuses writes after an error, until told to resume.
  std::atomic<uint64_t> written_{0};

  Mutex mutex_;
  CondVar synced_;
  bool syncing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t durable_ ABSL_GUARDED_BY(mutex_) = 0;
  HighWater high_water_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bdh::store
