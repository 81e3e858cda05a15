#include "services/bdhctl/bench_text.h"

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace bdh::bdhctl {
namespace {

constexpr int kWordsOfAScript = 20000;

// The syllables that words are made of, and what stands between words and behind sentences.
struct Script {
  int weight;  // How often a paragraph is of it, of all weights together.
  const char* syllables;
  int syllables_max;
  const char* space;
  const char* stop;
};

constexpr Script kEnglish = {
    0,
    "the of and to in a is that it was for on are as with his they at be this have from or one had by word "
    "but "
    "not what all were we when your can said there use an each which she do how their if will up other about "
    "out many then them these so some her would make like him into time has look two more write go see "
    "number "
    "no way could people my than first water been call who its now find long down day did get come made may "
    "part er ly ing tion ness ment able pre con dis inter under over ist al ic ous ful less ward ship",
    2, " ", ". "};

constexpr Script kScripts[] = {
    {12, "é à ç ô le la un ver gar çon naïf cœur être où ment eur ais tion", 3, " ", ". "},
    {10, "ß ü ö ä sch ein ver ge lich keit ung stra ße grö bau Haus Zwerg über", 4, " ", ". "},
    {12, "ж по не ра сти на пре вод ло ка ми ский ост ень ещё объ щу мы при", 4, " ", ". "},
    {6, "α βγ ος ιν και τη λο γί ού ξέ νω ψυ χή ἀρ χῇ μέ νη στ", 4, " ", ". "},
    {8, "ال مر حب سل ام كت اب في من لُ غَة ون ين ها ١٢ عر بي", 3, " ", "، "},
    {5, "של ום עו לם בְּ רֵא שִׁ ית הא רץ ים ות כת בה", 3, " ", ". "},
    {8, "न म स् ते दु नि या क्ष त्र ज्ञ श्री है का में की हिं दी", 4, " ", "। "},
    {6, "สวัส ดี ชาว โลก กำ ลัง น้ำ นี่ คือ การ ทด สอบ ภา ษา ไทย", 6, "", " "},
    {12,
     "我 的 是 不 在 人 有 这 中 国 大 来 上 个 们 到 说 时 要 就 出 会 也 你 对 生 能 而 子 那 得 于 着 下 "
     "自 之 年 "
     "过 发 后 作 里 用 道 行 所 然 家 种 事 成 方 多 经 么 去 法 学 如 都 同 现 当 没 动 面 起 看 定 天 分 "
     "还 进",
     5, "", "。"},
    {10,
     "の に は を た が で て と し れ さ ある いる も する から な こと カタ カナ 日本 漢字 東京 テス ト ー "
     "ガ ギ",
     6, "", "。"},
    {8, "안 녕 하 세 요 한 국 어 는 을 에 서 고 다 입 니 사 람 특별 기 술", 4, " ", ". "},
    {4, "வண க் கம் உல கம் தமி ழ் ನ್ನ ಡ తె లు గు മല യാ ളം", 4, " ", ". "},
    {4, "Việt Nam tiếng trăm năm cõi người ta chữ tài mệnh ghét nhau", 2, " ", ". "},
    {3, "ქა რთ უ ლი ენ ա հայ երեն ភា សា ខ្មែរ አማ ርኛ བོད ཡིག", 3, " ", ". "},
    {5,
     "😀 🎉 👍🏽 👩‍🔬 👨‍👩‍👧 🇩🇪 ❤️ ☺️ ✓ → ∀ ∈ ½ é 2024 ok "
     "lol",
     2, " ", "!! "},
};

// "@" stands for a word, "!" for a number.
constexpr const char* kCode[] = {
    "for (size_t i = 0; i < @.size(); ++i) {\n  @[i] += ! * @;\n}\n",
    ("def @(self, @, @=None):\n    if @ is not None and @ > !:\n        return self.@(@)\n"
     "    raise ValueError(f\"@ {@}\")\n\n"),
    "#include \"@/@.h\"\n\nnamespace @ {\n\tconst auto @ = @::@(0x!, \"@\");  // @ @ @\n}\n",
    "{\"@\": !, \"@\": [!, !, null], \"@\": {\"id\": \"@-!\", \"ok\": true}}\n",
    "SELECT @, COUNT(*) FROM @ WHERE @ >= ! AND name LIKE '%@%' ORDER BY @;\r\n",
    "fn @<T: @>(@: &mut Vec<T>) -> Option<T> { @.iter().map(|x| x + !).next() }\n",
    "<div class=\"@ @\"><a href=\"https://@.org/@?id=!&x=%20\">@&nbsp;@</a></div>\n",
    "  @_@ = np.zeros((!, !), dtype=@)  # @\n",
};
constexpr const char* kMarkdown[] = {
    "## @ @\n\n",
    "* **@** @ @ ([@](https://@.org/@)), `@_@`\n",
    "| @ | @ | ! |\n|---|---|---:|\n| @ | @ @ | !.! |\n\n",
    "> @ @ @, it's @; they'll @ !%\n\n",
    "1. @ @ _@_ @\n2. @ @ ~~@~~ $@^2 + !$\n\n",
    "- [ ] @ @\n- [x] @\n\n```\n$ @ --@=! @.txt\n```\n\n",
};

class Composer {
 public:
  Composer() : english_(WordsOf(kEnglish)) {
    for (const Script& script : kScripts) {
      words_.push_back(WordsOf(script));
      weights_ += script.weight;
    }
  }

  std::string Compose(size_t bytes) {
    std::string text;
    while (text.size() < bytes) Paragraph(text);
    text.resize(bytes);
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0) text.pop_back();
    return text;
  }

 private:
  uint32_t Next() { return (random_ = random_ * 1664525 + 1013904223) >> 8; }

  std::vector<std::string> WordsOf(const Script& script) {
    const std::vector<std::string> syllables = absl::StrSplit(script.syllables, ' ');
    std::vector<std::string> words(syllables);
    while (words.size() < kWordsOfAScript) {
      std::string word;
      for (int n = 1 + static_cast<int>(Next()) % script.syllables_max; n > 0; --n) {
        word += syllables[Next() % syllables.size()];
      }
      words.push_back(std::move(word));
    }
    return words;
  }

  // Those in front much more often.
  const std::string& WordOf(const std::vector<std::string>& words) {
    const double unit = static_cast<double>(Next() % 1000000) / 1e6;
    return words[static_cast<size_t>(unit * unit * unit * unit * static_cast<double>(words.size()))];
  }

  void Prose(const std::vector<std::string>& words, const Script& script, std::string& text) {
    for (uint32_t sentence = 1 + Next() % 5; sentence > 0; --sentence) {
      for (uint32_t n = 4 + Next() % 16; n > 0; --n) {
        text += WordOf(words);
        if (Next() % 12 == 0) text += ',';
        if (Next() % 30 == 0) text += " " + std::to_string(Next() % 3000);
        if (n > 1) text += script.space;
      }
      text += script.stop;
    }
    text += "\n";
  }

  void Pattern(std::string_view pattern, std::string& text) {
    for (const char c : pattern) {
      if (c == '@') {
        text += WordOf(english_);
      } else if (c == '!') {
        text += std::to_string(Next() % 5000);
      } else {
        text += c;
      }
    }
  }

  void Paragraph(std::string& text) {
    const uint32_t kind = Next() % 100;
    if (kind < 35) return Prose(english_, kEnglish, text);
    if (kind < 55) return Pattern(kCode[Next() % std::size(kCode)], text);
    if (kind < 70) return Pattern(kMarkdown[Next() % std::size(kMarkdown)], text);
    int drawn = static_cast<int>(Next()) % weights_;
    size_t script = 0;
    while (drawn >= kScripts[script].weight) drawn -= kScripts[script++].weight;
    Prose(words_[script], kScripts[script], text);
  }

  uint32_t random_ = 7;
  std::vector<std::string> english_;
  std::vector<std::vector<std::string>> words_;
  int weights_ = 0;
};

}  // namespace

std::string MixedText(size_t bytes) {
  return Composer().Compose(bytes);
}

}  // namespace bdh::bdhctl
