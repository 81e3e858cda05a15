#include "bdh/engine/memory_budget.h"

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "bdh/base/text.h"

namespace bdh::engine {

absl::StatusOr<MemoryBudget::Reservation> MemoryBudget::Reserve(int64_t bytes, std::string_view what) {
  MutexLock lock(mutex_);
  const int64_t free = limit_bytes_ - used_bytes_;
  if (bytes > free) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s wants %s and %s of %s are free (inference.max_memory_bytes)", what,
                        FormatBytes(bytes), FormatBytes(free), FormatBytes(limit_bytes_)));
  }
  used_bytes_ += bytes;
  return Reservation(this, bytes);
}

int64_t MemoryBudget::used_bytes() const {
  MutexLock lock(mutex_);
  return used_bytes_;
}

void MemoryBudget::Reservation::Release() {
  if (budget_ == nullptr) return;
  MutexLock lock(budget_->mutex_);
  budget_->used_bytes_ -= bytes_;
  budget_ = nullptr;
  bytes_ = 0;
}

}  // namespace bdh::engine
