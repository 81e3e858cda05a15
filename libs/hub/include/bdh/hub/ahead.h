// Fetches chosen files one after the other, a little ahead of who reads them.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "bdh/base/mutex.h"
#include "bdh/hub/hub.h"

namespace bdh::hub {

class Ahead {
 public:
  // Begins with the first file at once, and never has more than `ahead` files that nobody asked for.
  Ahead(Options options, Source source, Choice choice, size_t ahead = 1);
  // Ends a download that is going on; what came of it is kept in the cache.
  ~Ahead();
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // Waits until that file is there. Those behind it may be fetched from then on. `waiting` is called every
  // moment until then; an error of it ends the waiting. After an error of a download every call gives that.
  absl::Status Await(size_t index, const std::function<absl::Status()>& waiting);

 private:
  void Work();

  const Options options_;
  const Source source_;
  const Choice choice_;
  const size_t ahead_;
  Mutex mutex_;
  CondVar changed_;
  size_t fetched_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace bdh::hub
