#include "pre_tokenizers.h"

#include <algorithm>

#include "bdh/base/status_macros.h"
#include "normalizers.h"
#include "split_regex.h"
#include "unicode.h"

namespace bdh::tokenizer {
namespace {

const CharacterClasses& Classes() {
  return CharacterClasses::Get();
}

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Span {
  size_t begin, end;
  bool match;
};

// The spans that `behavior` makes of matches and what is between them; `match` then says: leave it out.
std::vector<Span> Behaved(std::vector<Span> spans, Behavior behavior) {
  if (behavior == Behavior::kRemoved) return spans;
  if (behavior == Behavior::kMergedWithNext) std::reverse(spans.begin(), spans.end());
  std::vector<Span> out;
  bool previous = false;
  for (const Span& span : spans) {
    const bool joins = behavior == Behavior::kContiguous ? span.match == previous
                       : behavior == Behavior::kIsolated ? false
                                                         : span.match && !previous;
    if (!joins || out.empty()) {
      out.push_back({span.begin, span.end, false});
    } else if (behavior == Behavior::kMergedWithNext) {
      out.back().begin = span.begin;
    } else {
      out.back().end = span.end;
    }
    previous = span.match;
  }
  if (behavior == Behavior::kMergedWithNext) std::reverse(out.begin(), out.end());
  return out;
}

// Replaces each piece by what `find` makes of it: a list of spans that cover it.
template <class Find>
void SplitAll(Pieces& pieces, Behavior behavior, const Find& find) {
  std::vector<Piece> out;
  std::vector<Span> spans;
  for (const Piece& piece : pieces.list) {
    spans.clear();
    find(piece.text, spans);
    const auto emit = [&](const Span& span) {
      if (span.match || span.begin == span.end) return;
      out.push_back({piece.text.substr(span.begin, span.end - span.begin),
                     piece.from_first - std::min(piece.from_first, span.begin)});
    };
    if (behavior == Behavior::kIsolated) {
      for (Span span : spans) {
        span.match = false;
        emit(span);
      }
    } else {
      spans = Behaved(std::move(spans), behavior);
      for (const Span& span : spans) emit(span);
    }
  }
  pieces.list = std::move(out);
}

// Spans of single characters of a class, each a match of its own.
template <class Is>
void FindCharacters(std::string_view text, const Is& is, std::vector<Span>& spans) {
  size_t last = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!is(NextUnit(text, at))) continue;
    if (last < begin) spans.push_back({last, begin, false});
    spans.push_back({begin, at, true});
    last = at;
  }
  if (last < text.size()) spans.push_back({last, text.size(), false});
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::shared_ptr<const PreTokenizer>> parts) : parts_(std::move(parts)) {}
  void Split(Pieces& pieces) const override {
    for (const auto& part : parts_) part->Split(pieces);
  }

 private:
  const std::vector<std::shared_ptr<const PreTokenizer>> parts_;
};

// Splits at characters of a class.
class AtCharacters : public PreTokenizer {
 public:
  AtCharacters(uint16_t classes, Behavior behavior) : classes_(classes), behavior_(behavior) {}
  void Split(Pieces& pieces) const override {
    SplitAll(pieces, behavior_, [&](std::string_view text, std::vector<Span>& spans) {
      FindCharacters(
          text, [&](char32_t unit) { return Classes().Is(unit, classes_); }, spans);
    });
  }

 private:
  const uint16_t classes_;
  const Behavior behavior_;
};

class AtOneCharacter : public PreTokenizer {
 public:
  explicit AtOneCharacter(char32_t unit) : unit_(unit) {}
  void Split(Pieces& pieces) const override {
    SplitAll(pieces, Behavior::kRemoved, [&](std::string_view text, std::vector<Span>& spans) {
      FindCharacters(
          text, [&](char32_t unit) { return unit == unit_; }, spans);
    });
  }

 private:
  const char32_t unit_;
};

// \w+|[^\w\s]+, the rest left out.
class Whitespace : public PreTokenizer {
 public:
  void Split(Pieces& pieces) const override {
    SplitAll(pieces, Behavior::kRemoved, [](std::string_view text, std::vector<Span>& spans) {
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const int kind = Kind(NextUnit(text, at));
        for (size_t next = at; next < text.size() && Kind(NextUnit(text, next)) == kind;) at = next;
        spans.push_back({begin, at, kind == 0});
      }
    });
  }

 private:
  static int Kind(char32_t unit) {
    const uint16_t flags = Classes().Of(unit);
    return (flags & kIsWord) != 0 ? 1 : (flags & kIsWhitespace) != 0 ? 0 : 2;
  }
};

class AtRegex : public PreTokenizer {
 public:
  AtRegex(std::shared_ptr<const Regex> regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  void Split(Pieces& pieces) const override {
    SplitAll(pieces, behavior_, [&](std::string_view text, std::vector<Span>& spans) {
      size_t last = 0;
      regex_->ForEach(text, [&](size_t begin, size_t end) {
        if (last < begin) spans.push_back({last, begin, invert_});
        spans.push_back({begin, end, !invert_});
        last = end;
      });
      if (last < text.size()) spans.push_back({last, text.size(), invert_});
    });
  }

 private:
  const std::shared_ptr<const Regex> regex_;
  const Behavior behavior_;
  const bool invert_;
};

class AtScanner : public PreTokenizer {
 public:
  explicit AtScanner(SplitScanner scanner) : scanner_(scanner) {}
  void Split(Pieces& pieces) const override {
    SplitAll(pieces, Behavior::kIsolated, [&](std::string_view text, std::vector<Span>& spans) {
      for (size_t at = 0; at < text.size();) {
        const size_t end = PieceEnd(scanner_, text, at);
        spans.push_back({at, end, false});
        at = end;
      }
    });
  }

 private:
  const SplitScanner scanner_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}
  void Split(Pieces& pieces) const override {
    if (add_prefix_space_) {
      for (Piece& piece : pieces.list) {
        if (piece.text.starts_with(' ')) continue;
        piece.text = pieces.Keep(" " + std::string(piece.text));
        if (piece.from_first > 0) ++piece.from_first;
      }
    }
    if (use_regex_) AtScanner(SplitScanner::kGpt2).Split(pieces);
    for (Piece& piece : pieces.list) {
      std::string first, mapped;
      AppendMappedBytes(piece.text.substr(0, piece.from_first), first);
      AppendMappedBytes(piece.text, mapped);
      piece = {pieces.Keep(std::move(mapped)), first.size()};
    }
  }

 private:
  const bool add_prefix_space_, use_regex_;
};

class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void Split(Pieces& pieces) const override {
    for (Piece& piece : pieces.list) {
      std::string text;
      size_t from_first = 0;
      for (size_t i = 0; i < piece.text.size(); ++i) {
        if (i == piece.from_first) from_first = text.size();
        if (piece.text[i] == ' ') {
          text += replacement_;
        } else {
          text += piece.text[i];
        }
      }
      if (piece.from_first >= piece.text.size()) from_first = text.size();
      const bool prepends = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && from_first > 0);
      if (prepends && !text.starts_with(replacement_)) {
        text.insert(0, replacement_);
        if (from_first > 0) from_first += replacement_.size();
      }
      piece = {pieces.Keep(std::move(text)), from_first};
    }
    if (!split_) return;
    size_t zero = 0;
    const char32_t wanted = NextUnit(replacement_, zero);
    SplitAll(pieces, Behavior::kMergedWithNext, [&](std::string_view text, std::vector<Span>& spans) {
      FindCharacters(
          text, [&](char32_t unit) { return unit == wanted; }, spans);
    });
  }

 private:
  const std::string replacement_;
  const Prepend prepend_;
  const bool split_;
};

absl::StatusOr<Behavior> ReadBehavior(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(const std::string name, place.String());
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return place.Refuse("is none of Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

using Result = absl::StatusOr<std::shared_ptr<const PreTokenizer>>;

Result ReadSplit(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(const std::string pattern, ReadPattern(place.At("pattern")));
  BDH_ASSIGN_OR_RETURN(const Behavior behavior, ReadBehavior(place.At("behavior")));
  BDH_ASSIGN_OR_RETURN(const bool invert, place.At("invert").Bool(false));
  // The scanners leave nothing between two matches, so that these say the same.
  const bool all_kept = behavior == Behavior::kIsolated || (behavior == Behavior::kRemoved && invert);
  if (const auto scanner = ScannerFor(pattern); scanner.has_value() && all_kept) {
    return std::make_shared<AtScanner>(*scanner);
  }
  auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return place.At("pattern").Refuse(std::string(regex.status().message()));
  return std::make_shared<AtRegex>(*std::move(regex), behavior, invert);
}

Result ReadMetaspace(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(std::string replacement, place.At("replacement").Character());
  BDH_ASSIGN_OR_RETURN(const bool split, place.At("split").Bool(true));
  BDH_ASSIGN_OR_RETURN(const bool legacy, place.At("add_prefix_space").Bool(true));
  auto prepend = Metaspace::Prepend::kAlways;
  if (const JsonPlace scheme = place.At("prepend_scheme"); !scheme.is_null()) {
    BDH_ASSIGN_OR_RETURN(const std::string name, scheme.String());
    if (name == "first") {
      prepend = Metaspace::Prepend::kFirst;
    } else if (name == "never") {
      prepend = Metaspace::Prepend::kNever;
    } else if (name != "always") {
      return scheme.Refuse("is none of always, first and never");
    }
    if (!legacy && name != "never") {
      return place.At("add_prefix_space").Refuse("is false and does not go with prepend_scheme " + name);
    }
  } else if (!legacy) {
    return place.At("add_prefix_space").Refuse("is false and prepend_scheme is missing; set that to never");
  }
  return std::make_shared<Metaspace>(std::move(replacement), prepend, split);
}

Result ReadSequence(const JsonPlace& place) {
  const JsonPlace list = place.At("pretokenizers");
  BDH_RETURN_IF_ERROR(list.WantArray());
  std::vector<std::shared_ptr<const PreTokenizer>> parts;
  for (size_t i = 0; i < list.json().size(); ++i) {
    BDH_ASSIGN_OR_RETURN(auto part, ReadPreTokenizer(list.At(i)));
    if (part != nullptr) parts.push_back(std::move(part));
  }
  return std::make_shared<Sequence>(std::move(parts));
}

}  // namespace

Result ReadPreTokenizer(const JsonPlace& place) {
  if (place.is_null()) return std::shared_ptr<const PreTokenizer>();
  BDH_RETURN_IF_ERROR(place.WantObject());
  BDH_ASSIGN_OR_RETURN(const std::string type, place.At("type").String());
  if (type == "Sequence") return ReadSequence(place);
  if (type == "Split") return ReadSplit(place);
  if (type == "Metaspace") return ReadMetaspace(place);
  if (type == "Whitespace") return std::make_shared<Whitespace>();
  if (type == "WhitespaceSplit") return std::make_shared<AtCharacters>(kIsWhitespace, Behavior::kRemoved);
  if (type == "ByteLevel") {
    BDH_ASSIGN_OR_RETURN(const bool prefix, place.At("add_prefix_space").Bool());
    BDH_ASSIGN_OR_RETURN(const bool regex, place.At("use_regex").Bool(true));
    return std::make_shared<ByteLevel>(prefix, regex);
  }
  if (type == "BertPreTokenizer") {
    std::vector<std::shared_ptr<const PreTokenizer>> parts;
    parts.push_back(std::make_shared<AtCharacters>(kIsWhitespace, Behavior::kRemoved));
    parts.push_back(std::make_shared<AtCharacters>(kIsPunctuation, Behavior::kIsolated));
    return std::make_shared<Sequence>(std::move(parts));
  }
  if (type == "Punctuation") {
    Behavior behavior = Behavior::kIsolated;
    if (const JsonPlace field = place.At("behavior"); !field.is_null()) {
      BDH_ASSIGN_OR_RETURN(behavior, ReadBehavior(field));
    }
    return std::make_shared<AtCharacters>(kIsPunctuation, behavior);
  }
  if (type == "Digits") {
    BDH_ASSIGN_OR_RETURN(const bool individual, place.At("individual_digits").Bool(false));
    return std::make_shared<AtCharacters>(kIsNumeric,
                                          individual ? Behavior::kIsolated : Behavior::kContiguous);
  }
  if (type == "CharDelimiterSplit") {
    BDH_ASSIGN_OR_RETURN(const std::string delimiter, place.At("delimiter").Character());
    return std::make_shared<AtOneCharacter>(ToUnits(delimiter)[0]);
  }
  return place.At("type").Refuse(absl::StrFormat(
      "is \"%s\", a pre-tokenizer that is not supported; the known ones are BertPreTokenizer, ByteLevel, "
      "CharDelimiterSplit, Digits, Metaspace, Punctuation, Sequence, Split, Whitespace and WhitespaceSplit",
      type));
}

std::optional<ByteLevelShape> ByteLevelShapeOf(const JsonPlace& place) {
  const auto is = [](const Json& json, const char* type) {
    return json.is_object() && json.contains("type") && json.at("type") == type;
  };
  const auto flag = [](const Json& json, const char* key, bool missing) {
    return json.contains(key) && json.at(key).is_boolean() ? json.at(key).get<bool>() : missing;
  };
  const Json& json = place.json();
  if (is(json, "ByteLevel")) {
    ByteLevelShape shape{.scanner = std::nullopt, .add_prefix_space = flag(json, "add_prefix_space", true)};
    if (flag(json, "use_regex", true)) shape.scanner = SplitScanner::kGpt2;
    return shape;
  }
  if (!is(json, "Sequence") || !json.contains("pretokenizers") || !json.at("pretokenizers").is_array()) {
    return std::nullopt;
  }
  const Json& parts = json.at("pretokenizers");
  if (parts.size() != 2 || !is(parts[0], "Split") || !is(parts[1], "ByteLevel")) return std::nullopt;
  if (flag(parts[1], "use_regex", true) || flag(parts[1], "add_prefix_space", true)) return std::nullopt;
  const auto pattern = ReadPattern(JsonPlace(parts[0], "").At("pattern"));
  const auto scanner = pattern.ok() ? ScannerFor(*pattern) : std::nullopt;
  const std::string behavior =
      parts[0].contains("behavior") && parts[0].at("behavior").is_string() ? parts[0].at("behavior") : "";
  const bool all_kept = behavior == "Isolated" || (behavior == "Removed" && flag(parts[0], "invert", false));
  if (!scanner.has_value() || !all_kept) return std::nullopt;
  return ByteLevelShape{.scanner = scanner, .add_prefix_space = false};
}

}  // namespace bdh::tokenizer
