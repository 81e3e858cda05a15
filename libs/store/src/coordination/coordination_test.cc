// What workers agree on: who takes part, in which generation, under which rank; what a stale worker may no
// longer write; values and records that many threads change at once. No test waits for a clock: time passes
// when the test says so.

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "coordination_fixture.h"

namespace bdh::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using GroupsTest = CoordinationTest;
using ValuesTest = CoordinationTest;
using RecordsTest = CoordinationTest;

constexpr GroupSpec kTwoToThree{.min_workers = 2, .max_workers = 3, .settle = absl::Seconds(5)};
constexpr GroupSpec kOne{.min_workers = 1, .max_workers = 1};

TEST_F(GroupsTest, AGenerationFormsWhenItsTimeToSettleIsOver) {
  const std::string a = Join("a", kTwoToThree);
  EXPECT_EQ(Members(), "?0:");
  Pass(absl::Seconds(6));
  EXPECT_EQ(Members(), "?0:") << "one worker never suffices";
  BDH_ASSERT_OK(all_->Heartbeat("runs/a", a));
  Join("b", kTwoToThree);
  Pass(absl::Milliseconds(4999));
  EXPECT_EQ(Members(), "?0:") << "it waits for a third";
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(Members(), "1: a b");
}

TEST_F(GroupsTest, AGenerationFormsAtOnceWhenItIsFull) {
  Join("c", kTwoToThree);
  Join("a", kTwoToThree);
  Join("b", kTwoToThree);
  EXPECT_EQ(Members(), "1: a b c") << "ranks go by name, not by who came first";
  const auto refused = all_->Register("runs/a", std::nullopt, {.name = "d"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
}

TEST_F(GroupsTest, ALeaseLivesByHeartbeatsAndItsEndEndsTheGeneration) {
  const std::string a = Join("a", kTwoToThree), b = Join("b", kTwoToThree), c = Join("c", kTwoToThree);
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Seconds(9));
    for (const std::string& lease : {a, b, c}) BDH_ASSERT_OK(all_->Heartbeat("runs/a", lease));
  }
  EXPECT_EQ(Members(), "1: a b c");
  Pass(absl::Seconds(6));
  BDH_ASSERT_OK(all_->Heartbeat("runs/a", a));
  BDH_ASSERT_OK(all_->Heartbeat("runs/a", b));
  Pass(absl::Seconds(4));
  BDH_ASSERT_OK_AND_ASSIGN(const Group heard, all_->Heartbeat("runs/a", a));
  EXPECT_FALSE(heard.formed);
  EXPECT_EQ(heard.generation.number, 1);
  EXPECT_EQ(all_->Heartbeat("runs/a", c).status().code(), absl::StatusCode::kNotFound);
  Pass(absl::Seconds(5));
  EXPECT_EQ(Members(), "2: a b");
}

TEST_F(GroupsTest, AWorkerThatComesOrComesAgainBeginsAnotherGeneration) {
  const std::string a = Join("a", kTwoToThree);
  Join("b", kTwoToThree);
  Pass(absl::Seconds(5));
  EXPECT_EQ(Members(), "1: a b");
  Join("c", kTwoToThree);
  EXPECT_EQ(Members(), "2: a b c");
  const std::string again = Join("a", kTwoToThree);
  EXPECT_EQ(Members(), "3: a b c");
  EXPECT_EQ(all_->Heartbeat("runs/a", a).status().code(), absl::StatusCode::kNotFound) << "another process's";
  BDH_EXPECT_OK(all_->Heartbeat("runs/a", again));
}

TEST_F(GroupsTest, LeavingIsSeenAtOnceAndMayBeRepeated) {
  Join("a", kTwoToThree);
  const std::string b = Join("b", kTwoToThree);
  Pass(absl::Seconds(5));
  EXPECT_EQ(Members(), "1: a b");
  BDH_ASSERT_OK(all_->Leave("runs/a", b));
  BDH_ASSERT_OK(all_->Leave("runs/a", b));
  EXPECT_EQ(Members(), "?1: a b");
  ASSERT_EQ(Look().workers.size(), 1u);
  EXPECT_EQ(Look().workers[0].name, "a");
  EXPECT_EQ(all_->Leave("runs/none", b).code(), absl::StatusCode::kNotFound);
}

TEST_F(GroupsTest, GenerationsSurviveARestartAndLeasesGetTheirWholeTimeAgain) {
  const std::string a = Join("a", kTwoToThree), b = Join("b", kTwoToThree), c = Join("c", kTwoToThree);
  Pass(absl::Seconds(9));
  Reopen();
  EXPECT_EQ(Members(), "1: a b c");
  Pass(absl::Seconds(9));
  BDH_EXPECT_OK(all_->Heartbeat("runs/a", a));
  BDH_EXPECT_OK(all_->Heartbeat("runs/a", b));
  Pass(absl::Seconds(1));
  EXPECT_EQ(all_->Heartbeat("runs/a", c).status().code(), absl::StatusCode::kNotFound);
  Pass(absl::Seconds(5));
  EXPECT_EQ(Members(), "2: a b");
  Reopen();
  EXPECT_EQ(Members(), "2: a b");
  EXPECT_EQ(Look().workers[0].address, "a:1");
}

TEST_F(GroupsTest, WhoAwaitsAGenerationGetsItWithItsRank) {
  constexpr int kWorkers = 100;
  const GroupSpec spec{.min_workers = kWorkers, .max_workers = kWorkers};
  std::vector<std::thread> threads;
  std::vector<int> ranks(kWorkers, -1);
  for (int i = 0; i < kWorkers; ++i) {
    threads.emplace_back([&, i] {
      const std::string lease = Join(absl::StrFormat("w%03d", i), spec);
      const auto place = all_->AwaitGeneration("runs/a", lease, 0, GoOn);
      ASSERT_TRUE(place.ok()) << place.status();
      EXPECT_EQ(place->generation.number, 1);
      EXPECT_EQ(place->generation.members.size(), static_cast<size_t>(kWorkers));
      EXPECT_TRUE(all_->Heartbeat("runs/a", lease).ok());
      ranks[i] = place->rank;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kWorkers; ++i) EXPECT_EQ(ranks[i], i);
}

TEST_F(GroupsTest, AWaitSaysWhatIsMissingWhenItsTimeIsOver) {
  const std::string a = Join("a", kTwoToThree);
  const auto late = all_->AwaitGeneration("runs/a", a, 0, TimeIsOver);
  EXPECT_EQ(late.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(late.status().message(), HasSubstr("1 of the 2 workers"));
  const auto gone = all_->AwaitGeneration("runs/a", a, 0, [] { return absl::CancelledError("gone"); });
  EXPECT_EQ(gone.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(GroupsTest, AWaitEndsWhenItsLeaseDoes) {
  const std::string a = Join("a", kTwoToThree);
  std::thread waiter([&] {
    EXPECT_EQ(all_->AwaitGeneration("runs/a", a, 0, GoOn).status().code(), absl::StatusCode::kNotFound);
  });
  Pass(absl::Seconds(10));
  waiter.join();
}

TEST_F(GroupsTest, AnotherSpecIsRefusedWhileTheGroupHasWorkers) {
  const std::string a = Join("a", kTwoToThree);
  const auto refused = [&](GroupSpec spec) {
    const auto status = all_->Register("runs/a", spec, {.name = "b"}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  };
  GroupSpec other = kTwoToThree;
  other.min_workers = 1;
  EXPECT_THAT(refused(other), HasSubstr("min_workers 2, not 1"));
  other = kTwoToThree;
  other.max_workers = 4;
  EXPECT_THAT(refused(other), HasSubstr("max_workers 3, not 4"));
  other = kTwoToThree;
  other.settle = absl::Seconds(6);
  EXPECT_THAT(refused(other), HasSubstr("settle_duration 5s, not 6s"));
  other = kTwoToThree;
  other.lease = absl::Seconds(6);
  EXPECT_THAT(refused(other), HasSubstr("lease_duration 10s, not 6s"));
  BDH_EXPECT_OK(all_->Leave("runs/a", a));
  BDH_EXPECT_OK(all_->Register("runs/a", other, {.name = "b"}));
}

TEST_F(GroupsTest, EveryLimitIsRefusedByName) {
  const auto refused = [&](const std::string& group, GroupSpec spec, Worker worker) {
    const auto status = all_->Register(group, spec, worker).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const Worker good{.name = "a"};
  EXPECT_THAT(refused("", kOne, good), HasSubstr("group ''"));
  EXPECT_THAT(refused("Runs", kOne, good), HasSubstr("group 'Runs'"));
  EXPECT_THAT(refused(std::string(129, 'a'), kOne, good), HasSubstr("want 1 to 128"));
  EXPECT_THAT(refused("g", kOne, {.name = "a/b"}), HasSubstr("worker 'a/b'"));
  EXPECT_THAT(refused("g", kOne, {.name = std::string(129, 'a')}), HasSubstr("want 1 to 128"));
  EXPECT_THAT(refused("g", kOne, {.name = "a", .address = std::string(257, 'a')}), HasSubstr("257 bytes"));
  EXPECT_THAT(refused("g", kOne, {.name = "a", .labels = {{"k", std::string(257, 'v')}}}),
              HasSubstr("label"));
  EXPECT_THAT(refused("g", {.min_workers = 0}, good), HasSubstr("min_workers is 0"));
  EXPECT_THAT(refused("g", {.min_workers = 4097, .max_workers = 4097}, good),
              HasSubstr("min_workers is 4097"));
  EXPECT_THAT(refused("g", {.min_workers = 2, .max_workers = 1}, good), HasSubstr("max_workers is 1"));
  EXPECT_THAT(refused("g", {.settle = absl::Seconds(-1)}, good), HasSubstr("settle_duration"));
  EXPECT_THAT(refused("g", {.settle = absl::Seconds(601)}, good), HasSubstr("settle_duration"));
  EXPECT_THAT(refused("g", {.lease = absl::Milliseconds(999)}, good), HasSubstr("lease_duration"));
  EXPECT_THAT(refused("g", {.lease = absl::Seconds(601)}, good), HasSubstr("lease_duration"));
  EXPECT_THAT(std::string(all_->Register("g", std::nullopt, good).status().message()),
              HasSubstr("GroupSpec"));
  EXPECT_EQ(all_->GetGroup("g").status().code(), absl::StatusCode::kNotFound) << "nothing was made";
}

TEST_F(GroupsTest, OfTooManyGroupsTheOneLongestWithoutWorkersIsForgotten) {
  Coordination::Options options = Options();
  options.max_groups = 3;
  Reopen(options);
  for (const char* name : {"old", "older", "busy"}) {
    for (int i = 0; i < 4; ++i) BDH_ASSERT_OK(all_->Leave(name, Join("a", kOne, name)));
  }
  Join("a", kOne, "busy");
  Pass(absl::Seconds(1));
  BDH_ASSERT_OK(all_->Leave("old", Join("a", kOne, "old")));
  Join("a", kOne, "busy");
  Join("a", kOne, "new");
  EXPECT_EQ(all_->GetGroup("older").status().code(), absl::StatusCode::kNotFound);
  Join("a", kOne, "old");
  const auto full = all_->Register("older", kOne, {.name = "a"});
  EXPECT_EQ(full.status().code(), absl::StatusCode::kResourceExhausted) << full.status();
  // A group of the same name goes on above every number that was forgotten.
  Pass(absl::Seconds(10));
  Reopen(options);
  Pass(absl::Seconds(10));
  Join("a", kOne, "older");
  EXPECT_GT(Look("older").generation.number, 4);
}

TEST_F(GroupsTest, GroupsAreListedByNameInPages) {
  for (const char* name : {"c", "a", "b"}) Join("w", kOne, name);
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, all_->ListGroups(2, ""));
  ASSERT_EQ(first.groups.size(), 2u);
  EXPECT_EQ(first.groups[0].name, "a");
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, all_->ListGroups(2, first.next_token));
  ASSERT_EQ(second.groups.size(), 1u);
  EXPECT_EQ(second.groups[0].name, "c");
  EXPECT_EQ(second.next_token, "");
  EXPECT_FALSE(all_->ListGroups(0, "").ok());
  EXPECT_FALSE(all_->ListGroups(1001, "").ok());
  EXPECT_FALSE(all_->ListGroups(1, "not a token!").ok());
}

TEST_F(GroupsTest, AWriteOfAGenerationThatIsOverIsRefusedAlsoAfterARestart) {
  Join("a", kOne);
  const Fence first{"runs/a", 1};
  BDH_EXPECT_OK(all_->Set("n", "k", "by the first", first));
  Join("a", kOne);
  EXPECT_EQ(Members(), "2: a");
  const auto expect_refused = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("generation 1 of group runs/a is over: the newest is 2"));
  };
  for (int round = 0; round < 2; ++round) {
    expect_refused(all_->Set("n", "k", "stale", first));
    expect_refused(all_->Add("n", "sum", 1, "", first).status());
    expect_refused(all_->CompareAndSet("n", "k", "by the first", "stale", first).status());
    expect_refused(all_->Delete("n", "k", first).status());
    expect_refused(all_->DeleteNamespace("n", first).status());
    expect_refused(all_->PutRecord({.run = "a"}, {}, first).status());
    expect_refused(all_->HoldGeneration(first).status());
    Reopen();
  }
  BDH_ASSERT_OK_AND_ASSIGN(const std::string value, all_->Get("n", "k"));
  EXPECT_EQ(value, "by the first");
  EXPECT_EQ(all_->Set("n", "k", "v", Fence{"runs/none", 1}).code(), absl::StatusCode::kNotFound);
  BDH_EXPECT_OK(all_->Set("n", "k", "v", Fence{"runs/a", 2}));
}

TEST_F(GroupsTest, NoGenerationFormsWhileAWriteOfTheOneBeforeIsCommitted) {
  const std::string a = Join("a", kOne);
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto hold, all_->HoldGeneration({"runs/a", 1}));
    Join("a", kOne);
    EXPECT_EQ(Members(), "?1: a");
    BDH_EXPECT_OK(all_->HoldGeneration({"runs/a", 1}));
  }
  EXPECT_EQ(Members(), "2: a");
}

TEST_F(ValuesTest, AValueIsThereUntilItIsDeletedAlsoAfterARestart) {
  const std::string key("k\0\xff", 3);
  EXPECT_EQ(all_->Get("n", key).status().code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(all_->Set("n", key, "v"));
  BDH_ASSERT_OK(all_->Set("n", "empty", ""));
  BDH_ASSERT_OK(all_->Set("n", key, std::string("w\0x", 3)));
  Reopen();
  BDH_ASSERT_OK_AND_ASSIGN(const std::string value, all_->Get("n", key));
  EXPECT_EQ(value, std::string("w\0x", 3));
  EXPECT_EQ(*all_->CountKeys("n"), 2);
  EXPECT_EQ(*all_->CountKeys("m"), 0);
  EXPECT_EQ(all_->Get("m", key).status().code(), absl::StatusCode::kNotFound) << "another namespace";
  EXPECT_TRUE(*all_->Delete("n", key));
  EXPECT_FALSE(*all_->Delete("n", key));
  EXPECT_EQ(*all_->CountKeys("n"), 1);
  EXPECT_EQ(*all_->DeleteNamespace("n"), 1);
  EXPECT_EQ(*all_->DeleteNamespace("n"), 0);
  EXPECT_EQ(all_->Get("n", "empty").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(all_->totals().namespaces, 0);
  EXPECT_EQ(all_->totals().value_bytes, 0);
}

TEST_F(ValuesTest, DeletingANamespaceLeavesThoseThatBeginAlike) {
  for (const char* space : {"n", "n/1", "n-", "nn"}) BDH_ASSERT_OK(all_->Set(space, "k", space));
  BDH_ASSERT_OK(all_->DeleteNamespace("n"));
  for (const char* space : {"n/1", "n-", "nn"}) EXPECT_EQ(*all_->Get(space, "k"), space);
}

TEST_F(ValuesTest, ManyThreadsAddWithoutLosingOne) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const std::string id = absl::StrFormat("%d-%d", t, i);
        for (int again = 0; again < 2; ++again) BDH_EXPECT_OK(all_->Add("n", "sum", 3, id));
        BDH_EXPECT_OK(all_->Add("n", "sum", -1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(*all_->Get("n", "sum"), std::to_string(8 * 25 * 2));
}

TEST_F(ValuesTest, ARequestIsRememberedForTheNext1023) {
  EXPECT_EQ(*all_->Add("n", "sum", 5, "mine"), 5);
  EXPECT_EQ(all_->Add("n", "sum", 6, "mine").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(all_->Add("n", "other", 5, "mine").status().code(), absl::StatusCode::kInvalidArgument);
  for (int i = 0; i < 1023; ++i) BDH_ASSERT_OK(all_->Add("n", "sum", 0, std::to_string(i)));
  Reopen();
  EXPECT_EQ(*all_->Add("n", "sum", 5, "mine"), 5);
  BDH_ASSERT_OK(all_->Add("n", "sum", 0, "one more"));
  EXPECT_EQ(*all_->Add("n", "sum", 5, "mine"), 10) << "forgotten";
}

TEST_F(ValuesTest, WhatIsNoNumberIsNotAddedTo) {
  BDH_ASSERT_OK(all_->Set("n", "text", "abc"));
  EXPECT_EQ(all_->Add("n", "text", 1).status().code(), absl::StatusCode::kFailedPrecondition);
  BDH_ASSERT_OK(all_->Set("n", "big", "9223372036854775807"));
  EXPECT_EQ(all_->Add("n", "big", 1).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*all_->Add("n", "big", -1), 9223372036854775806);
}

TEST_F(ValuesTest, CompareAndSetIsWonByOne) {
  std::atomic<int> winners{0};
  std::vector<std::thread> threads;
  std::set<std::string> names;
  for (int t = 0; t < 16; ++t) names.insert(std::to_string(t));
  for (const std::string& name : names) {
    threads.emplace_back([&, name] {
      const auto swap = all_->CompareAndSet("n", "leader", "", name);
      ASSERT_TRUE(swap.ok()) << swap.status();
      winners += swap->was_set;
      EXPECT_EQ(names.count(swap->value), 1u);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto missed, all_->CompareAndSet("n", "none", "expected", "desired"));
  EXPECT_FALSE(missed.was_set);
  EXPECT_EQ(missed.value, "");
  EXPECT_EQ(*all_->CountKeys("n"), 1);
}

TEST_F(ValuesTest, AWaitEndsWhenAllKeysAreThere) {
  BDH_ASSERT_OK(all_->Set("n", "a", "1"));
  EXPECT_FALSE(*all_->HasKeys("n", {"a", "b"}));
  std::thread waiter([&] { BDH_EXPECT_OK(all_->WaitForKeys("n", {"a", "b", "c"}, GoOn)); });
  BDH_ASSERT_OK(all_->Set("n", "c", "1"));
  BDH_ASSERT_OK(all_->Set("n", "b", "1"));
  waiter.join();
  EXPECT_TRUE(*all_->HasKeys("n", {"a", "b"}));
  const auto late = all_->WaitForKeys("n", {"a", "not there"}, TimeIsOver);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("'not there'"));
}

TEST_F(ValuesTest, EveryLimitIsRefusedByName) {
  const auto code = [](const absl::Status& status) { return status.code(); };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(all_->Set("", "k", "v")), kInvalid);
  EXPECT_EQ(code(all_->Set("n n", "k", "v")), kInvalid);
  EXPECT_EQ(code(all_->Set(std::string(257, 'n'), "k", "v")), kInvalid);
  EXPECT_EQ(code(all_->Set("n", "", "v")), kInvalid);
  EXPECT_EQ(code(all_->Set("n", std::string(1025, 'k'), "v")), kInvalid);
  EXPECT_EQ(code(all_->Set("n", "k", std::string((1 << 20) + 1, 'v'))), kInvalid);
  EXPECT_EQ(code(all_->Add("n", "k", 1, std::string(65, 'r')).status()), kInvalid);
  EXPECT_EQ(code(all_->HasKeys("n", {}).status()), kInvalid);
  EXPECT_EQ(code(all_->HasKeys("n", std::vector<std::string>(4097, "k")).status()), kInvalid);
  BDH_EXPECT_OK(all_->Set(std::string(256, 'N'), std::string(1024, 'k'), std::string(1 << 20, 'v')));
}

TEST_F(ValuesTest, AFullNamespaceAndAFullStoreRefuseWithNumbersUntilThereIsRoom) {
  const std::string big((1 << 20) - 2, 'v');  // With its key of two bytes a MiB.
  for (int i = 10; i < 74; ++i) BDH_ASSERT_OK(all_->Set("n", std::to_string(i), big));
  const auto full = all_->Set("n", "k", "v");
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("64.0 MiB"));
  BDH_EXPECT_OK(all_->Set("m", "k", "v"));
  BDH_ASSERT_OK(all_->Delete("n", "10"));
  BDH_EXPECT_OK(all_->Set("n", "k", "v"));

  Coordination::Options options = Options();
  options.max_namespaces = 2;
  options.max_value_bytes = 65 << 20;
  Reopen(options);
  EXPECT_EQ(all_->Set("third", "k", "v").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(all_->Set("m", "k", std::string(1 << 20, 'v')).code(), absl::StatusCode::kOk);
  EXPECT_EQ(all_->Set("m", "l", std::string(1 << 20, 'v')).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RecordsTest, ARecordIsReplacedOnlyFromTheRevisionThatWasRead) {
  BDH_ASSERT_OK_AND_ASSIGN(const RunRecord first, all_->PutRecord({.run = "a", .bytes = "one"}, 0));
  EXPECT_EQ(first.revision, 1);
  const auto again = all_->PutRecord({.run = "a", .bytes = "two"}, 0);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("revision 1, not 0"));
  EXPECT_EQ(all_->PutRecord({.run = "b"}, 1).status().code(), absl::StatusCode::kAborted);
  BDH_ASSERT_OK(all_->PutRecord({.run = "a", .bytes = "two"}, 1));
  BDH_ASSERT_OK(all_->PutRecord({.run = "a", .bytes = "three"}));
  Reopen();
  BDH_ASSERT_OK_AND_ASSIGN(const RunRecord got, all_->GetRecord("a"));
  EXPECT_EQ(got.bytes, "three");
  EXPECT_EQ(got.revision, 3);
  EXPECT_EQ(got.update_time, absl::FromUnixSeconds(1'000'000));
}

TEST_F(RecordsTest, RecordsAreListedTheLastChangedFirstAndByLabels) {
  for (const char* run : {"a", "b", "c", "d"}) {
    const std::string team = std::string(run) < "c" ? "red" : "blue";
    BDH_ASSERT_OK(all_->PutRecord({.run = run, .labels = {{"team", team}, {"x", "y"}}}));
  }
  BDH_ASSERT_OK(all_->PutRecord({.run = "a", .labels = {{"team", "red"}}}));
  const auto names = [&](const Labels& labels) {
    std::vector<std::string> out;
    std::string token;
    do {
      const auto page = all_->ListRecords(labels, 1, token);
      if (!page.ok()) return out;
      for (const RunRecord& record : page->records) out.push_back(record.run);
      token = page->next_token;
    } while (!token.empty());
    return out;
  };
  EXPECT_THAT(names({}), ElementsAre("a", "d", "c", "b"));
  EXPECT_THAT(names({{"team", "red"}}), ElementsAre("a", "b"));
  EXPECT_THAT(names({{"team", "red"}, {"x", "y"}}), ElementsAre("b"));
  EXPECT_FALSE(all_->ListRecords({}, 0, "").ok());
  EXPECT_FALSE(all_->ListRecords({}, 1, "nonsense").ok());
}

TEST_F(RecordsTest, ARecordOfARunWithWorkersStays) {
  EXPECT_EQ(all_->DeleteRecord("a").code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(all_->PutRecord({.run = "a"}));
  Join("w", kOne, "runs/a");
  EXPECT_EQ(all_->DeleteRecord("a").code(), absl::StatusCode::kFailedPrecondition);
  Pass(absl::Seconds(10));
  BDH_EXPECT_OK(all_->DeleteRecord("a"));
  EXPECT_EQ(all_->GetRecord("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(all_->ListRecords({}, 10, "")->records.size(), 0u);
}

TEST_F(RecordsTest, EveryLimitIsRefusedByName) {
  const auto put = [&](RunRecord record) { return all_->PutRecord(std::move(record)).status().code(); };
  EXPECT_EQ(put({.run = "A"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(put({.run = "a", .bytes = std::string((1 << 20) + 1, 'x')}), absl::StatusCode::kInvalidArgument);
  RunRecord labelled{.run = "a"};
  for (int i = 0; i < 64; ++i) labelled.labels[std::to_string(i)] = std::string(256, 'v');
  EXPECT_EQ(put(labelled), absl::StatusCode::kOk);
  labelled.labels["one more"] = "";
  EXPECT_EQ(put(labelled), absl::StatusCode::kInvalidArgument);
  Coordination::Options options = Options();
  options.max_run_records = 1;
  Reopen(options);
  EXPECT_EQ(put({.run = "a"}), absl::StatusCode::kOk);
  EXPECT_EQ(put({.run = "b"}), absl::StatusCode::kResourceExhausted);
}

TEST_F(CoordinationTest, ADamagedDatabaseIsRefusedAndNeverOpenedAsIfItWereEmpty) {
  Join("a", kOne);
  BDH_ASSERT_OK(all_->Set("n", "k", "v"));
  const std::string folder = Options().folder;
  BDH_ASSERT_OK(all_->CopyTo(folder_.path() + "/copy"));
  BDH_ASSERT_OK(all_->Set("n", "after the copy", "v"));
  all_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/db")) {
    // Half of the log: what a crash may leave of writes that nobody was told of, but here somebody was.
    if (entry.path().extension() == ".log") std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
  }
  const auto cut = Coordination::Open(Options());
  EXPECT_EQ(cut.status().code(), absl::StatusCode::kDataLoss) << cut.status();
  EXPECT_THAT(std::string(cut.status().message()), HasSubstr("are lost"));
  std::filesystem::remove_all(folder + "/db");
  const auto gone = Coordination::Open(Options());
  EXPECT_EQ(gone.status().code(), absl::StatusCode::kDataLoss) << gone.status();

  Coordination::Options copy = Options();
  copy.folder = folder_.path() + "/copy";
  Reopen(copy);
  EXPECT_EQ(Members(), "1: a");
  EXPECT_EQ(*all_->Get("n", "k"), "v");
}

TEST_F(CoordinationTest, TotalsCountWhatIsThere) {
  Join("a", kOne);
  Join("b", kTwoToThree, "other");
  BDH_ASSERT_OK(all_->Set("n", "k", "v"));
  BDH_ASSERT_OK(all_->PutRecord({.run = "a"}));
  const Coordination::Totals totals = all_->totals();
  EXPECT_EQ(totals.groups, 2);
  EXPECT_EQ(totals.workers, 2);
  EXPECT_EQ(totals.generations, 1);
  EXPECT_EQ(totals.namespaces, 1);
  EXPECT_EQ(totals.value_bytes, 2);
  EXPECT_EQ(totals.run_records, 1);
}

}  // namespace
}  // namespace bdh::store
