// Proves the arithmetic of orders: a permutation reaches every number once, another key gives another one,
// and a mixture gives each part its share at every moment.
#include "order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace bdh::corpus {
namespace {

TEST(Order, APermutationReachesEveryNumberOnce) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4097, 100003}) {
    const Permutation permutation(n, 42);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      ASSERT_LT(permutation(i), n);
      EXPECT_FALSE(seen[permutation(i)]) << n << " " << i;
      seen[permutation(i)] = true;
    }
  }
}

TEST(Order, AnotherKeyIsAnotherPermutation) {
  const Permutation one(1000, 1), two(1000, 2);
  int same = 0;
  for (uint64_t i = 0; i < 1000; ++i) same += one(i) == two(i);
  EXPECT_LT(same, 10);
}

TEST(Order, APermutationIsPinned) {
  // As the order of batches is: a run goes on under a newer release.
  const Permutation permutation(1000000, 7);
  const std::vector<uint64_t> first = {permutation(0), permutation(1), permutation(2), permutation(999999)};
  EXPECT_EQ(first, (std::vector<uint64_t>{849994, 829039, 692206, 810102}));
}

TEST(Order, EachPartOfAMixtureHasItsShareAtEveryMoment) {
  for (const std::vector<double>& weights :
       {std::vector<double>{1}, {1, 1}, {3, 1}, {0.7, 0.2, 0.1}, {1000, 1}, {5, 4, 3, 2, 1}}) {
    const Schedule schedule(weights);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<uint64_t> given(weights.size());
    for (uint64_t sample = 0; sample < 3 * Schedule::kSlots; ++sample) {
      const Schedule::Turn turn = schedule.At(sample);
      EXPECT_EQ(turn.index, given[turn.part]) << "each of a part's samples, in order";
      ++given[turn.part];
      for (size_t part = 0; part < weights.size(); ++part) {
        const double wanted = weights[part] / sum * static_cast<double>(sample + 1);
        // Shares are rounded to 1/kSlots, so they may be three off after three rounds.
        ASSERT_NEAR(static_cast<double>(given[part]), wanted, 5) << sample;
      }
    }
  }
}

TEST(Order, AnyTurnIsFoundWithoutTheOnesBefore) {
  const Schedule schedule({2, 1});
  const uint64_t far = uint64_t{1} << 50;
  const auto turn = schedule.At(far), next = schedule.At(far + 1);
  EXPECT_NEAR(static_cast<double>(turn.index), static_cast<double>(far) * (turn.part == 0 ? 2 : 1) / 3,
              static_cast<double>(far) / 4096);
  EXPECT_TRUE(next.part != turn.part || next.index == turn.index + 1);
}

}  // namespace
}  // namespace bdh::corpus
