#include "services/checkpoint_store/housekeeper.h"

#include <utility>

namespace bdh::checkpoint_store {

Housekeeper::Housekeeper(absl::Duration interval, std::function<void()> chore)
    : interval_(interval), chore_(std::move(chore)), thread_([this] { Run(); }) {}

Housekeeper::~Housekeeper() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    stop_.NotifyAll();
  }
  thread_.join();
}

void Housekeeper::Run() {
  while (true) {
    chore_();
    const absl::Time next = absl::Now() + interval_;
    MutexLock lock(mutex_);
    while (!stopped_ && absl::Now() < next)
      stop_.WaitFor(mutex_, absl::ToChronoNanoseconds(next - absl::Now()));
    if (stopped_) return;
  }
}

}  // namespace bdh::checkpoint_store
