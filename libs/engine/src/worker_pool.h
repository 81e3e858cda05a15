// A few threads that share out the pieces of one computation. Which thread takes which piece is left to
// chance: pieces write to places of their own, so results do not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace bdh::engine {

// Thread-safe. While one thread's pieces are shared out, another's Run works alone.
class WorkerPool {
 public:
  // The caller of Run counts as one of `threads`.
  explicit WorkerPool(int threads);
  ~WorkerPool();

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls work(piece, worker) for every piece in [0, count), each once, and returns when all are done.
  // `worker` is in [0, threads()) and no two calls at the same time have the same.
  template <class Work>
  void Run(int64_t count, Work&& work) {
    using Plain = std::remove_reference_t<Work>;
    RunAll(
        count,
        [](void* context, int64_t piece, int worker) { (*static_cast<Plain*>(context))(piece, worker); },
        &work);
  }

 private:
  using Call = void (*)(void* context, int64_t piece, int worker);
  void RunAll(int64_t count, Call call, void* context);
  bool TakeOne(int worker);
  void Help(int worker);

  // The number of the job in the upper half, the pieces nobody has taken in the lower one.
  std::atomic<uint64_t> left_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<bool> busy_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::jthread> helpers_;
};

}  // namespace bdh::engine
