// Proves that each kind of tokenizer gives the ids and texts that Hugging Face's tokenizers 0.23 gives, on
// 2,200 texts: scripts of the world, emoji, combining marks, runs of whitespace, code, unassigned characters,
// noise.
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "golden_texts.h"

namespace bdh::tokenizer {
namespace {

// Of the first few that differ it says how.
int CountDifferences(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                     const std::vector<GoldenRow>& rows,
                     const std::function<std::string(const std::vector<int32_t>&)>& decode) {
  constexpr int kShown = 5;
  int different = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<int32_t> ids, with_specials;
    tokenizer.Encode(texts[i], ids);
    tokenizer.EncodeWithSpecials(texts[i], with_specials);
    const std::string decoded = decode(rows[i].ids);
    if (ids == rows[i].ids && with_specials == rows[i].with_specials && decoded == rows[i].decoded) continue;
    if (++different > kShown) continue;
    EXPECT_EQ(ids, rows[i].ids) << "text " << i << ": " << nlohmann::json(texts[i]).dump(-1, ' ', true);
    EXPECT_EQ(with_specials, rows[i].with_specials) << "text " << i;
    EXPECT_EQ(decoded, rows[i].decoded) << "text " << i;
  }
  return different;
}

class ParityOfKind : public ::testing::TestWithParam<const char*> {};

TEST_P(ParityOfKind, IdsAndTextsAreTheSame) {
  const auto tokenizer = GoldenTokenizer(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const std::vector<std::string> texts = GoldenTexts();
  const std::vector<GoldenRow> rows = GoldenRows(GetParam());
  ASSERT_GE(texts.size(), 2000u);
  ASSERT_EQ(rows.size(), texts.size());
  EXPECT_EQ(CountDifferences(*tokenizer, texts, rows,
                             [&](const std::vector<int32_t>& ids) { return Streamed(tokenizer, ids); }),
            0);
}

// Ids that no text has.
void CompareDecoding(const std::shared_ptr<const Tokenizer>& tokenizer, const std::string& shape,
                     const std::string& folder) {
  GoldenReader reader(ReadGolden(shape + "/decode.bin", folder));
  while (!reader.done()) {
    const std::vector<int32_t> ids = reader.Ids();
    ASSERT_EQ(Streamed(tokenizer, ids), reader.Text()) << nlohmann::json(ids).dump();
  }
}

// A folder with a folder for each tokenizer, which has texts of its own.
void CompareShapes(const std::string& folder) {
  int shapes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string shape = entry.path().filename().string();
    SCOPED_TRACE(shape);
    const auto tokenizer = GoldenTokenizer(shape, folder);
    if (tokenizer == nullptr) continue;  // It has failed.
    const std::vector<std::string> texts = GoldenTexts(shape + "/texts", folder);
    const std::vector<GoldenRow> rows = GoldenRows(shape, folder);
    ASSERT_EQ(rows.size(), texts.size());
    EXPECT_EQ(CountDifferences(*tokenizer, texts, rows,
                               [&](const std::vector<int32_t>& ids) { return Streamed(tokenizer, ids); }),
              0)
        << "of " << texts.size() << " texts";
    if (std::filesystem::exists(entry.path() / "decode.bin.gz")) CompareDecoding(tokenizer, shape, folder);
    ++shapes;
  }
  EXPECT_GT(shapes, 0);
}

// Odd orders of parts, kept because something was wrong with each once.
TEST(Parity, OddShapesAreTheSame) {
  CompareShapes(std::string(kGoldenFolder) + "/shapes");
}

// What tests/tools/sweep_tokenizers.py made just now, of other shapes and texts than those that are kept.
TEST(Parity, VectorsFromOutsideAreTheSame) {
  const char* const folder = std::getenv("BDH_TOKENIZER_VECTORS");
  if (folder == nullptr) GTEST_SKIP() << "BDH_TOKENIZER_VECTORS names no folder";
  CompareShapes(folder);
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, ParityOfKind,
                         ::testing::Values("gpt2", "roberta", "llama3", "qwen2", "regexes", "o200k",
                                           "behaviours", "llama2", "clip", "bert", "bert_cased", "t5",
                                           "unigram_first", "unigram_trained", "wordpiece_trained"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace bdh::tokenizer
