#include "bdh/tokenizer/trainer.h"

#include <set>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "json_reader.h"
#include "normalizers.h"
#include "pre_tokenizers.h"
#include "split_scanners.h"
#include "trainers.h"
#include "utf8.h"
#include "word_counts.h"

namespace bdh::tokenizer {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kUnknownPiece[] = "<unk>";
constexpr char kUnknownWord[] = "[UNK]";
constexpr size_t kMaxAlphabet = 1000;
constexpr int64_t kUsualMinFrequency = 2;
constexpr size_t kMaxSpecialTokens = 1000;

OrderedJson AddedTokensJson(const std::vector<std::string>& tokens) {
  OrderedJson list = OrderedJson::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

std::vector<TokenizerFile> Files(const TrainerOptions& options, OrderedJson parts, OrderedJson model) {
  OrderedJson json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = AddedTokensJson(options.special_tokens);
  for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) json[key] = parts[key];
  json["model"] = std::move(model);

  OrderedJson config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                        {"clean_up_tokenization_spaces", false}};
  const auto name = [&](const char* key, std::initializer_list<const char*> usual) {
    for (const char* token : usual) {
      for (const std::string& special : options.special_tokens) {
        if (special == token && !config.contains(key)) config[key] = token;
      }
    }
  };
  name("eos_token", {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]"});
  name("bos_token", {"<|begin_of_text|>", "<s>", "<bos>", "[CLS]"});
  name("unk_token", {kUnknownPiece, kUnknownWord});
  name("pad_token", {"<pad>", "[PAD]", "<|pad|>"});
  if (!options.chat_template.empty()) config["chat_template"] = options.chat_template;
  return {{"tokenizer.json", json.dump(1) + "\n"}, {"tokenizer_config.json", config.dump(2) + "\n"}};
}

class CommonTrainer : public TokenizerTrainer {
 public:
  explicit CommonTrainer(TrainerOptions options)
      : options_(std::move(options)), words_(options_.max_memory_bytes) {}
  int64_t bytes_in() const override { return bytes_in_; }
  int64_t forgotten_words() const override { return words_.forgotten(); }

  absl::StatusOr<std::vector<TokenizerFile>> Finish(const Progress& progress) override {
    if (words_.empty()) return absl::InvalidArgumentError("there is no text to train on; give some");
    const Report report = [&](std::string_view phase, int vocab_size) {
      return progress == nullptr || progress({phase, bytes_in_, vocab_size, options_.vocab_size});
    };
    return Train(words_.Take(), report);
  }

 protected:
  virtual absl::StatusOr<std::vector<TokenizerFile>> Train(const CountedWords& words,
                                                           const Report& report) = 0;

  TrainerOptions options_;
  WordCounts words_;
  int64_t bytes_in_ = 0;
};

class ByteLevelTrainer : public CommonTrainer {
 public:
  ByteLevelTrainer(TrainerOptions options, SplitScanner scanner)
      : CommonTrainer(std::move(options)), scanner_(scanner) {}

  void Add(std::string_view piece) override {
    bytes_in_ += static_cast<int64_t>(piece.size());
    for (size_t at = 0; at < piece.size();) {
      const size_t end = PieceEnd(scanner_, piece, at);
      words_.Add(piece.substr(at, end - at));
      at = end;
    }
  }

 private:
  absl::StatusOr<std::vector<TokenizerFile>> Train(const CountedWords& words, const Report& report) override {
    CountedWords mapped;
    mapped.reserve(words.size());
    for (const auto& [word, count] : words) {
      AppendMappedBytes(word, mapped.emplace_back("", count).first);
    }
    BpeSpec spec{.vocab_size = options_.vocab_size,
                 .min_frequency = options_.min_frequency,
                 .special_tokens = options_.special_tokens};
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      AppendMappedBytes(std::string_view(&c, 1), spec.alphabet.emplace_back());
    }
    BDH_ASSIGN_OR_RETURN(const BpeResult result, TrainBpe(mapped, spec, report));
    OrderedJson model = {{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", false}};
    for (size_t id = 0; id < result.tokens.size(); ++id) model["vocab"].emplace(result.tokens[id], id);
    model["merges"] = OrderedJson::array();
    const auto token = [&](int32_t id) { return result.tokens[static_cast<size_t>(id)]; };
    for (const auto& [left, right] : result.merges)
      model["merges"].push_back(token(left) + " " + token(right));
    return Files(options_, Parts(), std::move(model));
  }

  OrderedJson Parts() const {
    const auto byte_level = [](bool regex) {
      return OrderedJson{
          {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", regex}};
    };
    OrderedJson split = byte_level(true);
    if (scanner_ != SplitScanner::kGpt2) {
      split = {{"type", "Sequence"},
               {"pretokenizers",
                {{{"type", "Split"},
                  {"pattern", {{"Regex", std::string(PatternOf(scanner_))}}},
                  {"behavior", "Isolated"},
                  {"invert", false}},
                 byte_level(false)}}};
    }
    return {{"normalizer", nullptr},
            {"pre_tokenizer", split},
            {"post_processor", nullptr},
            {"decoder", byte_level(true)}};
  }

  const SplitScanner scanner_;
};

// One that counts what the normalizer and the pre-tokenizer of its own tokenizer.json make of a text.
class PartsTrainer : public CommonTrainer {
 public:
  using CommonTrainer::CommonTrainer;

  template <class Trainer>
  static absl::StatusOr<std::unique_ptr<TokenizerTrainer>> Create(TrainerOptions options) {
    auto made = std::make_unique<Trainer>(std::move(options));
    BDH_RETURN_IF_ERROR(made->ReadParts());
    return made;
  }

  void Add(std::string_view piece) override {
    bytes_in_ += static_cast<int64_t>(piece.size());
    NormalText normal{.text = Repaired(piece)};
    normal.from_first = FirstCharacterBytes(normal.text);
    normalizer_->Apply(normal);
    Pieces pieces;
    if (!normal.text.empty()) pieces.list.push_back({normal.text, normal.from_first});
    pre_tokenizer_->Split(pieces);
    for (const Piece& word : pieces.list) words_.Add(word.text);
  }

 protected:
  virtual OrderedJson Parts() const = 0;

 private:
  absl::Status ReadParts() {
    const Json parts = Json::parse(Parts().dump());
    const JsonPlace root(parts, "");
    BDH_ASSIGN_OR_RETURN(normalizer_, ReadNormalizer(root.At("normalizer")));
    BDH_ASSIGN_OR_RETURN(pre_tokenizer_, ReadPreTokenizer(root.At("pre_tokenizer")));
    return absl::OkStatus();
  }

  std::shared_ptr<const Normalizer> normalizer_;
  std::shared_ptr<const PreTokenizer> pre_tokenizer_;
};

class WordPieceTrainer : public PartsTrainer {
 public:
  using PartsTrainer::PartsTrainer;

 private:
  absl::StatusOr<std::vector<TokenizerFile>> Train(const CountedWords& words, const Report& report) override {
    const BpeSpec spec{.vocab_size = options_.vocab_size,
                       .min_frequency = options_.min_frequency,
                       .special_tokens = options_.special_tokens,
                       .alphabet = {},
                       .max_alphabet = kMaxAlphabet,
                       .continuing_prefix = "##"};
    BDH_ASSIGN_OR_RETURN(const BpeResult result, TrainBpe(words, spec, report));
    OrderedJson model = {{"type", "WordPiece"},
                         {"unk_token", kUnknownWord},
                         {"continuing_subword_prefix", "##"},
                         {"max_input_chars_per_word", 100}};
    for (size_t id = 0; id < result.tokens.size(); ++id) model["vocab"].emplace(result.tokens[id], id);
    return Files(options_, Parts(), std::move(model));
  }

  OrderedJson Parts() const override {
    OrderedJson parts = {{"normalizer",
                          {{"type", "BertNormalizer"},
                           {"clean_text", true},
                           {"handle_chinese_chars", true},
                           {"strip_accents", nullptr},
                           {"lowercase", options_.lowercase}}},
                         {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                         {"post_processor", nullptr},
                         {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}}};
    const auto id = [&](std::string_view token) {
      const auto& all = options_.special_tokens;
      return std::find(all.begin(), all.end(), token) - all.begin();
    };
    const auto count = static_cast<std::ptrdiff_t>(options_.special_tokens.size());
    if (id("[CLS]") < count && id("[SEP]") < count) {
      parts["post_processor"] = {
          {"type", "BertProcessing"}, {"sep", {"[SEP]", id("[SEP]")}}, {"cls", {"[CLS]", id("[CLS]")}}};
    }
    return parts;
  }
};

class UnigramTrainer : public PartsTrainer {
 public:
  using PartsTrainer::PartsTrainer;

 private:
  absl::StatusOr<std::vector<TokenizerFile>> Train(const CountedWords& words, const Report& report) override {
    const auto& special = options_.special_tokens;
    const UnigramSpec spec{.vocab_size = options_.vocab_size,
                           .special_tokens = static_cast<int>(special.size())};
    BDH_ASSIGN_OR_RETURN(const auto pieces, TrainUnigram(words, spec, report));
    OrderedJson vocabulary = OrderedJson::array();
    for (const std::string& token : special) vocabulary.push_back({token, 0.0});
    for (const auto& [text, score] : pieces) {
      // A piece that is a special token's text can never be found in a text.
      if (std::find(special.begin(), special.end(), text) == special.end())
        vocabulary.push_back({text, score});
    }
    const auto unknown = std::find(special.begin(), special.end(), kUnknownPiece) - special.begin();
    OrderedJson model = {
        {"type", "Unigram"}, {"unk_id", unknown}, {"vocab", std::move(vocabulary)}, {"byte_fallback", false}};
    return Files(options_, Parts(), std::move(model));
  }

  // SentencePiece's own habits: compatible forms, one space for many, a space in front.
  OrderedJson Parts() const override {
    const OrderedJson metaspace = {{"type", "Metaspace"},
                                   {"replacement", "\xE2\x96\x81"},
                                   {"prepend_scheme", "always"},
                                   {"split", true}};
    return {{"normalizer",
             {{"type", "Sequence"},
              {"normalizers",
               {{{"type", "Nmt"}},
                {{"type", "NFKC"}},
                {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}}}}}},
            {"pre_tokenizer", metaspace},
            {"post_processor", nullptr},
            {"decoder", metaspace}};
  }
};

void SetUsual(TrainerOptions& options) {
  std::vector<std::string>& special = options.special_tokens;
  const auto need = [&](const char* token) {
    if (std::find(special.begin(), special.end(), token) == special.end()) special.emplace_back(token);
  };
  switch (options.kind) {
    case Kind::kWordPiece:
      if (special.empty()) special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
      need(kUnknownWord);
      break;
    case Kind::kUnigram:
      if (special.empty()) special = {"<pad>", "</s>", "<unk>"};
      need(kUnknownPiece);
      break;
    default:
      if (special.empty()) special = {"<|endoftext|>"};
  }
  if (options.split.empty()) options.split = "gpt2";
  if (options.min_frequency == 0) options.min_frequency = kUsualMinFrequency;
}

absl::Status Check(const TrainerOptions& options) {
  if (options.kind == Kind::kByte)
    return absl::InvalidArgumentError("the byte tokenizer needs no training; use 'byte'");
  if (options.vocab_size < 1 || options.vocab_size > kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrFormat("vocab_size is %d; want 1 to %d", options.vocab_size, kMaxVocabulary));
  }
  if (options.special_tokens.size() > kMaxSpecialTokens) {
    return absl::InvalidArgumentError(absl::StrFormat("special_tokens holds %d texts; want at most %d",
                                                      options.special_tokens.size(), kMaxSpecialTokens));
  }
  std::set<std::string> seen;
  for (const std::string& token : options.special_tokens) {
    if (token.empty() || !IsUtf8(token))
      return absl::InvalidArgumentError("a special token is empty or not valid UTF-8");
    if (!seen.insert(token).second)
      return absl::InvalidArgumentError(absl::StrFormat("special token '%s' is given twice", token));
  }
  if (options.min_frequency < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("min_frequency is %d; want 0 or more", options.min_frequency));
  }
  const auto least = static_cast<int>(options.special_tokens.size()) + (options.kind == Kind::kBpe ? 256 : 1);
  if (options.vocab_size < least) {
    return absl::InvalidArgumentError(
        absl::StrFormat("vocab_size is %d; want at least %d, for the %d special tokens and the alphabet",
                        options.vocab_size, least, options.special_tokens.size()));
  }
  if (!IsUtf8(options.chat_template)) return absl::InvalidArgumentError("chat_template is not valid UTF-8");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenizerTrainer>> TokenizerTrainer::Create(TrainerOptions options) {
  SetUsual(options);
  BDH_RETURN_IF_ERROR(Check(options));
  if (options.kind == Kind::kWordPiece) return PartsTrainer::Create<WordPieceTrainer>(std::move(options));
  if (options.kind == Kind::kUnigram) return PartsTrainer::Create<UnigramTrainer>(std::move(options));
  const bool llama3 = options.split == "llama3";
  if (!llama3 && options.split != "gpt2") {
    return absl::InvalidArgumentError(absl::StrFormat("split is '%s'; want gpt2 or llama3", options.split));
  }
  return std::make_unique<ByteLevelTrainer>(std::move(options),
                                            llama3 ? SplitScanner::kLlama3 : SplitScanner::kGpt2);
}

}  // namespace bdh::tokenizer
