// What everything stands on: text for people, names, and files that are there whole or not at all.

#include <sys/stat.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "bdh/base/address.h"
#include "bdh/base/cores.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/sha256.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/testing/temp_directory.h"

namespace bdh {
namespace {

TEST(Cores, AThreadCountOfZeroIsOneACore) {
  EXPECT_GE(AvailableCores(), 1);
  EXPECT_EQ(ThreadCount(0), AvailableCores());
  EXPECT_EQ(ThreadCount(3), 3);
}

TEST(Text, BytesCountsAndDurationsReadLikeAPersonWouldWriteThem) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(4404412), "4.2 MiB");
  EXPECT_EQ(FormatBytes(uint64_t{192} << 20), "192.0 MiB");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(25300000), "25.3M");
  EXPECT_EQ(FormatCount(999999), "1.0M");
  EXPECT_EQ(FormatDuration(0.25), "0.2s");
  EXPECT_EQ(FormatDuration(125), "2m 05s");
  EXPECT_EQ(FormatDuration(7320), "2h 02m");
  EXPECT_EQ(FormatDuration(-1), "?");
}

TEST(Text, Sha256IsTheStandardsOne) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesAreTheSameAsTheWholeAndPeekingChangesNothing) {
  Sha256 sha;
  sha.Update("a");
  EXPECT_EQ(sha.Peek().Hex(), Sha256Hex("a"));
  sha.Update("bc");
  EXPECT_EQ(sha.Finish().Hex(), Sha256Hex("abc"));
  EXPECT_EQ(sha.Of("abc").Hex(), Sha256Hex("abc")) << "it began anew";
  EXPECT_EQ(Sha256Digest::FromBytes(sha.Of("x").view()), sha.Of("x"));
}

TEST(Sha256, NumbersAndTextsDoNotRunIntoEachOther) {
  Sha256 sha;
  sha.UpdateText("ab");
  sha.UpdateText("c");
  const Sha256Digest one = sha.Finish();
  sha.UpdateText("a");
  sha.UpdateText("bc");
  EXPECT_FALSE(sha.Finish() == one);
  sha.UpdateNumber(0x0102);
  EXPECT_EQ(sha.Finish().Hex(), Sha256Hex(std::string("\2\1\0\0\0\0\0\0", 8)));
}

TEST(Sha256, ManyStringsAtATimeKeepTheirOrder) {
  std::vector<std::string> strings(100);
  for (size_t i = 0; i < strings.size(); ++i) strings[i] = std::string(i * 1000, static_cast<char>(i));
  const std::vector<std::string_view> views(strings.begin(), strings.end());
  const std::vector<Sha256Digest> digests = Sha256OfEach(views);
  ASSERT_EQ(digests.size(), strings.size());
  for (size_t i = 0; i < strings.size(); ++i) EXPECT_EQ(digests[i].Hex(), Sha256Hex(strings[i])) << i;
  EXPECT_TRUE(Sha256OfEach({}).empty());
}

TEST(Text, RandomHexDiffersEachTime) {
  EXPECT_EQ(RandomHex(16).size(), 32u);
  EXPECT_NE(RandomHex(16), RandomHex(16));
}

TEST(Text, Utf8IsCheckedToTheLetter) {
  EXPECT_TRUE(IsUtf8("plain"));
  EXPECT_TRUE(IsUtf8("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\x89"));
  for (const char* bad :
       {"\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC3", "\xE2\x82", "\xFF"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

TEST(Text, ResourceNamesAreSafeAsFileNames) {
  for (const char* good : {"a", "kjv", "run-2.1_b", "0"}) EXPECT_TRUE(IsResourceName(good)) << good;
  for (const char* bad : {"", ".", "..", "-a", "A", "a/b", "a b", "a\n"})
    EXPECT_FALSE(IsResourceName(bad)) << bad;
  EXPECT_FALSE(IsResourceName(std::string(65, 'a')));
}

TEST(Address, HostAndPortAreSplitAsPeopleWriteThem) {
  for (const char* text : {"127.0.0.1:0", "localhost:8000", "[::1]:7011", "store.bdh.svc:65535"}) {
    const auto address = ParseHostPort(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
  for (const char* bad : {"", "host", ":80", "host:", "host:x", "host:-1", "host:65536", "::1:80", "[]:80"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
}

TEST(Address, LoopbackIsWhatThisMachineAloneCanReach) {
  for (const char* text : {"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(ParseHostPort(text)->IsLoopback()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"}) {
    EXPECT_FALSE(ParseHostPort(text)->IsLoopback()) << text;
  }
}

TEST(Files, AnAtomicWriteReplacesTheWholeFileAndKeepsItsMode) {
  TempDirectory folder;
  const std::string path = folder.path() + "/token";
  ASSERT_TRUE(WriteFileAtomically(path, "old", 0600).ok());
  ASSERT_TRUE(WriteFileAtomically(path, "new", 0600).ok());
  EXPECT_EQ(*ReadFile(path), "new");
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "a temporary file stayed";
}

TEST(Files, ErrorsNameTheFile) {
  const auto missing = ReadFile("/nonexistent/file");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("/nonexistent/file"), std::string::npos);
  EXPECT_EQ(WriteFileAtomically("/nonexistent/file", "x").code(), absl::StatusCode::kNotFound);
}

TEST(Files, ALockIsExclusiveUntilReleased) {
  TempDirectory folder;
  const std::string path = folder.path() + "/lock";
  {
    auto first = FileLock::Acquire(path, "in use");
    ASSERT_TRUE(first.ok());
    const auto second = FileLock::Acquire(path, "in use by another");
    EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(second.status().message(), "in use by another");
  }
  EXPECT_TRUE(FileLock::Acquire(path, "in use").ok());
}

TEST(StatusUtil, ErrnoBecomesACodeTheCallerCanActOn) {
  EXPECT_EQ(ErrnoStatus(ENOSPC, "write x").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EACCES, "open x").message(), "open x: Permission denied");
}

TEST(LogDeathTest, AFailedCheckSaysWhatFailed) {
  EXPECT_DEATH(BDH_CHECK(1 + 1 == 3) << "arithmetic", "check failed: 1 \\+ 1 == 3 arithmetic");
}

}  // namespace
}  // namespace bdh
