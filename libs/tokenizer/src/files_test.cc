// Proves that a tokenizer's files are read or refused with file and place, that byte-level kinds carry every
// byte string, that streams equal whole texts, that threads do not disturb each other, and that a library
// survives a crash.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "bdh/base/file.h"
#include "bdh/base/text.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/tokenizer/library.h"
#include "golden_texts.h"
#include "split_regex.h"

namespace bdh::tokenizer {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<TokenizerFile> Files(const Json& json) {
  return {{"tokenizer.json", json.dump()}};
}

Json Golden(const std::string& kind) {
  return Json::parse(ReadGolden(kind + "/tokenizer.json"));
}

std::string ComplaintOf(const std::string& kind, const std::function<void(Json&)>& change) {
  Json json = Golden(kind);
  change(json);
  const auto status = LoadTokenizer("t", Files(json)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(TokenizerFiles, UnknownPartsAreRefusedByName) {
  const struct {
    const char *kind, *where;
    Json part;
    const char* complaint;
  } kCases[] = {
      {"gpt2", "normalizer", {{"type", "Shout"}}, "normalizer.type is \"Shout\""},
      {"gpt2", "pre_tokenizer", {{"type", "UnicodeScripts"}}, "pre_tokenizer.type is \"UnicodeScripts\""},
      {"gpt2", "decoder", {{"type", "CTC"}}, "decoder.type is \"CTC\""},
      {"gpt2", "post_processor", {{"type", "Pair"}}, "post_processor.type is \"Pair\""},
      {"gpt2", "model", {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}}, "model.type is \"WordLevel\""},
      {"gpt2", "version", "2.0", "version is not \"1.0\""},
      {"gpt2",
       "pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}, {"invert", false}}}}},
       "pretokenizers[0].pattern regular expression '(a' cannot be read"},
      {"gpt2",
       "pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "\\X"}}}, {"behavior", "Isolated"}, {"invert", false}},
       "\\X"},
      {"gpt2",
       "pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Gone"}, {"invert", false}},
       "behavior is none of"},
      {"t5",
       "normalizer",
       {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}},
       "shorter than its header"},
      {"t5",
       "normalizer",
       {{"type", "Precompiled"}, {"precompiled_charsmap", "/////w=="}},
       "longer than it is"},
      {"t5",
       "pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "ab"}},
       "replacement is not a text of one character"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(ComplaintOf(test.kind, [&](Json& json) { json[test.where] = test.part; }),
                AllOf(HasSubstr("tokenizer.json: "), HasSubstr(test.complaint)));
  }
}

TEST(TokenizerFiles, BrokenVocabulariesAreRefusedWithTheirPlace) {
  const struct {
    const char* kind;
    std::function<void(Json&)> change;
    const char* complaint;
  } kCases[] = {
      {"gpt2", [](Json& j) { j["model"]["vocab"]["zzz"] = 5; }, "gives the id 5 to"},
      {"gpt2", [](Json& j) { j["model"]["vocab"]["zzz"] = -5; }, "gives 'zzz' the id -5"},
      {"gpt2", [](Json& j) { j["model"]["vocab"]["zzz"] = 1 << 20; }, "not a whole number of 0 to 1048575"},
      {"gpt2", [](Json& j) { j["model"]["vocab"]["zzz"] = 1000000; }, "want few gaps"},
      {"gpt2", [](Json& j) { j["model"]["vocab"]["zzz"] = "7"; }, "not a whole number"},
      {"gpt2", [](Json& j) { j["model"]["vocab"] = Json::object(); }, "model.vocab is empty"},
      {"gpt2",
       [](Json& j) {
         j["model"]["merges"].push_back({"zzz", "a"});
       },
       "merges 'zzz', which is not in model.vocab"},
      {"gpt2",
       [](Json& j) {
         j["model"]["merges"].push_back({"!", "\""});
       },
       "makes '!\"', which is not in model.vocab"},
      {"gpt2", [](Json& j) { j["model"]["merges"][3] = "a b c"; }, "model.merges[3] is not two tokens"},
      {"gpt2", [](Json& j) { j["model"]["merges"][3] = 7; }, "model.merges[3] is neither"},
      {"gpt2", [](Json& j) { j["model"]["unk_token"] = "<nope>"; }, "unk_token is '<nope>'"},
      {"gpt2", [](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout is set"},
      {"gpt2", [](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, "added before"},
      {"gpt2", [](Json& j) { j["added_tokens"][0]["id"] = 7; }, "model.vocab gives it 0"},
      {"gpt2", [](Json& j) { j["added_tokens"][0]["content"] = "<new>"; },
       "which model.vocab gives '<|endoftext|>'"},
      {"bert", [](Json& j) { j["model"]["unk_token"] = "<nope>"; }, "unk_token is '<nope>'"},
      {"t5", [](Json& j) { j["model"]["vocab"][9] = {"a"}; }, "model.vocab[9] is not a text and its score"},
      {"t5", [](Json& j) { j["model"]["vocab"][9][0] = j["model"]["vocab"][8][0]; }, "twice"},
      {"t5", [](Json& j) { j["model"]["unk_id"] = 99999; }, "unk_id is not a whole number of 0 to"},
      {"bert", [](Json& j) { j["post_processor"]["single"] = Json::array(); }, "has no place for the text"},
  };
  for (const auto& test : kCases) EXPECT_THAT(ComplaintOf(test.kind, test.change), HasSubstr(test.complaint));
}

TEST(TokenizerFiles, FilesThatAreNoneAreRefused) {
  const auto complaint = [](std::vector<TokenizerFile> files) {
    return std::string(LoadTokenizer("t", std::move(files)).status().message());
  };
  EXPECT_THAT(complaint({}), HasSubstr("neither tokenizer.json nor tokenizer.model"));
  EXPECT_THAT(complaint({{"vocab.txt", "a"}}), HasSubstr("'vocab.txt' is no file of a tokenizer"));
  EXPECT_THAT(complaint({{"tokenizer.json", "{"}}), HasSubstr("tokenizer.json: is not valid JSON at byte"));
  EXPECT_THAT(complaint({{"tokenizer.json", "[]"}}), HasSubstr("not a JSON object"));
  EXPECT_THAT(complaint({{"tokenizer.json", std::string(100000, '[')}}), HasSubstr("tokenizer.json: "));
  EXPECT_THAT(complaint({{"tokenizer.json", "{}"}, {"tokenizer.json", "{}"}}), HasSubstr("given twice"));
  EXPECT_THAT(complaint({{"tokenizer.model", "no"}}),
              HasSubstr("tokenizer.model: is not a SentencePiece model"));
  const std::string gpt2 = ReadGolden("gpt2/tokenizer.json");
  EXPECT_THAT(complaint({{"tokenizer.json", gpt2}, {"tokenizer_config.json", R"({"eos_token": "<nope>"})"}}),
              HasSubstr("eos_token is '<nope>'"));
}

TEST(TokenizerFiles, ConfigNamesTheEndAndKeepsTheChatTemplate) {
  const std::string gpt2 = ReadGolden("gpt2/tokenizer.json");
  BDH_ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer(
          "t", {{"tokenizer_config.json", R"({"eos_token": {"content": "!"}, "chat_template": "{{ a }}"})"},
                {"tokenizer.json", gpt2}}));
  EXPECT_EQ(tokenizer->end_of_text(), tokenizer->TokenId("!"));
  EXPECT_EQ(tokenizer->chat_template(), "{{ a }}");
  EXPECT_EQ(tokenizer->special_tokens().size(), 1u);
  ASSERT_EQ(tokenizer->files().size(), 2u);
  EXPECT_EQ(tokenizer->files()[0].bytes, gpt2);
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, LoadTokenizer("t", {{"tokenizer.json", gpt2}}));
  EXPECT_NE(tokenizer->hash(), other->hash());
  EXPECT_EQ(other->end_of_text(), 0);
}

TEST(TokenizerFiles, OldFilesNeedNotSayTheTypeOfTheirModel) {
  for (const char* kind : {"gpt2", "bert", "t5"}) {
    Json json = Golden(kind);
    json["model"].erase("type");
    const auto loaded = LoadTokenizer("old", Files(json));
    BDH_ASSERT_OK(loaded);
    EXPECT_EQ((*loaded)->kind(), GoldenTokenizer(kind)->kind());
  }
}

TEST(TokenizerFiles, ByteIsWhatItsFilesSay) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto byte, Find(""));
  BDH_ASSERT_OK_AND_ASSIGN(const auto loaded, LoadTokenizer("b", byte->files()));
  for (const std::string& text : GoldenTexts()) {
    std::vector<int32_t> one, other;
    byte->Encode(text, one);
    loaded->Encode(text, other);
    ASSERT_EQ(one, other);
  }
  EXPECT_EQ(loaded->vocab_size(), 256);
}

class ByteLevel : public ::testing::TestWithParam<const char*> {};

TEST_P(ByteLevel, EveryByteStringComesBack) {
  const auto tokenizer = GoldenTokenizer(GetParam());
  std::mt19937 random(5);
  for (int round = 0; round < 1500; ++round) {
    std::string bytes(random() % 60, '\0');
    const std::string_view alphabet = round % 2 == 0 ? ""
                                                     : "a \n'\x80\xC3\xA9\xE2\x82\xAC\xF0\x9F\xFF"
                                                       "1";
    for (char& c : bytes)
      c = alphabet.empty() ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    std::vector<int32_t> tokens;
    tokenizer->Encode(bytes, tokens);
    std::string back;
    for (const int32_t token : tokens) BDH_ASSERT_OK(tokenizer->Decode(token, back));
    ASSERT_EQ(back, bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ByteLevel, ::testing::Values("gpt2", "llama3", "regexes", "o200k"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerFiles, ALongPieceIsMergedLikeAShortOne) {
  // One word of 200,000 letters: only a heap gets there in time.
  const auto tokenizer = GoldenTokenizer("gpt2");
  std::string word;
  while (word.size() < 200000) word += "thequickbrownfox";
  std::vector<int32_t> tokens;
  tokenizer->Encode(word, tokens);
  std::string back;
  for (const int32_t token : tokens) BDH_ASSERT_OK(tokenizer->Decode(token, back));
  EXPECT_EQ(back, word);
  EXPECT_LT(tokens.size(), word.size() * 3 / 4);
}

TEST(TokenizerFiles, DecodersThatDependOnNeighboursWorkTokenByToken) {
  const auto bert = GoldenTokenizer("bert");
  std::vector<int32_t> tokens;
  bert->Encode("The question, whether xylophonmusik", tokens);
  EXPECT_EQ(Streamed(bert, tokens), "the question, whether xylophonmusik");
  StreamDecoder decoder(bert);
  EXPECT_EQ(decoder.Push(tokens[0]).value(), "the");
  EXPECT_EQ(decoder.Push(tokens[1]).value(), " question");
  EXPECT_EQ(decoder.Push(*bert->TokenId("[SEP]")).value(), "") << "special tokens make no text";

  const auto clip = GoldenTokenizer("clip");
  tokens.clear();
  clip->Encode("the fox jumps", tokens);
  EXPECT_EQ(Streamed(clip, tokens), "the fox jumps") << "no space behind the last word";

  const auto llama2 = GoldenTokenizer("llama2");
  tokens.clear();
  llama2->Encode("a\U0001F409", tokens);
  StreamDecoder bytes(llama2);
  std::vector<std::string> pieces;
  for (const int32_t token : tokens) pieces.push_back(bytes.Push(token).value());
  EXPECT_THAT(pieces, ElementsAre("a", "", "", "", "\U0001F409"));
}

TEST(TokenizerFiles, ATokenInAGapIsNamed) {
  Json json = Golden("gpt2");
  json["model"]["vocab"]["zzz"] = 1500;
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer("gappy", Files(json)));
  EXPECT_EQ(tokenizer->vocab_size(), 1501);
  std::string bytes;
  EXPECT_THAT(std::string(tokenizer->Decode(1400, bytes).message()),
              AllOf(HasSubstr("1400"), HasSubstr("in a gap")));
  EXPECT_THAT(std::string(tokenizer->Decode(1501, bytes).message()), HasSubstr("want 0 to 1500"));
  EXPECT_EQ(bytes, "");
}

TEST(TokenizerFiles, SentencePieceModelsRunAsTheyAre) {
  const auto spiece = GoldenTokenizer("spiece");
  EXPECT_EQ(spiece->kind(), Kind::kUnigram);
  EXPECT_EQ(spiece->end_of_text(), spiece->TokenId("</s>"));
  const std::string text = "To be, or not to be, that is the question";
  std::vector<int32_t> tokens;
  spiece->Encode(text, tokens);
  EXPECT_LT(tokens.size(), text.size() / 2);
  EXPECT_EQ(Streamed(spiece, tokens), text);
  // T5's tokenizer.json was made from this model: nearly all texts agree, rare ties do not.
  const auto texts = GoldenTexts();
  const auto rows = GoldenRows("t5");
  int same = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<int32_t> ids;
    spiece->Encode(texts[i], ids);
    if (ids == rows[i].ids) ++same;
  }
  EXPECT_GT(same, 1700) << "of " << texts.size();
}

TEST(TokenizerFiles, ASentencePieceModelOfMergesSaysSo) {
  const auto merges = GoldenTokenizer("spiece_bpe");
  ASSERT_NE(merges, nullptr);
  EXPECT_EQ(merges->kind(), Kind::kBpe);
  // With bytes to fall back on everything comes back.
  for (const std::string text :
       {"To be, or not to be  1234", "\U0001F409 dragon\n\ttabs", "\xE9\xBE\x8D\xEA\x99\xAE"}) {
    std::vector<int32_t> tokens;
    merges->Encode(text, tokens);
    EXPECT_EQ(Streamed(merges, tokens), text);
  }
}

TEST(TokenizerFiles, ThreadsDoNotDisturbEachOther) {
  const char* const kinds[] = {"gpt2", "llama3"};
  const auto texts = GoldenTexts();
  std::vector<std::jthread> threads;
  std::atomic<int> wrong{0};
  const std::shared_ptr<const Tokenizer> tokenizers[] = {GoldenTokenizer("gpt2"), GoldenTokenizer("llama3")};
  const std::vector<GoldenRow> rows[] = {GoldenRows(kinds[0]), GoldenRows(kinds[1])};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t which = (i + static_cast<size_t>(t)) % 2;  // One cache a thread, two tokenizers.
        std::vector<int32_t> ids;
        tokenizers[which]->Encode(texts[i], ids);
        if (ids != rows[which][i].ids) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(TokenizerRegex, OnigurumasWaysAreWrittenOut) {
  EXPECT_THAT(TranslatedPattern("a{2,3}+").value(), "(?:a{2,3})+");
  EXPECT_THAT(TranslatedPattern("(ab){2}+c").value(), "(?:(ab){2})+c");
  EXPECT_THAT(TranslatedPattern("[a\\d]").value(), HasSubstr("[a\\x{30}-\\x{39}"));
  EXPECT_THAT(TranslatedPattern("\\h").value(), "[\\x{30}-\\x{39}\\x{41}-\\x{46}\\x{61}-\\x{66}]");
  EXPECT_THAT(TranslatedPattern("a{,3}").value(), "a{0,3}");
  EXPECT_THAT(TranslatedPattern("a{x").value(), "a\\{x");
  for (const char* bad : {"[a[b]]", "[a&&b]", "[[:alpha:]]", "\\X", "\\K", "a\\"}) {
    EXPECT_FALSE(TranslatedPattern(bad).ok()) << bad;
  }
}

class LibraryTest : public ::testing::Test {
 protected:
  std::unique_ptr<Library> Open() const {
    auto opened = Library::Open(folder_.path() + "/tokenizers");
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  static std::vector<TokenizerFile> Gpt2() { return {{"tokenizer.json", ReadGolden("gpt2/tokenizer.json")}}; }
  static std::vector<TokenizerFile> Bert() { return {{"tokenizer.json", ReadGolden("bert/tokenizer.json")}}; }
  static std::vector<std::string> NamesOf(const Library& library) {
    std::vector<std::string> names;
    for (const auto& entry : library.List()) names.emplace_back(entry.tokenizer->name());
    return names;
  }
  const TempDirectory folder_;
};

TEST_F(LibraryTest, KeepsTokenizersUnderTheirNames) {
  {
    const auto library = Open();
    EXPECT_THAT(NamesOf(*library), ElementsAre("byte"));
    BDH_ASSERT_OK(library->Add("small", Gpt2()));
    BDH_ASSERT_OK(library->Add("bert", Bert()));
    BDH_ASSERT_OK(library->Add("small", Gpt2()));  // The same again.
    EXPECT_EQ(library->Add("small", Bert()).status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(library->Add("byte", Bert()).status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(library->Add("../x", Bert()).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(library->Add("other", {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  const auto library = Open();
  EXPECT_THAT(NamesOf(*library), ElementsAre("bert", "byte", "small"));
  EXPECT_EQ(library->Find("").value()->name(), "byte");
  EXPECT_EQ(library->Find("small").value()->vocab_size(), 1200);
  EXPECT_GT(library->Get("small")->created, absl::UnixEpoch());
  EXPECT_THAT(std::string(library->Find("none").status().message()),
              HasSubstr("the known ones are: byte, bert, small"));
  const auto held = library->Find("small").value();
  BDH_ASSERT_OK(library->Delete("small"));
  EXPECT_EQ(library->Delete("small").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(library->Delete("byte").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(held->vocab_size(), 1200);
  EXPECT_THAT(NamesOf(*Open()), ElementsAre("bert", "byte"));
}

TEST_F(LibraryTest, WhatAnotherProcessAddsAndDeletesIsSeenAtOnce) {
  const auto one = Open(), other = Open();
  EXPECT_FALSE(other->Find("small").ok());
  BDH_ASSERT_OK(one->Add("small", Gpt2()));
  EXPECT_EQ(other->Find("small").value()->hash(), one->Find("small").value()->hash());
  BDH_EXPECT_OK(other->Add("small", Gpt2()));
  BDH_ASSERT_OK(one->Add("bert", Bert()));
  EXPECT_EQ(other->Add("bert", Gpt2()).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(NamesOf(*other), ElementsAre("bert", "byte", "small"));
  // The same name with other content.
  BDH_ASSERT_OK(other->Delete("small"));
  EXPECT_EQ(one->Find("small").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(one->Delete("small").code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(other->Add("small", Bert()));
  EXPECT_EQ(one->Find("small").value()->hash(), one->Find("bert").value()->hash());
}

TEST_F(LibraryTest, WhatACrashLeavesIsClearedAndDamageIsTold) {
  const std::string root = folder_.path() + "/tokenizers";
  BDH_ASSERT_OK(Open()->Add("good", Gpt2()));
  for (const char* staging : {"/.staging-0123", "/.staging-4567"}) {
    fs::create_directories(root + staging);
    std::ofstream(root + staging + "/tokenizer.json") << "{";
  }
  fs::last_write_time(root + "/.staging-0123", fs::file_time_type::clock::now() - std::chrono::hours(2));
  fs::create_directories(root + "/bad");
  std::ofstream(root + "/bad/tokenizer.json") << "{";
  const auto library = Open();
  EXPECT_FALSE(fs::exists(root + "/.staging-0123"));
  EXPECT_TRUE(fs::exists(root + "/.staging-4567"));  // Another process may be writing it.
  EXPECT_THAT(NamesOf(*library), ElementsAre("byte", "good"));
  EXPECT_THAT(std::string(library->Find("bad").status().message()),
              AllOf(HasSubstr("tokenizer 'bad'"), HasSubstr("not valid JSON")));
  BDH_EXPECT_OK(library->Delete("bad"));
}

}  // namespace
}  // namespace bdh::tokenizer
