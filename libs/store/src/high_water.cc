#include "high_water.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_util.h"

namespace bdh::store {
namespace {

constexpr int kDigits = 20;  // Of one length, so that a rewrite in place never leaves old digits behind.

uint64_t ReadValue(int descriptor) {
  char text[kDigits];
  uint64_t value = 0;
  // Whatever is not a whole number (a file cut by a power failure) bears no witness.
  if (pread(descriptor, text, kDigits, 0) != kDigits) return 0;
  return absl::SimpleAtoi(absl::string_view(text, kDigits), &value) ? value : 0;
}

}  // namespace

absl::StatusOr<HighWater> HighWater::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  return HighWater(descriptor, ReadValue(descriptor));
}

HighWater::HighWater(HighWater&& other) noexcept : descriptor_(other.descriptor_), value_(other.value_) {
  other.descriptor_ = -1;
}

HighWater::~HighWater() {
  if (descriptor_ >= 0) close(descriptor_);
}

void HighWater::Raise(uint64_t value) {
  const std::string text = absl::StrFormat("%0*d\n", kDigits, value);
  if (pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    BDH_LOG(WARNING) << "high-water mark not written: " << ErrnoStatus(errno, "write").message();
  }
  value_ = value;
}

}  // namespace bdh::store
