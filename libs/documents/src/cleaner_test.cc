// Proves that cleaning gives the same however a text is cut into pieces, for every combination of what it
// does.
#include "cleaner.h"

#include <gtest/gtest.h>

#include <random>

namespace bdh::documents {
namespace {

std::string Clean(const Options& options, std::string_view text, size_t piece, bool* broken = nullptr) {
  Cleaner cleaner(options);
  cleaner.Begin();
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) cleaner.Append(text.substr(at, piece), out);
  cleaner.End(out);
  if (broken != nullptr) *broken = cleaner.broken();
  return out;
}

TEST(Cleaner, KeepsEveryByteUnlessAsked) {
  const std::string text = "a\r\nb\xff\xc3\xe2\x82 \xf0\x9f\x90\x89 e\xcc\x81";
  bool broken = false;
  EXPECT_EQ(Clean({}, text, 1, &broken), text);
  EXPECT_TRUE(broken);
  EXPECT_EQ(Clean({},
                  "gr\xc3\xb6\xc3\x9f"
                  "e",
                  2, &broken),
            "größe");
  EXPECT_FALSE(broken);
}

TEST(Cleaner, DoesEachOfItsWorks) {
  EXPECT_EQ(Clean({}, "\xef\xbb\xbfx\xef\xbb\xbf", 1), "x\xef\xbb\xbf");
  EXPECT_EQ(Clean({.strip_bom = false}, "\xef\xbb\xbfx", 1), "\xef\xbb\xbfx");
  EXPECT_EQ(Clean({.unix_line_ends = true}, "a\r\nb\rc\n\r\r\n", 1), "a\nb\nc\n\n\n");
  EXPECT_EQ(Clean({.nfc = true}, "e\xcc\x81 a\xcc\xa3\xcc\x82 \xff o\xcc\x88", 1), "é \xe1\xba\xad \xff ö");
  // Maximal parts, as Unicode recommends: E2 82 is one, ED A0 80 three, F5 one.
  EXPECT_EQ(Clean({.utf8 = Utf8Policy::kRepair}, "\xe2\x82|\xed\xa0\x80|\xf5|\xf0\x9f\x90", 1),
            "\ufffd|\ufffd\ufffd\ufffd|\ufffd|\ufffd");
}

TEST(Cleaner, PiecesDoNotMatter) {
  std::mt19937 random(7);
  const std::string parts[] = {"a",
                               "\r",
                               "\n",
                               "\r\n",
                               "é",
                               "e\xcc\x81",
                               "\xcc\x81",
                               "水",
                               "🐉",
                               "\xff",
                               "\xc3",
                               "\xe2\x82",
                               "\xf0\x9f",
                               "\xef\xbb\xbf",
                               "abcdefghij",
                               "가",
                               "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += parts[random() % std::size(parts)];
    for (int flags = 0; flags < 16; ++flags) {
      const Options options = {.utf8 = flags & 1 ? Utf8Policy::kRepair : Utf8Policy::kKeep,
                               .strip_bom = (flags & 2) != 0,
                               .unix_line_ends = (flags & 4) != 0,
                               .nfc = (flags & 8) != 0};
      bool whole_broken = false, broken = false;
      const std::string whole = Clean(options, text, text.size() + 1, &whole_broken);
      for (const size_t piece : {1, 2, 3, 5}) {
        ASSERT_EQ(Clean(options, text, piece, &broken), whole) << round << " " << flags;
        ASSERT_EQ(broken, whole_broken);
      }
    }
  }
}

TEST(Cleaner, MarksWithoutEndDoNotPileUp) {
  std::string marks = "e";
  while (marks.size() < (1 << 20)) marks += "\xcc\xa7\xcc\x81";
  Cleaner cleaner({.nfc = true});
  cleaner.Begin();
  std::string out;
  for (size_t at = 0; at < marks.size(); at += 1000)
    cleaner.Append(std::string_view(marks).substr(at, 1000), out);
  EXPECT_GT(out.size(), marks.size() - (200 << 10));
  cleaner.End(out);
  EXPECT_GT(out.size(), marks.size() / 2);
}

}  // namespace
}  // namespace bdh::documents
