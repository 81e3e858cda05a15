#include "bdh/hub/ahead.h"

#include <chrono>
#include <utility>

#include "bdh/base/exceptions.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"

namespace bdh::hub {
namespace {

constexpr std::chrono::milliseconds kAskInterval{100};

}  // namespace

Ahead::Ahead(Options options, Source source, Choice choice, size_t ahead)
    : options_(std::move(options)),
      source_(std::move(source)),
      choice_(std::move(choice)),
      ahead_(ahead),
      thread_([this] { Work(); }) {}

Ahead::~Ahead() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

absl::Status Ahead::Await(size_t index, const std::function<absl::Status()>& waiting) {
  BDH_CHECK(index < choice_.remote.size());
  while (true) {
    {
      MutexLock lock(mutex_);
      if (wanted_ < index) {
        wanted_ = index;
        changed_.NotifyAll();
      }
      if (fetched_ <= index && status_.ok()) changed_.WaitFor(mutex_, kAskInterval);
      if (fetched_ > index) return absl::OkStatus();
      BDH_RETURN_IF_ERROR(status_);
    }
    BDH_RETURN_IF_ERROR(waiting());
  }
}

void Ahead::Work() {
  const auto goes_on = [this](const Progress&) {
    MutexLock lock(mutex_);
    return !stopping_;
  };
  for (size_t next = 0; next < choice_.remote.size(); ++next) {
    {
      MutexLock lock(mutex_);
      while (next > wanted_ + ahead_ && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
    }
    const absl::Status status =
        CatchExceptions([&] { return Hub(options_).FetchFile(source_, choice_, next, goes_on); });
    MutexLock lock(mutex_);
    status_ = status;
    if (status.ok()) ++fetched_;
    changed_.NotifyAll();
    if (!status.ok()) return;
  }
}

}  // namespace bdh::hub
