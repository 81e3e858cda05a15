#include "services/checkpoint_store/waits.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace bdh::checkpoint_store {

absl::Status Waits::TooMany() const {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "bdh-checkpoint-store lets %d calls wait at once (half of mesh.limits.max_calls); try again "
      "soon, or raise that",
      limit_));
}

store::Interrupt Waits::InterruptOf(const grpc::ServerContext& context) const {
  const absl::Time deadline = absl::FromChrono(context.deadline());
  // A little early: an answer that says what was missing must still arrive.
  const absl::Duration margin = std::min(absl::Milliseconds(250), (deadline - absl::Now()) / 8);
  return [this, &context, until = deadline - margin]() -> absl::Status {
    if (stopped_) return absl::UnavailableError("bdh-checkpoint-store is going down; ask again");
    if (absl::Now() >= until) return absl::DeadlineExceededError("");
    if (context.IsCancelled()) return absl::CancelledError("the client went away");
    return absl::OkStatus();
  };
}

}  // namespace bdh::checkpoint_store
