// Proves that training gives the merges that Hugging Face's trainer gives from the same text, that every kind
// can be loaded again and is whole, and that it can be watched, stopped and held within a bound.
#include "bdh/tokenizer/trainer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "bdh/testing/status_matchers.h"
#include "golden_texts.h"

namespace bdh::tokenizer {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::unique_ptr<TokenizerTrainer> Fed(const TrainerOptions& options) {
  auto trainer = TokenizerTrainer::Create(options);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  for (const std::string& line : GoldenTexts("corpus")) (*trainer)->Add(line);
  return *std::move(trainer);
}

std::string JsonOf(const std::vector<TokenizerFile>& files) {
  for (const TokenizerFile& file : files) {
    if (file.name == "tokenizer.json") return file.bytes;
  }
  return "{}";
}

// As lists of pairs, whether they are written as texts or as pairs.
std::vector<std::string> Merges(const Json& tokenizer) {
  std::vector<std::string> merges;
  for (const Json& merge : tokenizer["model"]["merges"]) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return merges;
}

void ExpectSameAsTheirs(const std::string& golden, const TrainerOptions& options) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto files, Fed(options)->Finish());
  const Json ours = Json::parse(JsonOf(files)), theirs = Json::parse(ReadGolden(golden + "/tokenizer.json"));
  EXPECT_EQ(Merges(ours), Merges(theirs));
  EXPECT_EQ(ours["model"]["vocab"], theirs["model"]["vocab"]);
  EXPECT_THAT(Merges(ours).size(), Ge(900u));
}

TEST(Trainer, MergesAreHuggingFacesWithGpt2sSplit) {
  ExpectSameAsTheirs(
      "gpt2",
      {.vocab_size = 1200, .special_tokens = {"<|endoftext|>"}, .split = "gpt2", .chat_template = ""});
}

TEST(Trainer, MergesAreHuggingFacesWithLlama3sSplit) {
  ExpectSameAsTheirs("llama3", {.vocab_size = 1200,
                                .special_tokens = {"<|begin_of_text|>", "<|endoftext|>"},
                                .split = "llama3",
                                .chat_template = ""});
}

TEST(Trainer, UnigramKeepsThePiecesThatHuggingFaceKeeps) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto files, Fed({.kind = Kind::kUnigram, .vocab_size = 600})->Finish());
  const Json ours = Json::parse(JsonOf(files)),
             theirs = Json::parse(ReadGolden("unigram_trained/tokenizer.json"));
  const auto scores = [](const Json& tokenizer) {
    std::map<std::string, double> out;
    for (const Json& piece : tokenizer["model"]["vocab"]) out[piece[0]] = piece[1];
    return out;
  };
  const auto mine = scores(ours), others = scores(theirs);
  EXPECT_EQ(mine.size(), others.size());
  size_t same = 0;
  for (const auto& [piece, score] : mine) {
    const auto other = others.find(piece);
    if (other != others.end() && std::abs(other->second - score) < 0.05) ++same;
  }
  EXPECT_GE(same, others.size() * 98 / 100) << "of " << others.size();
}

// Theirs numbers the letters by chance, and with them which of two equally frequent pairs comes first: two
// runs of it have 95 to 97 of 100 tokens in common here.
TEST(Trainer, WordPieceIsAsShortAsHuggingFacesAndKeepsTheSameTokens) {
  BDH_ASSERT_OK_AND_ASSIGN(auto files, Fed({.kind = Kind::kWordPiece, .vocab_size = 1500})->Finish());
  const Json ours = Json::parse(JsonOf(files)),
             theirs = Json::parse(ReadGolden("wordpiece_trained/tokenizer.json"));
  const Json &mine = ours["model"]["vocab"], &others = theirs["model"]["vocab"];
  size_t same = 0;
  for (const auto& [token, id] : mine.items()) same += others.contains(token) ? 1 : 0;
  EXPECT_GE(same, others.size() * 94 / 100) << "of " << others.size() << " and " << mine.size();
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer("ours", std::move(files)));
  const auto golden = GoldenTokenizer("wordpiece_trained");
  std::vector<int32_t> our_tokens, their_tokens;
  for (const std::string& line : GoldenTexts("corpus")) {
    tokenizer->Encode(line, our_tokens);
    golden->Encode(line, their_tokens);
  }
  const auto ratio = static_cast<double>(our_tokens.size()) / static_cast<double>(their_tokens.size());
  EXPECT_GT(ratio, 0.99);
  EXPECT_LT(ratio, 1.01);
}

class EveryKind : public ::testing::TestWithParam<Kind> {
 protected:
  TrainerOptions Options() const {
    return {.kind = GetParam(),
            .vocab_size = 1500,
            .special_tokens = {},
            .split = "",
            .chat_template = "{{ messages }}"};
  }
};

TEST_P(EveryKind, TrainsATokenizerThatLoadsAndKnowsItsText) {
  BDH_ASSERT_OK_AND_ASSIGN(auto files, Fed(Options())->Finish());
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer("t", std::move(files)));
  EXPECT_EQ(tokenizer->kind(), GetParam());
  EXPECT_LE(tokenizer->vocab_size(), 1500);
  EXPECT_GE(tokenizer->vocab_size(), 700);
  EXPECT_TRUE(tokenizer->end_of_text().has_value());
  EXPECT_EQ(tokenizer->chat_template(), "{{ messages }}");
  std::set<int32_t> unknown;
  for (const char* name : {"[UNK]", "<unk>"}) {
    if (const auto id = tokenizer->TokenId(name); id.has_value()) unknown.insert(*id);
  }
  std::vector<int32_t> tokens;
  tokenizer->Encode("The quick brown fox jumps over the lazy dog", tokens);
  for (const int32_t token : tokens) EXPECT_FALSE(unknown.contains(token));
  EXPECT_LT(tokens.size(), 30u);
}

TEST_P(EveryKind, IsTheSameEveryTime) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto once, Fed(Options())->Finish());
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Fed(Options())->Finish());
  EXPECT_EQ(HashOf(once), HashOf(again));
}

TEST_P(EveryKind, SaysHowFarItIsAndStopsWhenAsked) {
  const auto trainer = Fed(Options());
  std::set<std::string> phases;
  const auto cancelled = trainer->Finish([&](const TrainerProgress& progress) {
    phases.emplace(progress.phase);
    EXPECT_EQ(progress.bytes_in, trainer->bytes_in());
    EXPECT_EQ(progress.vocab_size_wanted, 1500);
    return progress.phase == "counting";
  });
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(phases.size(), Ge(2u));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, ::testing::Values(Kind::kBpe, Kind::kWordPiece, Kind::kUnigram),
                         [](const auto& info) { return std::string(KindName(info.param)); });

TEST(Trainer, ForgetsRareWordsBeyondItsMemoryAndSaysSo) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto trainer, TokenizerTrainer::Create({.vocab_size = 400,
                                                                         .special_tokens = {},
                                                                         .split = "",
                                                                         .chat_template = "",
                                                                         .max_memory_bytes = 20000}));
  for (int i = 0; i < 2000; ++i)
    trainer->Add(" common word" + std::string(1 + i % 3, 'x') + std::to_string(i * 7919));
  EXPECT_GT(trainer->forgotten_words(), 0);
  BDH_ASSERT_OK_AND_ASSIGN(auto files, trainer->Finish());
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer("t", std::move(files)));
  EXPECT_TRUE(tokenizer->TokenId("\u0120common").has_value());
}

TEST(Trainer, SaysWhatIsWrongWithItsOptions) {
  const auto complaint = [](TrainerOptions options) {
    auto made = TokenizerTrainer::Create(std::move(options));
    if (!made.ok()) return std::string(made.status().message());
    return std::string((*made)->Finish().status().message());
  };
  EXPECT_THAT(complaint({.kind = Kind::kByte}), HasSubstr("needs no training"));
  EXPECT_THAT(complaint({.vocab_size = 256}), HasSubstr("vocab_size is 256; want at least 257"));
  EXPECT_THAT(complaint({.vocab_size = kMaxVocabulary + 1}), HasSubstr("want 1 to 1048576"));
  EXPECT_THAT(complaint({.special_tokens = {"<a>", "<a>"}}), HasSubstr("'<a>' is given twice"));
  EXPECT_THAT(complaint({.special_tokens = {""}}), HasSubstr("empty"));
  EXPECT_THAT(complaint({.split = "bert"}), AllOf(HasSubstr("'bert'"), HasSubstr("gpt2 or llama3")));
  EXPECT_THAT(complaint({.min_frequency = -1}), HasSubstr("min_frequency is -1"));
  EXPECT_THAT(complaint({}), HasSubstr("no text"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto small,
                           TokenizerTrainer::Create({.kind = Kind::kUnigram, .vocab_size = 10}));
  small->Add("abcdefghijklmnop");
  EXPECT_THAT(std::string(small->Finish().status().message()), HasSubstr("different characters"));
}

}  // namespace
}  // namespace bdh::tokenizer
