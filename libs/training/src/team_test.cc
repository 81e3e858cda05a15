// A team calls every member once a round, at the same time, and hands on what they throw.

#include "team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace bdh::training {
namespace {

TEST(Team, EveryMemberWorksOnceARound) {
  for (const int size : {1, 2, 5}) {
    std::atomic<int> prepared = 0;
    std::vector<int> calls(static_cast<size_t>(size));
    {
      Team team(size, [&] { ++prepared; });
      for (int round = 0; round < 100; ++round) {
        team.Run([&](int member) { ++calls[static_cast<size_t>(member)]; });
      }
    }
    EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(size), 100));
    EXPECT_EQ(prepared, size - 1);
  }
}

TEST(Team, MembersWorkAtTheSameTime) {
  Team team(3, [] {});
  std::atomic<int> there = 0;
  team.Run([&](int) {
    ++there;
    while (there < 3) std::this_thread::yield();
  });
  EXPECT_EQ(there, 3);
}

TEST(Team, AnExceptionComesBackAndTheTeamGoesOn) {
  Team team(3, [] {});
  for (const int bad : {0, 2}) {
    EXPECT_THROW(team.Run([&](int member) {
      if (member == bad) throw std::runtime_error("bad");
    }),
                 std::runtime_error);
  }
  std::atomic<int> calls = 0;
  team.Run([&](int) { ++calls; });
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace bdh::training
