#include "json_fields.h"

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "scan.h"

namespace bdh::documents {
namespace {

constexpr size_t kFieldsListed = 1000;

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

// Walks over one value. Functions return false on an error, which is then in error().
class Walker {
 public:
  explicit Walker(std::string_view text)
      : begin_(text.data()), at_(text.data()), end_(text.data() + text.size()) {}

  const JsonError& error() const { return error_; }

  JsonKind Peek() {
    PassSpace();
    if (at_ == end_) return JsonKind::kAbsent;
    switch (*at_) {
      case '{':
        return JsonKind::kObject;
      case '[':
        return JsonKind::kArray;
      case '"':
        return JsonKind::kString;
      case 't':
      case 'f':
        return JsonKind::kBool;
      case 'n':
        return JsonKind::kNull;
      default:
        return JsonKind::kNumber;
    }
  }

  bool AtEnd() {
    PassSpace();
    return at_ == end_ || Fail("there is more behind the object; want one object a row");
  }

  // Calls `field(name)` for each; it takes the value.
  bool Object(int depth, absl::FunctionRef<bool(std::string_view name)> field) {
    if (depth > JsonFieldParser::kDepthMax) return Fail("it is nested too deeply");
    ++at_;
    PassSpace();
    if (at_ < end_ && *at_ == '}') return ++at_, true;
    std::string name;
    while (true) {
      PassSpace();
      if (at_ == end_ || *at_ != '"') return Fail("want a field's name in \"\"");
      name.clear();
      if (!String(&name)) return false;
      PassSpace();
      if (at_ == end_ || *at_ != ':') return Fail("want ':' behind a field's name");
      ++at_;
      if (!field(name)) return false;
      PassSpace();
      if (at_ == end_) return Fail("it ends within an object");
      if (*at_ == '}') return ++at_, true;
      if (*at_ != ',') return Fail("want ',' or '}'");
      ++at_;
    }
  }

  // `out` may be null.
  bool String(std::string* out) {
    const char* const start = at_++;
    while (true) {
      const char* const from = at_;
      at_ = FindStop(at_);
      if (out != nullptr) out->append(from, at_);
      if (at_ == end_) return at_ = start, Fail("a string has no end");
      if (*at_ == '"') return ++at_, true;
      if (*at_ != '\\') return Fail("a control character stands bare in a string; it must be escaped");
      if (!Escape(out)) return false;
    }
  }

  bool Number(double* out) {
    const char* const start = at_;
    if (at_ < end_ && *at_ == '-') ++at_;
    const char* const digits = at_;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    if (at_ == digits) return at_ = start, Fail("want a value");
    while (at_ < end_ && ((*at_ >= '0' && *at_ <= '9') || *at_ == '.' || *at_ == 'e' || *at_ == 'E' ||
                          *at_ == '+' || *at_ == '-')) {
      ++at_;
    }
    double value = 0;
    if (!absl::SimpleAtod(absl::string_view(start, static_cast<size_t>(at_ - start)), &value)) {
      return at_ = start, Fail("this is no number");
    }
    if (out != nullptr) *out = value;
    return true;
  }

  bool Skip(int depth) {
    switch (Peek()) {
      case JsonKind::kString:
        return String(nullptr);
      case JsonKind::kObject:
        return Object(depth, [&](std::string_view) { return Skip(depth + 1); });
      case JsonKind::kArray:
        return Array(depth);
      case JsonKind::kBool:
        return Word(*at_ == 't' ? "true" : "false");
      case JsonKind::kNull:
        return Word("null");
      case JsonKind::kAbsent:
        return Fail("want a value");
      case JsonKind::kNumber:
        return Number(nullptr);
    }
    return false;
  }

  bool Fail(std::string what) {
    error_ = {static_cast<size_t>(at_ - begin_), std::move(what)};
    return false;
  }

 private:
  void PassSpace() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  // At a quote, a backslash or a control character, or the end.
  const char* FindStop(const char* at) const {
    for (; end_ - at >= 8; at += 8) {
      uint64_t word;
      std::memcpy(&word, at, sizeof word);
      const uint64_t below_space = (word - 0x2020202020202020u) & ~word & 0x8080808080808080u;
      const uint64_t hits = EqualBytes(word, '"') | EqualBytes(word, '\\') | below_space;
      if (hits != 0) return at + std::countr_zero(hits) / 8;
    }
    while (at < end_ && *at != '"' && *at != '\\' && static_cast<unsigned char>(*at) >= 0x20) ++at;
    return at;
  }

  bool Hex(uint32_t& out) {
    if (end_ - at_ < 4) return Fail("\\u wants four hexadecimal digits");
    out = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = *at_;
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Fail("\\u wants four hexadecimal digits");
      out = out << 4 | static_cast<uint32_t>(digit);
    }
    return true;
  }

  bool Escape(std::string* out) {
    if (end_ - at_ < 2) return Fail("a string ends within an escape");
    const char c = at_[1];
    at_ += 2;
    uint32_t code = 0;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        code = static_cast<uint32_t>(c);
        break;
      case 'b':
        code = '\b';
        break;
      case 'f':
        code = '\f';
        break;
      case 'n':
        code = '\n';
        break;
      case 'r':
        code = '\r';
        break;
      case 't':
        code = '\t';
        break;
      case 'u':
        if (!Hex(code)) return false;
        if (code >= 0xd800 && code < 0xdc00 && end_ - at_ >= 2 && at_[0] == '\\' && at_[1] == 'u') {
          const char* const before = at_;
          uint32_t low = 0;
          at_ += 2;
          if (!Hex(low)) return false;
          if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          } else {
            at_ = before;
          }
        }
        // Half a pair alone stands for no character.
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
        break;
      default:
        at_ -= 2;
        return Fail("there is no such escape");
    }
    if (out != nullptr) AppendUtf8(code, *out);
    return true;
  }

  bool Array(int depth) {
    if (depth > JsonFieldParser::kDepthMax) return Fail("it is nested too deeply");
    ++at_;
    PassSpace();
    if (at_ < end_ && *at_ == ']') return ++at_, true;
    while (true) {
      if (!Skip(depth + 1)) return false;
      PassSpace();
      if (at_ == end_) return Fail("it ends within an array");
      if (*at_ == ']') return ++at_, true;
      if (*at_ != ',') return Fail("want ',' or ']'");
      ++at_;
    }
  }

  bool Word(std::string_view word) {
    if (std::string_view(at_, static_cast<size_t>(end_ - at_)).substr(0, word.size()) != word) {
      return Fail("want a value");
    }
    at_ += word.size();
    return true;
  }

  const char* const begin_;
  const char* at_;
  const char* const end_;
  JsonError error_;
};

bool StartObject(Walker& walker) {
  if (walker.Peek() == JsonKind::kObject) return true;
  return walker.Fail("want an object, such as {\"text\": \"...\"}");
}

}  // namespace

std::string_view JsonKindName(JsonKind kind) {
  switch (kind) {
    case JsonKind::kAbsent:
      return "absent";
    case JsonKind::kNull:
      return "null";
    case JsonKind::kString:
      return "a string";
    case JsonKind::kNumber:
      return "a number";
    case JsonKind::kBool:
      return "true or false";
    case JsonKind::kObject:
      return "an object";
    case JsonKind::kArray:
      return "an array";
  }
  return "";
}

JsonFieldParser::JsonFieldParser(std::vector<std::string> text_path, std::vector<std::string> score_path)
    : text_path_(std::move(text_path)), score_path_(std::move(score_path)) {}

// One row: `text_depth` and `score_depth` are how much of each path has been followed, or -1.
class JsonFieldParser::Run {
 public:
  Run(const JsonFieldParser& parser, std::string_view row, JsonFields& fields)
      : parser_(parser), walker_(row), fields_(fields) {}

  std::optional<JsonError> Parse() {
    if (StartObject(walker_) && Object(0, 0, 0) && walker_.AtEnd()) return std::nullopt;
    return walker_.error();
  }

 private:
  static int Follow(const std::vector<std::string>& path, int depth, std::string_view name) {
    if (depth < 0 || static_cast<size_t>(depth) >= path.size() || path[static_cast<size_t>(depth)] != name)
      return -1;
    return depth + 1;
  }

  bool Object(int depth, int text_depth, int score_depth) {
    return walker_.Object(depth, [&](std::string_view name) {
      const int text = Follow(parser_.text_path_, text_depth, name);
      const int score = Follow(parser_.score_path_, score_depth, name);
      return Value(depth + 1, text, score);
    });
  }

  bool Value(int depth, int text, int score) {
    const JsonKind kind = walker_.Peek();
    const bool is_text = text > 0 && static_cast<size_t>(text) == parser_.text_path_.size();
    const bool is_score = score > 0 && static_cast<size_t>(score) == parser_.score_path_.size();
    if (is_text) fields_.text_kind = kind;
    if (is_score) fields_.score_kind = kind;
    if (is_text && kind == JsonKind::kString) {
      fields_.text.clear();
      return walker_.String(&fields_.text);
    }
    if (is_score && kind == JsonKind::kNumber) return walker_.Number(&fields_.score);
    if (kind == JsonKind::kObject && ((text > 0 && !is_text) || (score > 0 && !is_score))) {
      return Object(depth, is_text ? -1 : text, is_score ? -1 : score);
    }
    return walker_.Skip(depth);
  }

  const JsonFieldParser& parser_;
  Walker walker_;
  JsonFields& fields_;
};

std::optional<JsonError> JsonFieldParser::Parse(std::string_view row, JsonFields& fields) const {
  fields.text_kind = fields.score_kind = JsonKind::kAbsent;
  fields.text.clear();
  return Run(*this, row, fields).Parse();
}

std::optional<JsonError> ListJsonFields(std::string_view row,
                                        std::vector<std::pair<std::string, JsonKind>>& out) {
  out.clear();
  Walker walker(row);
  const bool ok = StartObject(walker) && walker.Object(0, [&](std::string_view name) {
    if (out.size() < kFieldsListed) out.emplace_back(name, walker.Peek());
    return walker.Skip(1);
  }) && walker.AtEnd();
  if (ok) return std::nullopt;
  return walker.error();
}

std::vector<std::string> SplitFieldPath(std::string_view path) {
  if (path.empty()) return {};
  return absl::StrSplit(absl::string_view(path.data(), path.size()), '.');
}

}  // namespace bdh::documents
