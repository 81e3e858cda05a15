#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "bdh/base/mutex.h"
#include "bdh/store/coordination.h"
#include "coordination/journal.h"

namespace bdh::store {

// How often what waits looks whether it should go on waiting, and at the clock.
inline constexpr std::chrono::milliseconds kLook(25);

// What groups, values and records share: the options, the journal, and the one lock, under which fences are
// compared and batches written, but nothing is synced.
struct Core {
  Core(Coordination::Options given, std::unique_ptr<Journal> opened)
      : options(std::move(given)), journal(std::move(opened)) {}

  const Coordination::Options options;
  const std::unique_ptr<Journal> journal;
  Mutex mutex;

  // Runs `body` under the lock; its answer is given once all that it wrote or saw is durable.
  template <class Body>
  std::invoke_result_t<Body> Answer(Body&& body) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    uint64_t seen = 0;
    auto answer = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      MutexLock lock(mutex);
      auto made = body();
      seen = journal->written();
      return made;
    }();
    if (absl::Status status = journal->AwaitDurable(seen); !status.ok()) return status;
    return answer;
  }
};

// The stated limits, each refused with a sentence.
absl::Status CheckGroupName(std::string_view name);
absl::Status CheckWorker(const Worker& worker);
absl::Status CheckSpec(const GroupSpec& spec);
absl::Status CheckNamespace(std::string_view space);
absl::Status CheckKey(std::string_view key);
absl::Status CheckValue(std::string_view value);
absl::Status CheckRun(std::string_view run);
absl::Status CheckLabels(const Labels& labels);
absl::Status CheckPageSize(int size);

}  // namespace bdh::store
