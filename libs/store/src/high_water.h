#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/files.h"

namespace bdh::store {

// A second witness of how far the store had come. RocksDB takes a damaged end of its log for writes that a
// crash cut off, and opens at the state before them; so the number of the last change that was acknowledged
// also stands in a small file beside the database. If the file knows of more changes than the database,
// something acknowledged is lost.
//
// The file is written after the change is durable and is not synced: a power cut may leave it behind the
// database, which is harmless, but never ahead of it.
class HighWater {
 public:
  // `path` is made if missing.
  static absl::StatusOr<HighWater> Open(Files& files, const std::string& path);

  uint64_t value() const { return value_; }
  void Raise(uint64_t value);

 private:
  HighWater(std::unique_ptr<File> file, uint64_t value) : file_(std::move(file)), value_(value) {}
  std::unique_ptr<File> file_;
  uint64_t value_;
};

}  // namespace bdh::store
