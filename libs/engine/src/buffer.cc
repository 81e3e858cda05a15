#include "buffer.h"

#include <sys/mman.h>

namespace bdh::engine {

// Large pages spare the processor most of its address translation when rows are read here and there.
constexpr int64_t kWorthLargePages = int64_t{4} << 20;

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  if (bytes >= kWorthLargePages) ::madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = memory;
}

Buffer::~Buffer() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace bdh::engine
