// A few threads that work on the same thing at the same time, again and again. No torch here.
#pragma once

#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "bdh/base/mutex.h"

namespace bdh::training {

// Waiting threads sleep, so that a team leaves the machine to others when they need it. Used by one thread.
class Team {
 public:
  // `prepare` is called once on each of the team's own threads, which are `size` - 1: the caller is a member.
  Team(int size, std::function<void()> prepare);
  ~Team();

  int size() const { return size_; }

  // Calls work(0) on this thread and work(1) .. work(size - 1) on the others, and returns when all have
  // returned. The first exception, in that order, is thrown again here.
  void Run(const std::function<void(int)>& work);

 private:
  void Work(int member);
  void Call(const std::function<void(int)>& work, int member);

  const int size_;
  const std::function<void()> prepare_;
  std::vector<std::exception_ptr> errors_;  // One a member.

  Mutex mutex_;
  CondVar begun_, done_;
  const std::function<void(int)>* work_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int64_t round_ ABSL_GUARDED_BY(mutex_) = 0;
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace bdh::training
