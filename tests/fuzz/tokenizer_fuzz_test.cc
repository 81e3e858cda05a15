// No tokenizer.json crashes its reader, what is accepted encodes and decodes anything without leaving its
// vocabulary, and byte-level tokenizers give every byte string back.
#include <gtest/gtest.h>

#include "bdh/testing/status_matchers.h"
#include "bdh/tokenizer/tokenizer.h"
#include "bdh/tokenizer/trainer.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

using tokenizer::Kind;

constexpr char kText[] =
    "the cat and the hat, they're 12 of 123; Caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 the bat";

std::vector<tokenizer::TokenizerFile> Trained(Kind kind, const char* split) {
  auto trainer = tokenizer::TokenizerTrainer::Create({.kind = kind,
                                                      .vocab_size = kind == Kind::kBpe ? 280 : 60,
                                                      .special_tokens = {},
                                                      .split = split,
                                                      .chat_template = ""});
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  (*trainer)->Add(kText);
  auto files = (*trainer)->Finish();
  EXPECT_TRUE(files.ok()) << files.status();
  return *std::move(files);
}

// All parts there are, so that damage finds each of them.
std::string Patchwork() {
  return R"({"version":"1.0","added_tokens":[{"id":4,"content":"<x>","single_word":true,"lstrip":true,"rstrip":true,
"normalized":true,"special":false}],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},
{"type":"Strip","strip_left":true,"strip_right":true},{"type":"StripAccents"},{"type":"Nmt"},{"type":"Prepend","prepend":"a"},
{"type":"Replace","pattern":{"Regex":"a{2,3}+"},"content":"b"},{"type":"Precompiled","precompiled_charsmap":"CAAAAAAEAAABAAAAYQA="}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|[^\\s\\d]"},
"behavior":"MergedWithNext","invert":true},{"type":"Punctuation","behavior":"Contiguous"},{"type":"Digits","individual_digits":true},
{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true}]},"post_processor":{"type":"TemplateProcessing",
"single":[{"SpecialToken":{"id":"<x>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<x>":{"id":"<x>","ids":[4]}}},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},
{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":1}]},"model":{"type":"BPE","unk_token":"u","byte_fallback":true,
"fuse_unk":true,"ignore_merges":true,"vocab":{"u":0,"a":1,"b":2,"ab":3,"<0x41>":5},"merges":["a b"]}})";
}

void Use(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.EncodeWithSpecials(text, tokens);
  tokenizer::DecodeState state;
  std::string bytes;
  for (const int32_t token : tokens) {
    ASSERT_GE(token, 0);
    ASSERT_LT(token, tokenizer.vocab_size());
    BDH_ASSERT_OK(tokenizer.DecodeNext(token, state, bytes));
    BDH_ASSERT_OK(tokenizer.Decode(token, bytes));
  }
  for (const int32_t token : {-1, tokenizer.vocab_size(), INT32_MAX})
    EXPECT_FALSE(tokenizer.Decode(token, bytes).ok());
}

std::string RandomText(Mutator& mutator) {
  std::string text(mutator.Below(40), '\0');
  for (char& c : text)
    c = mutator.Below(3) == 0 ? static_cast<char>(mutator.Below(256)) : kText[mutator.Below(sizeof kText)];
  return text;
}

TEST(TokenizerFuzz, DamagedFilesAreRefusedOrWork) {
  std::vector<std::string> good = {Patchwork()};
  for (const Kind kind : {Kind::kBpe, Kind::kWordPiece, Kind::kUnigram}) {
    good.push_back(Trained(kind, "llama3")[0].bytes);
  }
  Mutator mutator(23, {"{",
                       "}",
                       "[",
                       "]",
                       ",",
                       ":",
                       "\"",
                       "\\",
                       "null",
                       "true",
                       "false",
                       "0",
                       "-1",
                       "1048576",
                       "1e308",
                       "\"type\"",
                       "\"Sequence\"",
                       "\"ByteLevel\"",
                       "\"Split\"",
                       "\"BPE\"",
                       "\"Unigram\"",
                       "\"WordPiece\"",
                       "\"vocab\"",
                       "\"merges\"",
                       "\"<0x41>\"",
                       "\\\\p{L}",
                       "(?i:",
                       "{2,}+",
                       "[^",
                       "\"Fuse\"",
                       "\"NFC\"",
                       "\"\"",
                       " ",
                       "\\u2581",
                       "\xff"});
  const int rounds = Rounds(1500);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto loaded =
        tokenizer::LoadTokenizer("t", {{"tokenizer.json", mutator.Mutated(mutator.Pick(good))}});
    if (!loaded.ok()) {
      EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
      EXPECT_TRUE(std::string(loaded.status().message()).starts_with("tokenizer.json: ")) << loaded.status();
      continue;
    }
    ++accepted;
    Use(**loaded, RandomText(mutator));
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations are too wild to test anything but the parser";
}

TEST(TokenizerFuzz, ByteLevelTokenizersGiveEveryByteStringBack) {
  Mutator mutator(29, {"'s", "'LL", " ", "\n", "\r\n", "123", "\xE3\x80\x80", "\xC5\xBF", "\xF0\x9F\x90\x89",
                       "\xED\xA0\x80", "the"});
  for (const char* split : {"gpt2", "llama3"}) {
    const auto loaded = tokenizer::LoadTokenizer("t", Trained(Kind::kBpe, split));
    BDH_ASSERT_OK(loaded);
    for (int i = 0; i < Rounds(2000); ++i) {
      const std::string text = mutator.Mutated(RandomText(mutator));
      std::vector<int32_t> tokens;
      (*loaded)->Encode(text, tokens);
      std::string back;
      for (const int32_t token : tokens) BDH_ASSERT_OK((*loaded)->Decode(token, back));
      ASSERT_EQ(back, text);
    }
  }
}

}  // namespace
}  // namespace bdh::fuzz
