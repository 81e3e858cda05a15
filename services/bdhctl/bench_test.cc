// Proves what `bdhctl bench data` stands on: its text is mixed and always the same, encoding in threads and
// in processes covers all of it, and a program that works beside it is understood, also when it ends.
#include <gtest/gtest.h>

#include <algorithm>

#include "bdh/base/file.h"
#include "bdh/base/text.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "services/bdhctl/bench_encode.h"
#include "services/bdhctl/bench_text.h"

namespace bdh::bdhctl {
namespace {

TEST(BenchText, IsMixedAndAlwaysTheSame) {
  const std::string text = MixedText(300000);
  EXPECT_EQ(text, MixedText(300000));
  EXPECT_LE(text.size(), 300000u);
  EXPECT_GT(text.size(), 299990u);
  EXPECT_TRUE(IsUtf8(text));
  const auto ascii = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  EXPECT_GT(ascii, 120000);
  EXPECT_LT(ascii, 220000);
  for (const char* some :
       {"return", "## ", "не", "的", "です", "안", "नि", "👩‍🔬", "ال", "\r\n", "\t"}) {
    EXPECT_NE(text.find(some), std::string::npos) << some;
  }
}

TEST(BenchEncode, EncodesAllOfTheText) {
  const std::string text = MixedText(400000);
  const auto files = TrainOnLines(text, 1000);
  BDH_ASSERT_OK(files);
  const auto tokenizer = tokenizer::LoadTokenizer("bench", *files);
  BDH_ASSERT_OK(tokenizer);
  std::vector<int32_t> whole, part;
  (*tokenizer)->Encode(text, whole);
  // Spaces behind a line's end are not of one token with it where it ends a document.
  EXPECT_NEAR(static_cast<double>(EncodeAll(**tokenizer, text)), static_cast<double>(whole.size()), 20);
  (*tokenizer)->Encode(text.substr(0, 60000), part);
  EXPECT_EQ(EncodeAll(**tokenizer, text.substr(0, 60000)), part.size());
  EncodeThreads threads(*tokenizer, text, 2);
  EXPECT_GT(threads.Round(), 0);
  EXPECT_GT(threads.Round(), 0);
}

TEST(BenchEncode, MedianIsTheMiddle) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
}

TEST(BenchEncode, SaysWhyHuggingFaceIsNotMeasured) {
  const TempDirectory folder;
  const auto nothing = HuggingFace::Start(folder.path() + "/no-python", folder.path());
  EXPECT_FALSE(nothing.ok());
  // A program that is no Python ends without a word.
  const auto ended = HuggingFace::Start("true", folder.path());
  EXPECT_TRUE(absl::IsUnavailable(ended.status())) << ended.status();
}

TEST(Companion, IsToldAndAnswersLineByLine) {
  auto companion = Companion::Start({"cat"});
  BDH_ASSERT_OK(companion);
  BDH_ASSERT_OK((*companion)->Send("one\ntwo"));
  EXPECT_EQ((*companion)->Receive().value(), "one");
  EXPECT_EQ((*companion)->Receive().value(), "two");
  BDH_ASSERT_OK((*companion)->Send("2.5"));
  EXPECT_EQ((*companion)->ReceiveNumber().value(), 2.5);
  BDH_ASSERT_OK((*companion)->Send("ValueError: no"));
  EXPECT_EQ((*companion)->ReceiveNumber().status().message(), "ValueError: no");
}

TEST(Companion, ThatHasEndedIsUnavailable) {
  auto companion = Companion::Start({"true"});
  BDH_ASSERT_OK(companion);
  EXPECT_TRUE(absl::IsUnavailable((*companion)->Receive().status()));
  EXPECT_TRUE(absl::IsUnavailable((*companion)->Send("x")));
}

}  // namespace
}  // namespace bdh::bdhctl
