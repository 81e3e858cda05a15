#include "buffer.h"

#include <sys/mman.h>

#include <cstdlib>

namespace bdh::engine {

// Large pages spare the processor most of its address translation when rows are read here and there.
constexpr int64_t kWorthLargePages = int64_t{4} << 20;
// Smaller buffers that need not be zeros come from the heap: mappings are slow to make, and limited in
// number.
constexpr int64_t kWorthMapping = int64_t{1} << 20;
constexpr int64_t kCacheLine = 64;

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  if (bytes >= kWorthLargePages) ::madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = memory;
}

Buffer Buffer::NotCleared(int64_t bytes) {
  if (bytes >= kWorthMapping) return Buffer(bytes);
  Buffer buffer;
  buffer.data_ = std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine);
  buffer.bytes_ = bytes;
  buffer.mapped_ = false;
  return buffer;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (mapped_) {
    ::munmap(data_, bytes_);
  } else {
    std::free(data_);
  }
}

Buffer BufferKeeper::Take(int64_t bytes) {
  {
    MutexLock lock(mutex_);
    const auto same = kept_.find(bytes);
    if (same != kept_.end() && !same->second.empty()) {
      Buffer buffer = std::move(same->second.back());
      same->second.pop_back();
      kept_bytes_ -= bytes;
      return buffer;
    }
  }
  return Buffer::NotCleared(bytes);
}

void BufferKeeper::Give(Buffer buffer) {
  MutexLock lock(mutex_);
  if (buffer.data() == nullptr || kept_bytes_ + buffer.bytes() > limit_bytes_) return;
  kept_bytes_ += buffer.bytes();
  kept_[buffer.bytes()].push_back(std::move(buffer));
}

}  // namespace bdh::engine
