#pragma once

#include <atomic>
#include <thread>

#include "bdh/base/mutex.h"
#include "database.h"

namespace bdh::store {

// Gives the space of deleted chunks back to the file system, in the background.
//
// RocksDB drops a blob file once every chunk in it is dead, which it notices when it compacts the keys:
// cheap, since the chunks themselves are not moved. Files in which dead and living chunks mix are rewritten
// only when more than half of all bytes is dead, so that a byte kept costs at most one byte copied per byte
// freed.
class Reclaimer {
 public:
  explicit Reclaimer(Database& database);
  ~Reclaimer();  // Breaks off what runs.

  void Request();
  // Returns when all that was requested before is done.
  void Wait();

 private:
  void Run();
  void Reclaim();
  void Compact(bool rewrite);

  Database& database_;
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  CondVar changed_;
  int requested_ ABSL_GUARDED_BY(mutex_) = 0;
  int done_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace bdh::store
