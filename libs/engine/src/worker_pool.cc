#include "worker_pool.h"

namespace bdh::engine {
namespace {

// Between the pieces of one token there is no time to sleep; between tokens that a person reads there is.
constexpr int kSpins = 4000;

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

constexpr uint64_t kPieces = 0xffffffff;

}  // namespace

WorkerPool::WorkerPool(int threads) {
  for (int worker = 1; worker < threads; ++worker) {
    helpers_.emplace_back([this, worker] { Help(worker); });
  }
}

WorkerPool::~WorkerPool() {
  stopping_.store(true);
  left_.fetch_add(uint64_t{1} << 32);
  left_.notify_all();
}

void WorkerPool::RunAll(int64_t count, Call call, void* context) {
  if (count == 0) return;
  if (helpers_.empty() || count == 1 || busy_.exchange(true, std::memory_order_acquire)) {
    for (int64_t piece = 0; piece < count; ++piece) call(context, piece, 0);
    return;
  }
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t job = (left_.load(std::memory_order_relaxed) >> 32) + 1;
  left_.store(job << 32 | static_cast<uint64_t>(count), std::memory_order_release);
  left_.notify_all();
  while (TakeOne(0)) {
  }
  for (int spin = 0; done_.load(std::memory_order_acquire) != count; ++spin) {
    if (spin < kSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
  busy_.store(false, std::memory_order_release);
}

// What is read before the piece is taken belongs to the same job if the taking succeeds, because a job does
// not end while one of its pieces is out.
bool WorkerPool::TakeOne(int worker) {
  uint64_t left = left_.load(std::memory_order_acquire);
  while ((left & kPieces) != 0) {
    const Call call = call_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    const int64_t count = count_.load(std::memory_order_relaxed);
    if (!left_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    call(context, count - static_cast<int64_t>(left & kPieces), worker);
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }
  return false;
}

void WorkerPool::Help(int worker) {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (TakeOne(worker)) continue;
    uint64_t left = left_.load(std::memory_order_acquire);
    for (int spin = 0; spin < kSpins && (left & kPieces) == 0; ++spin) {
      Pause();
      left = left_.load(std::memory_order_acquire);
    }
    if ((left & kPieces) == 0 && !stopping_.load(std::memory_order_acquire)) left_.wait(left);
  }
}

}  // namespace bdh::engine
