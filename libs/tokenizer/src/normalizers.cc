#include "normalizers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "bdh/base/status_macros.h"
#include "split_regex.h"
#include "unicode.h"

namespace bdh::tokenizer {
namespace {

const CharacterClasses& Classes() {
  return CharacterClasses::Get();
}

// Each character becomes what `made_of` says of it.
template <class MadeOf>
void Rewrite(NormalText& text, const MadeOf& made_of) {
  text.from_first = made_of(std::string_view(text.text).substr(0, text.from_first)).size();
  text.text = made_of(text.text);
}

template <class Drop>
void Filter(NormalText& text, const Drop& drop) {
  Rewrite(text, [&](std::string_view part) {
    std::u32string units = ToUnits(part);
    std::erase_if(units, drop);
    return ToBytes(units);
  });
}

// The text with some matches replaced by `with`.
class Replacing {
 public:
  Replacing(NormalText& text, std::string_view with) : text_(text), with_(with) {}
  void Match(size_t begin, size_t end) {
    Keep(begin);
    // What stands for several characters is made of the last of them.
    first_ends_ = end > text_.from_first || first_ends_;
    Append(with_, with_.size());
    at_ = end;
  }
  void Finish() {
    Keep(text_.text.size());
    text_ = {std::move(out_), from_first_};
  }

 private:
  void Keep(size_t end) {
    const size_t of_first = text_.from_first > at_ ? std::min(end, text_.from_first) - at_ : 0;
    Append(std::string_view(text_.text).substr(at_, end - at_), of_first);
    first_ends_ = first_ends_ || end > text_.from_first;
  }
  void Append(std::string_view bytes, size_t of_first) {
    if (!first_ends_) from_first_ += of_first;
    out_.append(bytes);
  }

  NormalText& text_;
  const std::string_view with_;
  std::string out_;
  size_t at_ = 0, from_first_ = 0;
  bool first_ends_ = false;
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::shared_ptr<const Normalizer>> parts) : parts_(std::move(parts)) {}
  void Apply(NormalText& text) const override {
    for (const auto& part : parts_) part->Apply(text);
  }

 private:
  const std::vector<std::shared_ptr<const Normalizer>> parts_;
};

class UnicodeForm : public Normalizer {
 public:
  UnicodeForm(bool compose, bool compatible) : compose_(compose), compatible_(compatible) {}
  void Apply(NormalText& text) const override {
    if (IsAscii(text.text)) return;
    const bool begins = text.from_first > 0;
    Rewrite(text, [&](std::string_view part) {
      const std::u32string units = Decomposed(ToUnits(part), compatible_);
      return ToBytes(compose_ ? Composed(units) : units);
    });
    // What it was composed with is counted, too.
    if (begins) text.from_first = std::max(text.from_first, FirstCharacterBytes(text.text));
  }
  static bool IsAscii(std::string_view text) {
    for (const char c : text) {
      if (static_cast<unsigned char>(c) >= 0x80) return false;
    }
    return true;
  }

 private:
  const bool compose_, compatible_;
};

class Lowercase : public Normalizer {
 public:
  void Apply(NormalText& text) const override {
    Rewrite(text, [](std::string_view part) { return ToBytes(Lowercased(ToUnits(part))); });
  }
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void Apply(NormalText& text) const override {
    const std::u32string units = ToUnits(text.text);
    size_t begin = 0, end = units.size();
    while (left_ && begin < end && Classes().Is(units[begin], kIsWhitespace)) ++begin;
    while (right_ && begin < end && Classes().Is(units[end - 1], kIsWhitespace)) --end;
    const size_t gone = ToBytes(units.substr(0, begin)).size();
    text.from_first -= std::min(text.from_first, gone);
    text.text = ToBytes(std::u32string_view(units).substr(begin, end - begin));
  }

 private:
  const bool left_, right_;
};

class StripAccents : public Normalizer {
 public:
  void Apply(NormalText& text) const override {
    Filter(text, [](char32_t unit) { return Classes().Is(unit, kIsCombining); });
  }
};

class Bert : public Normalizer {
 public:
  Bert(bool clean, bool chinese, bool strip, bool lowercase)
      : clean_(clean), chinese_(chinese), strip_(strip), lowercase_(lowercase) {}

  void Apply(NormalText& text) const override {
    if (clean_) {
      Filter(text, [](char32_t unit) {
        const bool kept = unit == '\t' || unit == '\n' || unit == '\r';
        return unit == 0 || unit == 0xFFFD || (!kept && Classes().Is(unit, kIsOther));
      });
    }
    Rewrite(text, [&](std::string_view part) { return Rewritten(part); });
  }

 private:
  std::string Rewritten(std::string_view part) const {
    std::u32string units = ToUnits(part);
    if (clean_) {
      for (char32_t& unit : units) {
        if (Classes().Is(unit, kIsWhitespace)) unit = ' ';
      }
    }
    if (chinese_) units = WithSpaces(units);
    if (strip_) {
      units = Decomposed(units, /*compatible=*/false);
      std::erase_if(units, [](char32_t unit) { return Classes().Is(unit, kIsNonspacing); });
    }
    if (lowercase_) units = Lowercased(units);
    return ToBytes(units);
  }
  static bool IsChinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
  static std::u32string WithSpaces(const std::u32string& units) {
    std::u32string out;
    out.reserve(units.size());
    for (const char32_t unit : units) {
      if (!IsChinese(unit)) {
        out.push_back(unit);
        continue;
      }
      out.push_back(' ');
      out.push_back(unit);
      out.push_back(' ');
    }
    return out;
  }

  const bool clean_, chinese_, strip_, lowercase_;
};

class Nmt : public Normalizer {
 public:
  void Apply(NormalText& text) const override {
    Filter(text, [](char32_t c) {
      return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
             c == 0x9F;
    });
    Rewrite(text, [](std::string_view part) {
      std::u32string units = ToUnits(part);
      for (char32_t& c : units) {
        if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
            c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD) {
          c = ' ';
        }
      }
      return ToBytes(units);
    });
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string what) : what_(std::move(what)) {}
  void Apply(NormalText& text) const override {
    if (text.text.empty()) return;
    text.text.insert(0, what_);
    if (text.from_first > 0) text.from_first += what_.size();
  }

 private:
  const std::string what_;
};

class ReplaceText : public Normalizer {
 public:
  ReplaceText(std::string what, std::string with) : what_(std::move(what)), with_(std::move(with)) {}
  void Apply(NormalText& text) const override {
    size_t found = text.text.find(what_);
    if (found == std::string::npos) return;
    Replacing replacing(text, with_);
    for (; found != std::string::npos; found = text.text.find(what_, found + what_.size())) {
      replacing.Match(found, found + what_.size());
    }
    replacing.Finish();
  }

 private:
  const std::string what_, with_;
};

class ReplaceRegex : public Normalizer {
 public:
  ReplaceRegex(std::shared_ptr<const Regex> regex, std::string with)
      : regex_(std::move(regex)), with_(std::move(with)) {}
  void Apply(NormalText& text) const override {
    Replacing replacing(text, with_);
    regex_->ForEach(text.text, [&](size_t begin, size_t end) { replacing.Match(begin, end); });
    replacing.Finish();
  }

 private:
  const std::shared_ptr<const Regex> regex_;
  const std::string with_;
};

class ByteLevel : public Normalizer {
 public:
  void Apply(NormalText& text) const override {
    Rewrite(text, [](std::string_view part) {
      std::string out;
      AppendMappedBytes(part, out);
      return out;
    });
  }
};

// SentencePiece's charsmap: a double array trie (darts-clone) over UTF-8, its values places in a text of
// replacements that end with a zero.
class Precompiled : public Normalizer {
 public:
  static absl::StatusOr<std::shared_ptr<const Normalizer>> Create(const std::string& map,
                                                                  const JsonPlace& place) {
    uint32_t trie_bytes = 0;
    if (map.size() < sizeof trie_bytes) return place.Refuse("is shorter than its header");
    std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
    if (trie_bytes % 4 != 0 || trie_bytes > map.size() - sizeof trie_bytes) {
      return place.Refuse("says that its trie is longer than it is");
    }
    auto made = std::make_shared<Precompiled>();
    made->trie_.resize(trie_bytes / 4);
    std::memcpy(made->trie_.data(), map.data() + sizeof trie_bytes, trie_bytes);
    made->texts_ = map.substr(sizeof trie_bytes + trie_bytes);
    return made;
  }

  void Apply(NormalText& text) const override {
    const std::string& in = text.text;
    std::string out;
    out.reserve(in.size());
    size_t from_first = 0;
    const auto append = [&](size_t begin, std::string_view made) {
      out.append(made);
      if (begin < text.from_first) from_first = out.size();
    };
    for (size_t at = 0; at < in.size();) {
      const size_t end = ClusterEnd(in, at);
      const std::string_view cluster = std::string_view(in).substr(at, end - at);
      // As there: a cluster below six bytes is looked up whole, and its shortest known prefix replaces all of
      // it.
      if (cluster.size() < 6) {
        if (const auto found = Find(cluster); found.has_value()) {
          append(at, *found);
          at = end;
          continue;
        }
      }
      while (at < end) {
        size_t next = at;
        NextUnit(in, next);
        const std::string_view part = std::string_view(in).substr(at, next - at);
        append(at, Find(part).value_or(part));
        at = next;
      }
    }
    // Where the first is taken away, what follows it takes its place.
    if (text.from_first > 0) from_first = std::max(from_first, FirstCharacterBytes(out));
    text = {std::move(out), from_first};
  }

 private:
  // Behind the grapheme cluster at `at`. Clusters of six bytes and more are taken apart anyway, so that only
  // marks and prefixes need to be known.
  static size_t ClusterEnd(std::string_view text, size_t at) {
    char32_t unit = NextUnit(text, at);
    if (unit == '\r' && at < text.size() && text[at] == '\n') return at + 1;
    while (at < text.size()) {
      size_t next = at;
      const char32_t following = NextUnit(text, next);
      const bool joins = Joins(unit, following);
      if (!joins) break;
      unit = following;
      at = next;
    }
    return at;
  }
  static bool IsControl(char32_t unit) {
    return unit < 0x20 || (unit >= 0x7F && unit < 0xA0) || unit == 0x2028 || unit == 0x2029 ||
           (Classes().Is(unit, kIsOther) && !Classes().Is(unit, kIsExtend | kIsPrepend)) || IsRawByte(unit);
  }
  static bool Joins(char32_t unit, char32_t following) {
    if (IsControl(unit) || IsControl(following)) return false;
    return Classes().Is(following, kIsExtend) || Classes().Is(unit, kIsPrepend);
  }

  // The replacement of the shortest prefix of `key` that the trie has.
  std::optional<std::string_view> Find(std::string_view key) const {
    size_t node = 0;
    if (trie_.empty()) return std::nullopt;
    node ^= Offset(trie_[0]);
    for (const char c : key) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte == 0) return std::nullopt;
      node ^= byte;
      if (node >= trie_.size() || (trie_[node] & 0x800000FFu) != byte) return std::nullopt;
      const uint32_t unit = trie_[node];
      node ^= Offset(unit);
      if ((unit >> 8 & 1) == 0) continue;
      if (node >= trie_.size()) return std::nullopt;
      const size_t begin = trie_[node] & 0x7FFFFFFFu;
      if (begin >= texts_.size()) return std::nullopt;
      const std::string_view rest = std::string_view(texts_).substr(begin);
      return rest.substr(0, rest.find('\0'));
    }
    return std::nullopt;
  }
  static size_t Offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 0x200u) >> 6); }

  std::vector<uint32_t> trie_;
  std::string texts_;
};

absl::StatusOr<std::shared_ptr<const Normalizer>> ReadSequence(const JsonPlace& place) {
  const JsonPlace list = place.At("normalizers");
  BDH_RETURN_IF_ERROR(list.WantArray());
  std::vector<std::shared_ptr<const Normalizer>> parts;
  for (size_t i = 0; i < list.json().size(); ++i) {
    BDH_ASSIGN_OR_RETURN(auto part, ReadNormalizer(list.At(i)));
    if (part != nullptr) parts.push_back(std::move(part));
  }
  return std::make_shared<Sequence>(std::move(parts));
}

absl::StatusOr<std::shared_ptr<const Normalizer>> ReadReplace(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(std::string with, place.At("content").String());
  const JsonPlace pattern = place.At("pattern");
  if (pattern.json().is_object() && pattern.json().contains("String")) {
    BDH_ASSIGN_OR_RETURN(std::string what, pattern.At("String").String());
    if (what.empty()) return pattern.Refuse("is empty; want what is to be replaced");
    return std::make_shared<ReplaceText>(std::move(what), std::move(with));
  }
  BDH_ASSIGN_OR_RETURN(const std::string text, ReadPattern(pattern));
  auto regex = Regex::Compile(text);
  if (!regex.ok()) return pattern.Refuse(std::string(regex.status().message()));
  return std::make_shared<ReplaceRegex>(*std::move(regex), std::move(with));
}

absl::StatusOr<std::shared_ptr<const Normalizer>> ReadBert(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(const bool clean, place.At("clean_text").Bool(true));
  BDH_ASSIGN_OR_RETURN(const bool chinese, place.At("handle_chinese_chars").Bool(true));
  BDH_ASSIGN_OR_RETURN(const bool lowercase, place.At("lowercase").Bool(true));
  BDH_ASSIGN_OR_RETURN(const bool strip, place.At("strip_accents").Bool(lowercase));
  return std::make_shared<Bert>(clean, chinese, strip, lowercase);
}

absl::StatusOr<std::shared_ptr<const Normalizer>> ReadPrecompiled(const JsonPlace& place) {
  const JsonPlace field = place.At("precompiled_charsmap");
  if (field.is_null()) return std::make_shared<Sequence>(std::vector<std::shared_ptr<const Normalizer>>());
  BDH_ASSIGN_OR_RETURN(const std::string text, field.String());
  std::string map;
  if (!absl::Base64Unescape(text, &map)) return field.Refuse("is not base64");
  return Precompiled::Create(map, field);
}

const std::array<std::string, 256>& MappedBytes() {
  static const std::array<std::string, 256> mapped = [] {
    std::array<std::string, 256> out;
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      AppendUnit(itself ? byte : next++, out[byte]);
    }
    return out;
  }();
  return mapped;
}

// The byte of each character of the map, or -1.
const std::array<int16_t, 0x144>& UnmappedBytes() {
  static const std::array<int16_t, 0x144> unmapped = [] {
    std::array<int16_t, 0x144> out;
    out.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) {
      size_t at = 0;
      out[NextUnit(MappedBytes()[byte], at)] = static_cast<int16_t>(byte);
    }
    return out;
  }();
  return unmapped;
}

}  // namespace

void AppendMappedBytes(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) out += MappedBytes()[static_cast<unsigned char>(byte)];
}

bool UnmapBytes(std::string_view mapped, std::string& bytes) {
  const auto& table = UnmappedBytes();
  const size_t before = bytes.size();
  for (size_t at = 0; at < mapped.size();) {
    const char32_t unit = NextUnit(mapped, at);
    if (unit >= table.size() || table[unit] < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(table[unit]));
  }
  return true;
}

absl::StatusOr<std::string> ReadPattern(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantObject());
  if (place.json().contains("Regex")) return place.At("Regex").String();
  BDH_ASSIGN_OR_RETURN(const std::string text, place.At("String").String());
  std::string quoted;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~").find(c) != std::string_view::npos) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

absl::StatusOr<std::shared_ptr<const Normalizer>> ReadNormalizer(const JsonPlace& place) {
  if (place.is_null()) return std::shared_ptr<const Normalizer>();
  BDH_RETURN_IF_ERROR(place.WantObject());
  BDH_ASSIGN_OR_RETURN(const std::string type, place.At("type").String());
  if (type == "Sequence") return ReadSequence(place);
  if (type == "NFC") return std::make_shared<UnicodeForm>(true, false);
  if (type == "NFD") return std::make_shared<UnicodeForm>(false, false);
  if (type == "NFKC") return std::make_shared<UnicodeForm>(true, true);
  if (type == "NFKD") return std::make_shared<UnicodeForm>(false, true);
  if (type == "Lowercase") return std::make_shared<Lowercase>();
  if (type == "StripAccents") return std::make_shared<StripAccents>();
  if (type == "Nmt") return std::make_shared<Nmt>();
  if (type == "ByteLevel") return std::make_shared<ByteLevel>();
  if (type == "BertNormalizer") return ReadBert(place);
  if (type == "Replace") return ReadReplace(place);
  if (type == "Precompiled") return ReadPrecompiled(place);
  if (type == "Strip") {
    BDH_ASSIGN_OR_RETURN(const bool left, place.At("strip_left").Bool(true));
    BDH_ASSIGN_OR_RETURN(const bool right, place.At("strip_right").Bool(true));
    return std::make_shared<Strip>(left, right);
  }
  if (type == "Prepend") {
    BDH_ASSIGN_OR_RETURN(std::string what, place.At("prepend").String());
    return std::make_shared<Prepend>(std::move(what));
  }
  return place.At("type").Refuse(
      absl::StrFormat("is \"%s\", a normalizer that is not supported; the known ones are BertNormalizer, "
                      "ByteLevel, Lowercase, NFC, "
                      "NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, Replace, Sequence, Strip and StripAccents",
                      type));
}

}  // namespace bdh::tokenizer
