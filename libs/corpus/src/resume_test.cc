// Proves that the making of a data set that is killed at any moment, or whose disk is full, is gone on with,
// and ends in the very files of one that nobody disturbed; and that other text is never mixed in.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>

#include "absl/strings/match.h"
#include "bdh/base/file.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public ::testing::Test {
 protected:
  DatasetStore::Options Options(const std::string& name) {
    return {.folder = folder_.path() + "/" + name,
            .shard_tokens = 400000,
            .threads = 2,
            .checkpoint_tokens = 300000};
  }

  // 150 documents, one of them long; with `documents` fewer of them.
  static std::vector<std::string> Text(size_t documents = 150) {
    std::vector<std::string> text = {Noise(2 << 20)};
    for (uint32_t i = 1; i < documents; ++i) text.push_back(Noise(20000 + i, i));
    return text;
  }

  static absl::Status Feed(DatasetImport& import, const std::vector<std::string>& documents,
                           size_t bytes_max = SIZE_MAX) {
    for (const std::string& text : documents) {
      BDH_RETURN_IF_ERROR(import.BeginDocument());
      for (size_t at = 0; at < text.size(); at += 1 << 16) {
        const std::string_view piece = std::string_view(text).substr(at, 1 << 16);
        if (piece.size() > bytes_max) return absl::AbortedError("enough");
        bytes_max -= piece.size();
        BDH_RETURN_IF_ERROR(import.Append(piece));
      }
    }
    return absl::OkStatus();
  }

  // Makes the data set in a child that is killed after `bytes` of its text.
  void MakeAndBeKilled(const std::string& folder, const std::vector<std::string>& documents, size_t bytes) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto store = DatasetStore::Open(Options(folder));
      if (!store.ok()) _exit(1);
      const auto import = (*store)->Import({.name = "text"});
      if (!import.ok() || !absl::IsAborted(Feed(**import, documents, bytes))) _exit(1);
      kill(getpid(), SIGKILL);
    }
    int result = 0;
    ASSERT_EQ(waitpid(child, &result, 0), child);
    ASSERT_TRUE(WIFSIGNALED(result)) << result;
  }

  static std::string Files(const Dataset& dataset) {
    std::string all = dataset.info().hash + dataset.info().index_sha256 + dataset.info().sample;
    for (const ShardInfo& shard : dataset.info().shards) all += shard.file + shard.sha256;
    return all;
  }

  TempDirectory folder_;
};

TEST_F(ResumeTest, WhatAKillBrokeOffIsGoneOnWithAndEndsInTheSameFiles) {
  const auto documents = Text();
  BDH_ASSERT_OK_AND_ASSIGN(const auto calm, DatasetStore::Open(Options("calm")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto expected, Add(*calm, "text", documents));
  int resumed = 0;
  // Within the long document, while the rule is not known yet, after it, near the end.
  for (const size_t bytes :
       {size_t{100000}, size_t{1500000}, size_t{3000000}, size_t{4700000}, size_t{5000000}}) {
    const std::string folder = "killed" + std::to_string(bytes);
    MakeAndBeKilled(folder, documents, bytes);
    if (HasFatalFailure()) return;
    BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(Options(folder)));
    EXPECT_TRUE(store->List().empty()) << "nothing half done is listed";
    BDH_ASSERT_OK_AND_ASSIGN(const auto import, store->Import({.name = "text"}));
    resumed += import->progress().resumed_tokens > 0;
    BDH_ASSERT_OK(Feed(*import, documents));
    BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, import->Commit());
    EXPECT_EQ(Files(*dataset), Files(*expected)) << bytes;
    BDH_EXPECT_OK(dataset->Verify());
    EXPECT_FALSE(fs::exists(folder_.path() + "/" + folder + "/datasets/text/journal.json"));
    EXPECT_FALSE(fs::exists(folder_.path() + "/" + folder + "/datasets/text/waiting"));
  }
  EXPECT_GE(resumed, 2) << "the later kills at least came after a checkpoint";
}

TEST_F(ResumeTest, AKillOfTheSecondAttemptIsGoneOnWithToo) {
  const auto documents = Text();
  for (const size_t bytes : {1500000, 2500000, 3500000}) MakeAndBeKilled("again", documents, bytes);
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(Options("again")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store->Import({.name = "text"}));
  EXPECT_GT(import->progress().resumed_tokens, 0);
  BDH_ASSERT_OK(Feed(*import, documents));
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, import->Commit());
  BDH_ASSERT_OK_AND_ASSIGN(const auto calm, DatasetStore::Open(Options("calm")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto expected, Add(*calm, "text", documents));
  EXPECT_EQ(Files(*dataset), Files(*expected));
}

TEST_F(ResumeTest, OtherTextIsSaidAndTheNextAttemptBeginsAnew) {
  MakeAndBeKilled("changed", Text(), 3000000);
  auto documents = Text();
  documents[0][1000] ^= 1;
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(Options("changed")));
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto import, store->Import({.name = "text"}));
    EXPECT_GT(import->progress().resumed_tokens, 0);
    const absl::Status status = Feed(*import, documents);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "changed since the attempt that was broken off"))
        << status;
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Add(*store, "text", documents));
  BDH_EXPECT_OK(dataset->Verify());
}

TEST_F(ResumeTest, LessTextThanBeforeIsSaidToo) {
  MakeAndBeKilled("less", Text(), 3000000);
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(Options("less")));
  EXPECT_EQ(Add(*store, "text", {Noise(300000)}).status().code(), absl::StatusCode::kFailedPrecondition);
  BDH_EXPECT_OK(Add(*store, "text", {Noise(300000)}));
}

TEST_F(ResumeTest, ADamagedRestIsNotGoneOnWith) {
  const auto documents = Text();
  MakeAndBeKilled("damaged", documents, 4900000);
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path() + "/damaged/staging")) {
    if (entry.is_regular_file() && entry.path().extension() != ".json") fs::resize_file(entry.path(), 70);
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(Options("damaged")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store->Import({.name = "text"}));
  EXPECT_EQ(import->progress().resumed_tokens, 0);
  BDH_ASSERT_OK(Feed(*import, documents));
  BDH_EXPECT_OK(import->Commit());
}

TEST_F(ResumeTest, AfterAFullDiskTheShardsThatWereDoneAreUsed) {
  const auto documents = Text();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    // The third shard does not fit: on a disk all files share the room, here each has its own.
    auto options = Options("full");
    options.shard_tokens = 1 << 20;
    const auto store = DatasetStore::Open(options);
    if (!store.ok()) _exit(1);
    const rlimit limit = {900000, 900000};
    const auto import = (*store)->Import({.name = "text"});
    if (!import.ok()) _exit(2);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(3);
    const absl::Status status = Feed(**import, documents);
    if (!absl::IsResourceExhausted(status)) std::cerr << status << std::endl;
    _exit(absl::IsResourceExhausted(status) ? 0 : 4);
  }
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  auto options = Options("full");
  options.shard_tokens = 1 << 20;
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open(options));
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store->Import({.name = "text"}));
  EXPECT_GT(import->progress().resumed_tokens, 0);
  BDH_ASSERT_OK(Feed(*import, documents));
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, import->Commit());
  BDH_EXPECT_OK(dataset->Verify());
}

}  // namespace
}  // namespace bdh::corpus
