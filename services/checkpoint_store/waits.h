// Calls that wait: each keeps a thread of the daemon busy, so there is a limit to them, below that of all
// calls; and they end when their client goes away, its time is over, or the daemon is told to stop.
#pragma once

#include <atomic>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/coordination.h"
#include "grpcpp/server_context.h"

namespace bdh::checkpoint_store {

// Thread-safe.
class Waits {
 public:
  // At most half of the daemon's calls, so that heartbeats always get through.
  explicit Waits(int max_calls) : limit_(max_calls / 2 > 0 ? max_calls / 2 : 1) {}

  // Runs `body`, which waits and asks its argument whether to go on. ResourceExhaustedError: too many wait.
  template <class Body>
  absl::Status Run(const grpc::ServerContext& context, Body&& body) {
    const Place place(*this);
    if (place.number() > limit_) return TooMany();
    return body(InterruptOf(context));
  }

  // From now on every wait ends with UnavailableError.
  void Stop() { stopped_ = true; }

  int waiting() const { return waiting_; }

 private:
  class Place {
   public:
    explicit Place(Waits& waits) : waits_(waits), number_(++waits.waiting_) {}
    ~Place() { --waits_.waiting_; }
    int number() const { return number_; }

   private:
    Waits& waits_;
    const int number_;
  };

  absl::Status TooMany() const;
  store::Interrupt InterruptOf(const grpc::ServerContext& context) const;

  const int limit_;
  std::atomic<int> waiting_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace bdh::checkpoint_store
