#include "team.h"

#include <algorithm>
#include <utility>

namespace bdh::training {

Team::Team(int size, std::function<void()> prepare)
    : size_(std::max(1, size)), prepare_(std::move(prepare)), errors_(static_cast<size_t>(size_)) {
  for (int member = 1; member < size_; ++member) threads_.emplace_back([this, member] { Work(member); });
}

Team::~Team() {
  {
    MutexLock lock(mutex_);
    leaving_ = true;
    begun_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void Team::Call(const std::function<void(int)>& work, int member) {
  std::exception_ptr& error = errors_[static_cast<size_t>(member)];
  error = nullptr;
  try {
    work(member);
  } catch (...) {
    error = std::current_exception();
  }
}

void Team::Run(const std::function<void(int)>& work) {
  {
    MutexLock lock(mutex_);
    work_ = &work;
    busy_ = size_ - 1;
    ++round_;
    begun_.NotifyAll();
  }
  Call(work, 0);
  {
    MutexLock lock(mutex_);
    while (busy_ > 0) done_.Wait(mutex_);
  }
  for (const std::exception_ptr& error : errors_) {
    if (error != nullptr) std::rethrow_exception(error);
  }
}

void Team::Work(int member) {
  prepare_();
  int64_t rounds_done = 0;
  while (true) {
    const std::function<void(int)>* work = nullptr;
    {
      MutexLock lock(mutex_);
      while (round_ == rounds_done && !leaving_) begun_.Wait(mutex_);
      if (leaving_) return;
      rounds_done = round_;
      work = work_;
    }
    Call(*work, member);
    MutexLock lock(mutex_);
    if (--busy_ == 0) done_.NotifyOne();
  }
}

}  // namespace bdh::training
