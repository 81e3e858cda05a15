#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

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
  static absl::StatusOr<HighWater> Open(const std::string& path);
  HighWater(HighWater&& other) noexcept;
  HighWater& operator=(HighWater&&) = delete;
  ~HighWater();

  uint64_t value() const { return value_; }
  void Raise(uint64_t value);

 private:
  HighWater(int descriptor, uint64_t value) : descriptor_(descriptor), value_(value) {}
  int descriptor_;
  uint64_t value_;
};

}  // namespace bdh::store
