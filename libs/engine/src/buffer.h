// Memory for numbers, aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "bdh/base/mutex.h"

namespace bdh::engine {

class Buffer {
 public:
  Buffer() = default;
  // Zeros, taken from the system only where they are written. data() is null when there is no memory.
  explicit Buffer(int64_t bytes);
  // Small ones hold anything.
  static Buffer NotCleared(int64_t bytes);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        mapped_(other.mapped_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  bool mapped_ = true;
};

// Keeps what states gave back for the next ones, up to a limit: the system need not clear it again, which
// costs about as much as filling it. Thread-safe.
class BufferKeeper {
 public:
  explicit BufferKeeper(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  // Holds anything. data() is null when there is no memory.
  Buffer Take(int64_t bytes);
  void Give(Buffer buffer);

 private:
  const int64_t limit_bytes_;
  Mutex mutex_;
  int64_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, std::vector<Buffer>> kept_ ABSL_GUARDED_BY(mutex_);  // By size.
};

}  // namespace bdh::engine
