#include "markup.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace bdh::documents {
namespace {

bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}
bool IsAlnum(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c));
}

template <size_t N>
bool IsOneOf(std::string_view word, const std::string_view (&words)[N]) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(kLead[more] | c >> (6 * more));
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
}

struct Entity {
  std::string_view name;
  uint32_t code;
};
// Those that prose has. Others stay as they are.
constexpr Entity kEntities[] = {
    {"amp", '&'},      {"lt", '<'},       {"gt", '>'},       {"quot", '"'},     {"apos", '\''},
    {"nbsp", ' '},     {"copy", 0xa9},    {"reg", 0xae},     {"trade", 0x2122}, {"hellip", 0x2026},
    {"mdash", 0x2014}, {"ndash", 0x2013}, {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c},
    {"rdquo", 0x201d}, {"laquo", 0xab},   {"raquo", 0xbb},   {"bull", 0x2022},  {"middot", 0xb7},
    {"deg", 0xb0},     {"plusmn", 0xb1},  {"times", 0xd7},   {"divide", 0xf7},  {"frac12", 0xbd},
    {"euro", 0x20ac},  {"pound", 0xa3},   {"yen", 0xa5},     {"cent", 0xa2},    {"sect", 0xa7},
    {"para", 0xb6},    {"auml", 0xe4},    {"ouml", 0xf6},    {"uuml", 0xfc},    {"Auml", 0xc4},
    {"Ouml", 0xd6},    {"Uuml", 0xdc},    {"szlig", 0xdf},   {"eacute", 0xe9},  {"egrave", 0xe8},
    {"ecirc", 0xea},   {"agrave", 0xe0},  {"aacute", 0xe1},  {"acirc", 0xe2},   {"ccedil", 0xe7},
    {"iacute", 0xed},  {"oacute", 0xf3},  {"uacute", 0xfa},  {"ntilde", 0xf1},  {"aring", 0xe5},
    {"oslash", 0xf8},  {"aelig", 0xe6},   {"shy", 0xad},     {"larr", 0x2190},  {"rarr", 0x2192},
    {"zwj", 0x200d},   {"zwnj", 0x200c},  {"thinsp", ' '},   {"ensp", ' '},     {"emsp", ' '},
};

// The entity at the beginning of `text`, which begins with '&': how long it is, 0 if it is none.
size_t DecodeEntity(std::string_view text, std::string& out) {
  constexpr size_t kLongest = 12;
  const size_t end = text.substr(0, kLongest).find(';');
  if (end == std::string_view::npos || end < 2) return 0;
  const std::string_view name = text.substr(1, end - 1);
  if (name[0] == '#') {
    const bool hex = name.size() > 2 && (name[1] == 'x' || name[1] == 'X');
    uint32_t code = 0;
    if (name.size() < 2) return 0;
    for (const char c : name.substr(hex ? 2 : 1)) {
      const auto u = static_cast<unsigned char>(c);
      if (hex ? !absl::ascii_isxdigit(u) : !absl::ascii_isdigit(u)) return 0;
      const uint32_t digit =
          absl::ascii_isdigit(u) ? u - '0' : static_cast<uint32_t>(absl::ascii_tolower(u)) - 'a' + 10;
      code = std::min<uint32_t>(code * (hex ? 16 : 10) + digit, 0x110000);
    }
    AppendUtf8(code, out);
    return end + 1;
  }
  for (const Entity& entity : kEntities) {
    if (entity.name == name) {
      AppendUtf8(entity.code, out);
      return end + 1;
    }
  }
  return 0;
}

struct Tag {
  std::string name;  // Lower case.
  bool closing = false;
  size_t size = 0;  // 0: no tag begins here.
};

// `text` begins with '<'.
Tag ParseTag(std::string_view text) {
  Tag tag;
  size_t at = 1;
  if (at < text.size() && text[at] == '/') tag.closing = true, ++at;
  if (at >= text.size() || (!IsAlnum(text[at]) && text[at] != '!' && text[at] != '?')) return tag;
  while (at < text.size() && (IsAlnum(text[at]) || text[at] == '-')) {
    tag.name += absl::ascii_tolower(static_cast<unsigned char>(text[at++]));
  }
  char quote = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if ((c == '"' || c == '\'') && text[at - 1] == '=') {
      quote = c;
    } else if (c == '>') {
      tag.size = at + 1;
      return tag;
    }
  }
  return tag;
}

constexpr std::string_view kHidden[] = {"script", "style", "template", "noscript", "svg", "iframe", "object"};
constexpr std::string_view kParagraphs[] = {"p",   "h1",    "h2",         "h3",      "h4",
                                            "h5",  "h6",    "table",      "ul",      "ol",
                                            "pre", "title", "blockquote", "section", "article"};
constexpr std::string_view kLines[] = {"br",     "div",    "li",     "tr",   "dt",   "dd",
                                       "hr",     "header", "footer", "main", "form", "option",
                                       "figure", "nav",    "body",   "head", "html", "aside"};

// Puts words on lines.
class LineWriter {
 public:
  void Append(std::string_view text) {
    for (const char c : text) {
      if (pre_ > 0) {
        Break();
        out_ += c;
      } else if (IsSpace(c)) {
        space_ = true;
      } else {
        Break();
        out_ += c;
      }
    }
  }
  void NewLines(int count) { lines_ = std::max(lines_, count); }
  void Pre(int delta) { pre_ = std::max(0, pre_ + delta); }
  std::string Take() {
    while (!out_.empty() && IsSpace(out_.back())) out_.pop_back();
    if (!out_.empty()) out_ += '\n';
    return std::move(out_);
  }

 private:
  void Break() {
    if (!out_.empty() && lines_ > 0) {
      while (!out_.empty() && (out_.back() == ' ' || out_.back() == '\n')) out_.pop_back();
      out_.append(static_cast<size_t>(lines_), '\n');
    } else if (space_ && !out_.empty() && !IsSpace(out_.back())) {
      out_ += ' ';
    }
    lines_ = 0;
    space_ = false;
  }

  std::string out_;
  bool space_ = false;
  int lines_ = 0;
  int pre_ = 0;
};

// Behind the end of a hidden element, or the end of the text.
size_t EndOfElement(std::string_view html, size_t from, std::string_view name) {
  for (size_t at = html.find("</", from); at != std::string_view::npos; at = html.find("</", at + 2)) {
    const std::string_view found = html.substr(at + 2, name.size());
    if (!absl::EqualsIgnoreCase(absl::string_view(found.data(), found.size()),
                                absl::string_view(name.data(), name.size()))) {
      continue;
    }
    const size_t end = html.find('>', at);
    return end == std::string_view::npos ? html.size() : end + 1;
  }
  return html.size();
}

// --- Markdown ---

std::string_view TrimLeft(std::string_view line) {
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  return line;
}

bool IsRule(std::string_view line) {
  line = TrimLeft(line);
  while (!line.empty() && IsSpace(line.back())) line.remove_suffix(1);
  if (line.size() < 3 || (line[0] != '-' && line[0] != '*' && line[0] != '_' && line[0] != '=')) return false;
  return std::all_of(line.begin(), line.end(), [&](char c) { return c == line[0] || c == ' '; });
}

// The fence that opens or closes code: its characters.
std::string_view FenceOf(std::string_view line) {
  line = TrimLeft(line);
  size_t count = 0;
  while (count < line.size() && (line[0] == '`' || line[0] == '~') && line[count] == line[0]) ++count;
  return count >= 3 ? line.substr(0, count) : std::string_view();
}

// "text](url)" behind a bracket: the text, and how much all of it is.
std::optional<std::pair<std::string_view, size_t>> LinkText(std::string_view text) {
  constexpr size_t kLongest = 4096;
  text = text.substr(0, kLongest);
  int depth = 1;
  size_t close = 0;
  for (; close < text.size(); ++close) {
    if (text[close] == '\\') {
      ++close;
    } else if (text[close] == '[') {
      ++depth;
    } else if (text[close] == ']' && --depth == 0) {
      break;
    }
  }
  if (close + 1 >= text.size() || (text[close + 1] != '(' && text[close + 1] != '[')) return std::nullopt;
  const size_t end = text.find(text[close + 1] == '(' ? ')' : ']', close + 2);
  if (end == std::string_view::npos) return std::nullopt;
  return std::make_pair(text.substr(0, close), end + 1);
}

void StripInline(std::string_view line, std::string& out, int depth = 0) {
  for (size_t at = 0; at < line.size();) {
    const char c = line[at];
    const std::string_view rest = line.substr(at);
    if (c == '\\' && rest.size() > 1 && absl::ascii_ispunct(static_cast<unsigned char>(rest[1]))) {
      out += rest[1];
      at += 2;
    } else if (c == '`') {
      const size_t ticks = std::min(rest.find_first_not_of('`'), rest.size());
      const size_t end = rest.find(rest.substr(0, ticks), ticks);
      if (end == std::string_view::npos) {
        out.append(rest.substr(0, ticks));
        at += ticks;
      } else {
        out.append(rest.substr(ticks, end - ticks));
        at += end + ticks;
      }
    } else if ((c == '[' || (c == '!' && rest.size() > 1 && rest[1] == '[')) && depth < 8) {
      const size_t bracket = c == '!' ? 2 : 1;
      if (const auto link = LinkText(rest.substr(bracket))) {
        StripInline(link->first, out, depth + 1);
        at += bracket + link->second;
      } else {
        out += c;
        ++at;
      }
    } else if (c == '*' || (c == '_' && (at == 0 || !IsAlnum(line[at - 1]) || at + 1 == line.size() ||
                                         !IsAlnum(line[at + 1])))) {
      size_t run = 1;
      while (run < rest.size() && rest[run] == c) ++run;
      // A mark with space on both sides marks nothing.
      const bool left = at > 0 && !IsSpace(line[at - 1]), right = run < rest.size() && !IsSpace(rest[run]);
      if (!left && !right) out.append(rest.substr(0, run));
      at += run;
    } else if (c == '~' && rest.substr(0, 2) == "~~") {
      at += 2;
    } else if (c == '<') {
      const std::string_view link = rest.substr(1, std::min(rest.find_first_of("> "), rest.size()) - 1);
      const Tag tag = ParseTag(rest);
      if (link.find("://") != std::string_view::npos && rest.substr(1 + link.size(), 1) == ">") {
        out.append(link);
        at += link.size() + 2;
      } else if (tag.size > 0) {
        at += tag.size;
      } else {
        out += c;
        ++at;
      }
    } else if (c == '&') {
      const size_t size = DecodeEntity(rest, out);
      if (size == 0) out += c;
      at += std::max<size_t>(size, 1);
    } else {
      out += c;
      ++at;
    }
  }
}

// Headings and quotes lose what they begin with.
std::string_view StripLineMarks(std::string_view line) {
  std::string_view text = TrimLeft(line);
  const bool quoted = !text.empty() && text.front() == '>';
  while (!text.empty() && text.front() == '>') text = TrimLeft(text.substr(1));
  const size_t hashes = std::min(text.find_first_not_of('#'), text.size());
  if (hashes >= 1 && hashes <= 6 && (hashes == text.size() || IsSpace(text[hashes]))) {
    text = TrimLeft(text.substr(hashes));
    size_t end = text.size();
    while (end > 0 && (IsSpace(text[end - 1]))) --end;
    size_t closing = end;
    while (closing > 0 && text[closing - 1] == '#') --closing;
    if (closing == 0 || IsSpace(text[closing - 1])) end = closing;
    while (end > 0 && IsSpace(text[end - 1])) --end;
    return text.substr(0, end);
  }
  // Without such a mark the line's own indentation stays: it may be code or a list within a list.
  return quoted ? text : line;
}

size_t SkipFrontMatter(std::string_view markdown) {
  if (markdown.substr(0, 4) != "---\n" && markdown.substr(0, 5) != "---\r\n") return 0;
  const size_t end = markdown.find("\n---", 3);
  if (end == std::string_view::npos) return 0;
  const size_t line = markdown.find('\n', end + 1);
  return line == std::string_view::npos ? markdown.size() : line + 1;
}

}  // namespace

std::string StripHtml(std::string_view html) {
  LineWriter out;
  std::string entity;
  for (size_t at = 0; at < html.size();) {
    const size_t stop = std::min(html.find_first_of("<&", at), html.size());
    out.Append(html.substr(at, stop - at));
    at = stop;
    if (at == html.size()) break;
    const std::string_view rest = html.substr(at);
    if (rest[0] == '&') {
      entity.clear();
      const size_t size = DecodeEntity(rest, entity);
      out.Append(size > 0 ? std::string_view(entity) : rest.substr(0, 1));
      at += std::max<size_t>(size, 1);
      continue;
    }
    if (rest.substr(0, 4) == "<!--") {
      const size_t end = rest.find("-->", 4);
      at = end == std::string_view::npos ? html.size() : at + end + 3;
      continue;
    }
    const Tag tag = ParseTag(rest);
    if (tag.size == 0) {
      out.Append(rest.substr(0, 1));
      ++at;
      continue;
    }
    at += tag.size;
    const bool alone = html[at - 2] == '/';
    if (!tag.closing && !alone && IsOneOf(tag.name, kHidden)) at = EndOfElement(html, at, tag.name);
    if (tag.name == "pre") out.Pre(tag.closing ? -1 : 1);
    if (IsOneOf(tag.name, kParagraphs)) out.NewLines(2);
    if (IsOneOf(tag.name, kLines)) out.NewLines(1);
    if (tag.name == "td" || tag.name == "th") out.Append(" ");
  }
  return out.Take();
}

std::string StripMarkdown(std::string_view markdown) {
  markdown.remove_prefix(SkipFrontMatter(markdown));
  std::string fence;  // That opened the code we are in.
  std::string out;
  bool in_comment = false;  // Comments may go over lines.
  for (size_t at = 0; at < markdown.size();) {
    const size_t end = std::min(markdown.find('\n', at), markdown.size());
    std::string_view line = markdown.substr(at, end - at);
    const bool last = end == markdown.size();
    at = end + 1;
    const std::string_view mark = FenceOf(line);
    if (!fence.empty()) {
      if (!mark.empty() && mark[0] == fence[0] && mark.size() >= fence.size()) {
        fence.clear();
        continue;
      }
      out.append(line);
      if (!last) out += '\n';
      continue;
    }
    if (in_comment) {
      const size_t close = line.find("-->");
      if (close == std::string_view::npos) continue;
      in_comment = false;
      line.remove_prefix(close + 3);
      if (TrimLeft(line).empty()) continue;
    }
    if (!mark.empty()) {
      fence = mark;
      continue;
    }
    if (const size_t open = line.find("<!--"); open != std::string_view::npos) {
      const size_t close = line.find("-->", open);
      StripInline(StripLineMarks(line.substr(0, open)), out);
      in_comment = close == std::string_view::npos;
      if (!in_comment) StripInline(line.substr(close + 3), out);
      if (!last && open > 0) out += '\n';
      continue;
    }
    if (IsRule(line)) continue;
    StripInline(StripLineMarks(line), out);
    if (!last) out += '\n';
  }
  return out;
}

}  // namespace bdh::documents
