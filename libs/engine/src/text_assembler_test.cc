// Proves that a client sees whole characters and nothing of a stop text, wherever tokens cut them.
#include "bdh/engine/text_assembler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/testing/status_matchers.h"
#include "bdh/tokenizer/trainer.h"

namespace bdh::engine {
namespace {

using testing::StartsWith;

// What comes out for the bytes of `text`, one token a byte: pieces joined by '|' where they are not empty.
struct Result {
  std::string pieces;
  std::string text;
  std::vector<int32_t> tokens;
  bool stopped = false;
};

Result Assemble(std::string_view text, const std::vector<std::string>& stops) {
  TextAssembler assembler(*tokenizer::Find("byte"), stops);
  Result result;
  const auto take = [&result](const TextAssembler::Piece& piece) {
    if (!piece.text.empty()) result.pieces += piece.text + "|";
    result.text += piece.text;
    result.tokens.insert(result.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  };
  for (const char byte : text) {
    TextAssembler::Piece piece;
    const auto stopped = assembler.Push(static_cast<unsigned char>(byte), piece);
    EXPECT_TRUE(stopped.ok()) << stopped.status();
    take(piece);
    if (*stopped) {
      result.stopped = true;
      return result;
    }
  }
  TextAssembler::Piece piece;
  result.stopped = assembler.Finish(piece);
  take(piece);
  return result;
}

std::vector<int32_t> Bytes(std::string_view text) {
  std::vector<int32_t> tokens;
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  return tokens;
}

TEST(TextAssembler, TextWithoutStopsComesAtOnce) {
  const auto result = Assemble("abc", {});
  EXPECT_EQ(result.pieces, "a|b|c|");
  EXPECT_EQ(result.tokens, Bytes("abc"));
}

TEST(TextAssembler, ACharacterComesWholeAndItsTokensWithIt) {
  const auto result = Assemble("a\xC3\xA9\xE2\x82\xAC!", {});
  EXPECT_EQ(result.pieces, "a|\xC3\xA9|\xE2\x82\xAC|!|");
  EXPECT_EQ(result.tokens, Bytes("a\xC3\xA9\xE2\x82\xAC!"));
}

TEST(TextAssembler, BytesThatAreNoCharacterBecomeTheReplacement) {
  EXPECT_EQ(Assemble("a\xFF", {}).text, "a\xEF\xBF\xBD");
  EXPECT_EQ(Assemble("a\xE2\x82", {}).text, "a\xEF\xBF\xBD") << "cut off at the end";
  EXPECT_EQ(Assemble("a\xE2\x82", {}).tokens, Bytes("a\xE2\x82"));
}

TEST(TextAssembler, AStopTextEndsTheTextAndIsNotPartOfIt) {
  const auto result = Assemble("Hello.\nuser: more", {"\nuser:"});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.text, "Hello.");
  EXPECT_EQ(result.tokens, Bytes("Hello."));
}

TEST(TextAssembler, WhatMayBecomeAStopTextIsHeldBackUntilItDoesNot) {
  const auto result = Assemble("a\nusury", {"\nuser:"});
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.pieces, "a|\nusu|r|y|");
  EXPECT_EQ(result.tokens, Bytes("a\nusury"));
}

TEST(TextAssembler, WhatWasHeldBackComesAtTheEnd) {
  const auto result = Assemble("a\nuse", {"\nuser:"});
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.pieces, "a|\nuse|");
}

TEST(TextAssembler, AStopTextThatBeginsTwiceIsFound) {
  EXPECT_EQ(Assemble("xaaab!", {"aab"}).text, "xa");
  EXPECT_EQ(Assemble("ababac-", {"abac"}).text, "ab");
}

TEST(TextAssembler, TheFirstStopTextToBeCompleteEndsIt) {
  EXPECT_EQ(Assemble("one two", {"two", "one"}).text, "");
  EXPECT_EQ(Assemble("xabcd", {"abcd", "bc"}).text, "xa");
  EXPECT_EQ(Assemble("xabc", {"bc", "abc"}).text, "x") << "both end here: the longer one";
}

TEST(TextAssembler, AStopTextMayHoldCharactersOfSeveralBytes) {
  const auto result = Assemble("caf\xC3\xA9 \xE2\x82\xAC", {"\xC3\xA9 "});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.text, "caf");
}

TEST(TextAssembler, ATokenOutsideTheVocabularyIsAnError) {
  TextAssembler assembler(*tokenizer::Find("byte"), {});
  TextAssembler::Piece piece;
  EXPECT_EQ(assembler.Push(256, piece).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ValidateStops, NamesTheOneThatIsWrong) {
  const auto message = [](const std::vector<std::string>& stops) {
    return std::string(ValidateStops(stops).message());
  };
  BDH_EXPECT_OK(ValidateStops({}));
  BDH_EXPECT_OK(ValidateStops(std::vector<std::string>(16, std::string(256, 'x'))));
  EXPECT_THAT(message(std::vector<std::string>(17, "x")), StartsWith("stop holds 17 texts; want at most 16"));
  EXPECT_THAT(message({"a", ""}), StartsWith("stop[1] is 0 bytes long; want 1 to 256"));
  EXPECT_THAT(message({std::string(257, 'x')}), StartsWith("stop[0] is 257 bytes long"));
  EXPECT_THAT(message({"\xFF"}), StartsWith("stop[0] is not valid UTF-8"));
}

TEST(TextAssembler, EndsAtTheTokenizersEndOfText) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto trainer, tokenizer::TokenizerTrainer::Create({.vocab_size = 260}));
  trainer->Add("to be or not to be");
  BDH_ASSERT_OK_AND_ASSIGN(auto files, trainer->Finish());
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokenizer, tokenizer::LoadTokenizer("small", std::move(files)));
  std::vector<int32_t> tokens;
  tokenizer->Encode("to be st", tokens);

  TextAssembler assembler(tokenizer, {"stop"});
  TextAssembler::Piece piece;
  for (const int32_t token : tokens) {
    BDH_ASSERT_OK_AND_ASSIGN(const bool ended, assembler.Push(token, piece));
    EXPECT_FALSE(ended);
  }
  EXPECT_EQ(piece.text, "to be ");
  BDH_ASSERT_OK_AND_ASSIGN(const bool ended, assembler.Push(*tokenizer->end_of_text(), piece));
  EXPECT_TRUE(ended);
  EXPECT_EQ(piece.text, "to be st");
  EXPECT_EQ(piece.tokens, tokens);
}

}  // namespace
}  // namespace bdh::engine
