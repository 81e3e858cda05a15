// Proves that every piece of a job is done once and before Run returns, by workers that do not share a
// number, also when several threads use one pool.
#include "worker_pool.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

namespace bdh::engine {
namespace {

TEST(WorkerPool, DoesEveryPieceOnce) {
  for (const int threads : {1, 2, 4}) {
    WorkerPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int job = 0; job < 300; ++job) {
      std::vector<int> done(job);
      pool.Run(job, [&](int64_t piece, int worker) {
        ASSERT_LT(worker, threads);
        ++done[piece];
      });
      for (const int count : done) ASSERT_EQ(count, 1);
    }
  }
}

TEST(WorkerPool, NoTwoPiecesAtATimeHaveTheSameWorker) {
  WorkerPool pool(3);
  std::mutex mutex;
  std::set<int> working;
  pool.Run(200, [&](int64_t, int worker) {
    {
      std::lock_guard lock(mutex);
      ASSERT_TRUE(working.insert(worker).second);
    }
    std::this_thread::yield();
    std::lock_guard lock(mutex);
    working.erase(worker);
  });
}

TEST(WorkerPool, SeveralThreadsMayUseItAtOnce) {
  WorkerPool pool(2);
  std::vector<std::jthread> users;
  for (int user = 0; user < 3; ++user) {
    users.emplace_back([&] {
      for (int job = 0; job < 200; ++job) {
        std::atomic<int> sum = 0;
        pool.Run(10, [&](int64_t piece, int) { sum += static_cast<int>(piece); });
        ASSERT_EQ(sum, 45);
      }
    });
  }
}

}  // namespace
}  // namespace bdh::engine
