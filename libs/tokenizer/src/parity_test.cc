// Proves that each kind of tokenizer gives the ids and texts that Hugging Face's tokenizers 0.23 gives, on
// 2,200 texts: scripts of the world, emoji, combining marks, runs of whitespace, code, unassigned characters,
// noise.
#include "golden_texts.h"

namespace bdh::tokenizer {
namespace {

class Parity : public ::testing::TestWithParam<const char*> {};

TEST_P(Parity, IdsAndTextsAreTheSame) {
  const auto tokenizer = GoldenTokenizer(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const std::vector<std::string> texts = GoldenTexts();
  const std::vector<GoldenRow> rows = GoldenRows(GetParam());
  ASSERT_GE(texts.size(), 2000u);
  ASSERT_EQ(rows.size(), texts.size());
  int different = 0;
  for (size_t i = 0; i < texts.size() && different < 5; ++i) {
    std::vector<int32_t> ids, with_specials;
    tokenizer->Encode(texts[i], ids);
    tokenizer->EncodeWithSpecials(texts[i], with_specials);
    const std::string decoded = Streamed(tokenizer, rows[i].ids);
    if (ids == rows[i].ids && with_specials == rows[i].with_specials && decoded == rows[i].decoded) continue;
    ++different;
    EXPECT_EQ(ids, rows[i].ids) << "text " << i << ": " << nlohmann::json(texts[i]).dump(-1, ' ', true);
    EXPECT_EQ(with_specials, rows[i].with_specials) << "text " << i;
    EXPECT_EQ(decoded, rows[i].decoded) << "text " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, Parity,
                         ::testing::Values("gpt2", "roberta", "llama3", "qwen2", "regexes", "o200k",
                                           "behaviours", "llama2", "clip", "bert", "bert_cased", "t5",
                                           "unigram_first", "unigram_trained"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace bdh::tokenizer
