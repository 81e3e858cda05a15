// Memory for numbers: aligned to cache lines, zero, and taken from the system only where it is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace bdh::engine {

class Buffer {
 public:
  Buffer() = default;
  // data() is null when there is no memory.
  explicit Buffer(int64_t bytes);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace bdh::engine
