#include "split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "unicode.h"

namespace bdh::tokenizer {
namespace {

constexpr size_t kMaxPatternBytes = 16 << 10;
constexpr uint32_t kMatchLimit = 5'000'000;

std::string RangesText(const std::vector<CharacterRange>& ranges) {
  std::string text;
  for (const CharacterRange& range : ranges) {
    text += absl::StrFormat("\\x{%x}", static_cast<uint32_t>(range.first));
    if (range.last > range.first) text += absl::StrFormat("-\\x{%x}", static_cast<uint32_t>(range.last));
  }
  return text;
}

std::vector<CharacterRange> Complement(const std::vector<CharacterRange>& ranges) {
  std::vector<CharacterRange> out;
  const auto add = [&](char32_t first, char32_t last) {
    // Surrogates are no characters, and PCRE2 refuses them.
    if (first <= last && first < 0xD800) out.push_back({first, std::min<char32_t>(last, 0xD7FF)});
    if (first <= last && last > 0xDFFF) out.push_back({std::max<char32_t>(first, 0xE000), last});
  };
  char32_t next = 0;
  for (const CharacterRange& range : ranges) {
    if (range.first > next) add(next, range.first - 1);
    next = range.last + 1;
  }
  add(next, 0x10FFFF);
  return out;
}

// Surrogates inside of a range that goes over them are not listed on their own.
std::vector<CharacterRange> WithoutSurrogates(const std::vector<CharacterRange>& ranges) {
  return Complement(Complement(ranges));
}

bool Compiles(const std::string& pattern) {
  int error = 0;
  size_t offset = 0;
  pcre2_code* const code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                         PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

// Superscripts and fractions of Latin-1 are \w to Oniguruma, but not within a class.
void RemoveLatinNumbers(std::vector<CharacterRange>& word) {
  std::erase_if(word, [](const CharacterRange& range) { return range.first == 0xB2 || range.first == 0xBC; });
  for (CharacterRange& range : word) {
    if (range.first == 0xB9) ++range.first;
  }
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (at_ < in_.size()) BDH_RETURN_IF_ERROR(Step());
    return out_;
  }

 private:
  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("has %s at character %d, which is not supported", what, at_));
  }

  absl::Status Step() {
    const char c = in_[at_];
    if (c == '\\') return Escape(/*in_class=*/false);
    if (c == '[') return Class();
    if (c == '(') {
      groups_.push_back(out_.size());
      Copy(1);
      if (in_.substr(at_, 2) == "?m") return Refuse("(?m), which says another thing to Oniguruma,");
      return absl::OkStatus();
    }
    if (c == ')') {
      if (!groups_.empty()) {
        atom_ = groups_.back();
        groups_.pop_back();
      }
      Copy(1);
      return absl::OkStatus();
    }
    if (c == '{') return Interval();
    if (c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$') {
      Copy(1);
      return absl::OkStatus();
    }
    atom_ = out_.size();
    const size_t length = std::max<size_t>(1, CharacterBytes(in_, at_));
    Copy(length);
    return absl::OkStatus();
  }

  void Copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  // \p{..} and the like at at_ + 1. Sets `ranges`; false: another escape.
  bool NamedClass(bool in_class, std::vector<CharacterRange>& ranges, size_t& length) const {
    const char letter = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    bool negated = false;
    if (letter == 'p' || letter == 'P') {
      if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{') return false;
      const size_t close = in_.find('}', at_);
      if (close == std::string_view::npos) return false;
      std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
      negated = letter == 'P';
      if (name.starts_with('^')) {
        negated = !negated;
        name.remove_prefix(1);
      }
      ranges = RangesOf(name);
      length = close + 1 - at_;
    } else if (letter == 'w' || letter == 'd' || letter == 's' || letter == 'W' || letter == 'D' ||
               letter == 'S') {
      const char lower = static_cast<char>(letter | 0x20);
      ranges = RangesOf(std::string_view(&lower, 1));
      negated = letter < 'a';
      length = 2;
    } else if (letter == 'h') {
      ranges = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
      length = 2;
    }
    if (ranges.empty()) return false;
    if (in_class && (letter == 'w' || letter == 'W')) RemoveLatinNumbers(ranges);
    ranges = negated ? Complement(ranges) : WithoutSurrogates(ranges);
    return true;
  }

  absl::Status Escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return Refuse("a backslash at its end,");
    std::vector<CharacterRange> ranges;
    size_t length = 0;
    if (!in_class) atom_ = out_.size();
    if (NamedClass(in_class, ranges, length)) {
      out_ += in_class ? RangesText(ranges) : absl::StrFormat("[%s]", RangesText(ranges));
      at_ += length;
      return absl::OkStatus();
    }
    switch (in_[at_ + 1]) {
      case 'b':
      case 'B':
        if (in_class) break;
        [[fallthrough]];
      case 'X':
      case 'R':
      case 'K':
      case 'G':
      case 'H':
      case 'y':
      case 'Y':
      case 'O':
      case 'N':
        return Refuse(absl::StrFormat("\\%c", in_[at_ + 1]));
      default:
        break;
    }
    if (in_[at_ + 1] == 'u' && at_ + 6 <= in_.size()) {  // Oniguruma's \uHHHH.
      out_ += absl::StrFormat("\\x{%s}", in_.substr(at_ + 2, 4));
      at_ += 6;
      return absl::OkStatus();
    }
    if ((in_[at_ + 1] == 'p' || in_[at_ + 1] == 'P' || in_[at_ + 1] == 'x') && at_ + 2 < in_.size() &&
        in_[at_ + 2] == '{') {
      const size_t close = in_.find('}', at_);
      if (close == std::string_view::npos) return Refuse("a brace that is not closed");
      // The characters of a script, and not, as PCRE2 would take it, those that several share.
      const std::string name(in_.substr(at_ + 3, close - at_ - 3));
      const std::string script =
          absl::StrFormat("\\%c{%ssc:%s}", in_[at_ + 1], name.starts_with('^') ? "^" : "",
                          name.substr(name.starts_with('^')));
      if (in_[at_ + 1] != 'x' && Compiles(script)) {
        out_ += script;
        at_ = close + 1;
        return absl::OkStatus();
      }
      Copy(close + 1 - at_);
      return absl::OkStatus();
    }
    Copy(1 + std::max<size_t>(1, CharacterBytes(in_, at_ + 1)));
    return absl::OkStatus();
  }

  absl::Status Class() {
    atom_ = out_.size();
    Copy(1);
    if (at_ < in_.size() && in_[at_] == '^') Copy(1);
    if (at_ < in_.size() && in_[at_] == ']') return Refuse("a class that begins with ]");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        BDH_RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else if (in_[at_] == '[' && in_.substr(at_, 2) != "[:") {
        return Refuse("a class inside of a class");
      } else if (in_.substr(at_, 2) == "&&") {
        return Refuse("an intersection of classes");
      } else if (in_.substr(at_, 2) == "[:") {
        return Refuse("a POSIX class");
      } else {
        Copy(std::max<size_t>(1, CharacterBytes(in_, at_)));
      }
    }
    if (at_ >= in_.size()) return Refuse("a class that is not closed");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Interval() {
    const size_t close = in_.find('}', at_);
    const std::string_view body = close == std::string_view::npos ? "" : in_.substr(at_ + 1, close - at_ - 1);
    const bool is_interval =
        !body.empty() && body.find_first_not_of("0123456789,") == std::string_view::npos && body != ",";
    if (!is_interval) {
      out_ += "\\{";
      ++at_;
      return absl::OkStatus();
    }
    const size_t atom = atom_;
    std::string text = absl::StrFormat("{%s%s}", body.starts_with(',') ? "0" : "", body);
    at_ = close + 1;
    out_ += text;
    if (at_ < in_.size() && in_[at_] == '+') {
      out_.insert(atom, "(?:");
      out_ += ")+";
      ++at_;
    }
    return absl::OkStatus();
  }

  const std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // Where in out_ begins what a repetition would repeat.
  std::vector<size_t> groups_;  // Where open groups begin.
};

pcre2_match_context* MatchContext() {
  static pcre2_match_context* const context = [] {
    pcre2_match_context* made = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(made, kMatchLimit);
    return made;
  }();
  return context;
}

}  // namespace

absl::StatusOr<std::string> TranslatedPattern(std::string_view pattern) {
  return Translator(pattern).Translate();
}

absl::StatusOr<std::shared_ptr<const Regex>> Regex::Compile(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("is a regular expression of %d bytes; want at most %d",
                                                      pattern.size(), kMaxPatternBytes));
  }
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrFormat("regular expression '%s' %s", pattern, why));
  };
  const auto translated = TranslatedPattern(pattern);
  if (!translated.ok()) return refuse(std::string(translated.status().message()));

  pcre2_compile_context* const context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  pcre2_code* const code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &error,
      &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    unsigned char message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    return refuse(absl::StrFormat("cannot be read: %s", reinterpret_cast<const char*>(message)));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // Without it the interpreter does the same, slower.
  return std::shared_ptr<const Regex>(new Regex(code));
}

Regex::~Regex() {
  pcre2_code_free(static_cast<pcre2_code*>(code_));
}

void Regex::ForEach(std::string_view text, const std::function<void(size_t, size_t)>& match) const {
  auto* const code = static_cast<pcre2_code*>(code_);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const auto* const subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0, last_end = std::string_view::npos;
  while (at <= text.size()) {
    int found = pcre2_match(code, subject, text.size(), at, 0, data.get(), MatchContext());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code, subject, text.size(), at, PCRE2_NO_JIT, data.get(), MatchContext());
    }
    if (found < 0) return;
    const size_t* const borders = pcre2_get_ovector_pointer(data.get());
    const size_t begin = borders[0], end = borders[1];
    if (begin == end && end == last_end) {  // Nothing right behind a match: go on a character later.
      if (at >= text.size()) return;
      at = end;
      NextUnit(text, at);
      continue;
    }
    match(begin, end);
    at = last_end = end;
  }
}

}  // namespace bdh::tokenizer
