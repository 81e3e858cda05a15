#pragma once

#include <atomic>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "bdh/base/mutex.h"
#include "catalog.h"
#include "chunks.h"
#include "database.h"
#include "ledger.h"

namespace bdh::store {

// Gives the space of deleted chunks back to the file system, in the background, and moves chunks of a store
// of the first format into packs.
//
// A pack in which nothing lives is removed. One that is more than half dead is rewritten: what lives is
// appended to the pack being written, made durable, then the index is changed in one synced batch, then the
// old pack goes once nobody reads in it. A crash anywhere leaves the bytes in one pack or in both. A byte
// kept costs at most one byte copied per byte freed.
class Compactor {
 public:
  Compactor(const Store::Options& options, Database& database, Chunks& chunks, Ledger& ledger);
  ~Compactor();  // Breaks off what runs.

  void Request();
  // Returns when all that was requested before is done.
  void Wait();

 private:
  using Entry = std::pair<Digest, v1::StoredChunk>;

  void Run();
  absl::Status Compact();
  absl::Status Clean();
  absl::Status RewriteAll();
  absl::Status Rewrite(const std::vector<Packs::Pack>& packs);
  absl::Status Move(const std::vector<Entry>& entries);
  absl::Status TakeOver();
  void KeepWhatFits(std::vector<Packs::Pack>& packs) const;
  bool HasRoomFor(int64_t bytes) const;

  const Store::Options& options_;
  Database& database_;
  Chunks& chunks_;
  Ledger& ledger_;
  std::set<uint64_t> stuck_;  // Packs that could not be read to be rewritten.
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  CondVar changed_;
  int requested_ ABSL_GUARDED_BY(mutex_) = 0;
  int done_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace bdh::store
