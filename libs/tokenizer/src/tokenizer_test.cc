// Proves that byte tokens carry any byte string unchanged, and that the stream decoder's text is always valid
// UTF-8, is the same however the bytes arrive, and replaces broken bytes as the Unicode standard says.
#include "bdh/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include <numeric>
#include <random>

#include "absl/strings/match.h"
#include "bdh/base/text.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::tokenizer {
namespace {

using ::testing::ElementsAre;

std::shared_ptr<const Tokenizer> Byte() {
  return Find("byte").value();
}

// What the decoder says to each byte and, last, to the end.
std::vector<std::string> Pieces(std::string_view bytes) {
  StreamDecoder decoder(Byte());
  std::vector<std::string> pieces;
  for (const char c : bytes) pieces.push_back(decoder.Push(static_cast<unsigned char>(c)).value());
  pieces.push_back(decoder.Flush());
  return pieces;
}

std::string Decoded(std::string_view bytes) {
  const auto pieces = Pieces(bytes);
  return std::accumulate(pieces.begin(), pieces.end(), std::string());
}

std::string RandomBytes(std::mt19937& random, std::string_view alphabet, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes)
    c = alphabet.empty() ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
  return bytes;
}

TEST(Tokenizer, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const auto status = Find("gpt2").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), "'gpt2'")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "byte")) << status;
  EXPECT_EQ(Find("").value()->name(), "byte");
}

TEST(Tokenizer, EveryByteIsItsOwnToken) {
  std::string all(256, '\0');
  std::iota(all.begin(), all.end(), '\0');
  std::vector<int32_t> tokens = {7};
  Byte()->Encode(all, tokens);
  ASSERT_EQ(tokens.size(), 257u) << "appends";
  std::string back;
  for (size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i], static_cast<int32_t>(i - 1));
    BDH_ASSERT_OK(Byte()->Decode(tokens[i], back));
  }
  EXPECT_EQ(back, all);
  EXPECT_EQ(Byte()->vocab_size(), 256);
  EXPECT_FALSE(Byte()->end_of_text().has_value());
}

TEST(Tokenizer, ATokenOutsideTheVocabularyIsNamed) {
  for (const int32_t token : {-1, 256, INT32_MIN, INT32_MAX}) {
    std::string bytes = "before";
    const auto status = Byte()->Decode(token, bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), std::to_string(token))) << status;
    EXPECT_EQ(bytes, "before");
  }
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  EXPECT_THAT(Pieces("a\xC3\xA9"), ElementsAre("a", "", "\xC3\xA9", ""));
  EXPECT_THAT(Pieces("\xE2\x82\xAC"), ElementsAre("", "", "\xE2\x82\xAC", ""));
  EXPECT_THAT(Pieces("\xF0\x9F\x90\x89!"), ElementsAre("", "", "", "\xF0\x9F\x90\x89", "!", ""));
}

TEST(StreamDecoder, ABadTokenLeavesWhatIsHeldBackInPlace) {
  StreamDecoder decoder(Byte());
  BDH_ASSERT_OK(decoder.Push(0xC3));
  EXPECT_FALSE(decoder.Push(1000).ok());
  BDH_ASSERT_OK_AND_ASSIGN(const std::string text, decoder.Push(0xA9));
  EXPECT_EQ(text, "\xC3\xA9");
}

TEST(StreamDecoder, FlushBeginsAnew) {
  StreamDecoder decoder(Byte());
  BDH_ASSERT_OK(decoder.Push(0xF0));
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
  BDH_ASSERT_OK_AND_ASSIGN(const std::string text, decoder.Push('x'));
  EXPECT_EQ(text, "x");
}

// Expected texts are those of CPython's bytes.decode("utf-8", "replace").
TEST(StreamDecoder, ReplacesMaximalSubparts) {
  const struct {
    std::string bytes, text;
  } kCases[] = {
      {"\x80", "\uFFFD"},
      {"\xBF\xBF", "\uFFFD\uFFFD"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
      {"\xC3(", "\uFFFD("},
      {"\xC3\xC3\xA9", "\uFFFD\u00E9"},
      {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xE2\x82", "\uFFFD"},
      {"\xE2\x82z", "\uFFFDz"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x90", "\uFFFD"},
      {"\xF0\x9F\x90\xF0\x9F\x90\x89", "\uFFFD\U0001F409"},
      {"\xF0\x80\x80\xAF", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF5\x80", "\uFFFD\uFFFD"},
      {"\xFF\xFE", "\uFFFD\uFFFD"},
      // The standard's own example, table 3-8.
      {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd"},
  };
  for (const auto& test : kCases) EXPECT_EQ(Decoded(test.bytes), test.text);
}

TEST(StreamDecoder, EveryCharacterPassesUnchanged) {
  for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 61) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string utf8;
    if (c < 0x80) {
      utf8 = {static_cast<char>(c)};
    } else if (c < 0x800) {
      utf8 = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      utf8 = {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      utf8 = {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
              static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
    ASSERT_EQ(Decoded(utf8), utf8) << c;
  }
}

TEST(StreamDecoder, EveryPieceIsValidWhateverTheBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    // Half of them from bytes that look like UTF-8 but seldom are.
    const std::string_view alphabet = round % 2 == 0 ? "" : "a\x80\x90\xA0\xBF\xC3\xE0\xE2\xED\xF0\xF4\xFF";
    const std::string bytes = RandomBytes(random, alphabet, 24);
    for (const std::string& piece : Pieces(bytes)) ASSERT_TRUE(IsUtf8(piece));
    if (IsUtf8(bytes)) {
      ASSERT_EQ(Decoded(bytes), bytes);
    }
  }
}

}  // namespace
}  // namespace bdh::tokenizer
