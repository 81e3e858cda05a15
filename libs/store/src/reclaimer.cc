#include "reclaimer.h"

#include <rocksdb/options.h>

#include "bdh/base/log.h"

namespace bdh::store {

Reclaimer::Reclaimer(Database& database) : database_(database), thread_([this] { Run(); }) {}

Reclaimer::~Reclaimer() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void Reclaimer::Request() {
  const MutexLock lock(mutex_);
  ++requested_;
  changed_.NotifyAll();
}

void Reclaimer::Wait() {
  const MutexLock lock(mutex_);
  const int target = requested_;
  while (done_ < target && !stop_) changed_.Wait(mutex_);
}

void Reclaimer::Run() {
  while (true) {
    int target = 0;
    {
      const MutexLock lock(mutex_);
      while (requested_ == done_ && !stop_) changed_.Wait(mutex_);
      if (stop_) return;
      target = requested_;  // One round serves all who asked before it began.
    }
    Reclaim();
    const MutexLock lock(mutex_);
    done_ = target;
    changed_.NotifyAll();
  }
}

void Reclaimer::Reclaim() {
  if (const absl::Status status = database_.Flush(); !status.ok()) {
    BDH_LOG(WARNING) << "space not reclaimed: " << status.message();
    return;
  }
  Compact(/*rewrite=*/false);
  uint64_t total = 0, dead = 0;
  auto* chunks = database_[Table::kChunks];
  database_.db().GetIntProperty(chunks, rocksdb::DB::Properties::kLiveBlobFileSize, &total);
  database_.db().GetIntProperty(chunks, rocksdb::DB::Properties::kLiveBlobFileGarbageSize, &dead);
  if (dead > total / 2) Compact(/*rewrite=*/true);
}

void Reclaimer::Compact(bool rewrite) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.canceled = &stop_;
  options.blob_garbage_collection_policy =
      rewrite ? rocksdb::BlobGarbageCollectionPolicy::kForce : rocksdb::BlobGarbageCollectionPolicy::kDisable;
  options.blob_garbage_collection_age_cutoff = 1.0;
  const rocksdb::Status status =
      database_.db().CompactRange(options, database_[Table::kChunks], nullptr, nullptr);
  if (!status.ok() && !stop_) BDH_LOG(WARNING) << "space not reclaimed: " << status.ToString();
}

}  // namespace bdh::store
