#include "intake.h"

#include <algorithm>
#include <utility>

#include "bdh/base/cores.h"
#include "bdh/base/status_macros.h"

namespace bdh::store {
namespace {

constexpr int kMaxThreads = 8;
constexpr int kBuffersAThread = 2;
// Smaller chunks are done before a helper has woken up.
constexpr size_t kWorthHelp = 32 << 10;

}  // namespace

Helpers::Helpers(int threads) {
  const int count = threads < 0 ? 0 : std::min(ThreadCount(threads), kMaxThreads);
  buffers_.resize(static_cast<size_t>(count * kBuffersAThread));
  for (int i = 0; i < count; ++i) threads_.emplace_back([this] { Run(); });
}

Helpers::~Helpers() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  given_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

bool Helpers::Take(std::string_view bytes, Work work) {
  Task task{.bytes = {}, .work = std::move(work)};
  {
    const MutexLock lock(mutex_);
    if (buffers_.empty()) return false;
    task.bytes = std::move(buffers_.back());
    buffers_.pop_back();
  }
  task.bytes.assign(bytes);
  const MutexLock lock(mutex_);
  queue_.push_back(std::move(task));
  given_.NotifyOne();
  return true;
}

void Helpers::Run() {
  while (true) {
    Task task;
    {
      const MutexLock lock(mutex_);
      while (queue_.empty() && !stop_) given_.Wait(mutex_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task.work(task.bytes);
    const MutexLock lock(mutex_);
    buffers_.push_back(std::move(task.bytes));
  }
}

Intake::~Intake() {
  (void)Wait();
  ledger_.Release(held());
}

absl::Status Intake::Add(std::string_view bytes, const ChunkHint& hint, std::string& digests) {
  size_t place = 0;
  {
    const MutexLock lock(mutex_);
    BDH_RETURN_IF_ERROR(failed_);
    place = digests.size();
    digests.resize(place + Digest::kBytes);
    ++begun_;
  }
  const auto take = [this, hint, &digests, place](std::string_view chunk) {
    Sha256 sha;
    Take(chunk, hint, digests, place, sha);
  };
  if (bytes.size() < kWorthHelp || !helpers_.Take(bytes, take)) Take(bytes, hint, digests, place, sha_);
  const MutexLock lock(mutex_);
  return failed_;
}

void Intake::Take(std::string_view bytes, const ChunkHint& hint, std::string& digests, size_t place,
                  Sha256& sha) {
  const Digest digest = sha.Of(bytes);
  bool is_first = false;
  {
    const MutexLock lock(mutex_);
    std::copy(digest.bytes.begin(), digest.bytes.end(), digests.begin() + static_cast<ptrdiff_t>(place));
    // Of equal chunks one is enough. If it cannot be held, the upload fails as a whole.
    is_first = failed_.ok() && held_.emplace(digest, static_cast<int64_t>(bytes.size())).second;
  }
  absl::Status status;
  if (is_first) status = ledger_.Hold(digest, bytes, hint).status();
  const MutexLock lock(mutex_);
  if (!status.ok()) held_.erase(digest);
  failed_.Update(status);
  // Under the lock: whoever waits may destroy this as soon as he has it.
  if (--begun_ == 0) done_.NotifyAll();
}

absl::Status Intake::Wait() {
  const MutexLock lock(mutex_);
  while (begun_ > 0) done_.Wait(mutex_);
  return failed_;
}

}  // namespace bdh::store
