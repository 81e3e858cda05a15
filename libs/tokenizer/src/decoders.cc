#include "decoders.h"

#include "bdh/base/status_macros.h"
#include "normalizers.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  size_t at = 0;
  for (size_t found = text.find(what); found != std::string_view::npos; found = text.find(what, at)) {
    out.append(text.substr(at, found - at)).append(with);
    at = found + what.size();
  }
  return out.append(text.substr(at));
}

// Hugging Face's rules, one after the other.
std::string CleanedUp(std::string text) {
  constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [what, with] : kRules) text = ReplaceAll(text, what, with);
  return text;
}

// "<0xE2>" as its byte; -1: another token.
int ByteOf(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void StripToken(const std::string& content, int start, int stop, std::string& text) {
  for (int i = 0; i < start && text.starts_with(content); ++i) text.erase(0, content.size());
  for (int i = 0; i < stop && text.ends_with(content); ++i) text.erase(text.size() - content.size());
}

}  // namespace

// Of the whole text, which comes in parts: the front while nothing else has come, the back by holding it.
void Decoder::StripWhole(const Step& step, DecodeState& state, std::string& text) {
  while (state.stripped < step.start && text.starts_with(step.text)) {
    text.erase(0, step.text.size());
    ++state.stripped;
  }
  if (!text.empty()) state.stripped = step.start;
  if (step.stop == 0 || text.empty()) return;
  text.insert(0, state.held);
  state.held.clear();
  for (int i = 0; i < step.stop && text.ends_with(step.text); ++i) {
    text.erase(text.size() - step.text.size());
    state.held += step.text;
  }
}

void Decoder::Append(std::string_view spelling, DecodeState& state, std::string& bytes) const {
  const bool first = !state.begun;
  state.begun = true;
  std::string text(spelling);
  bool fused = false;
  if (joins_with_spaces_ && !first) text.insert(0, " ");
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kByteLevel: {
        std::string unmapped;
        if (UnmapBytes(text, unmapped)) text = std::move(unmapped);
        fused = true;
        break;
      }
      case Kind::kWordPiece:
        if (!first) {
          if (text.starts_with(step.text)) {
            text.erase(0, step.text.size());
          } else {
            text.insert(0, " ");
          }
        }
        if (step.flag) text = CleanedUp(std::move(text));
        break;
      case Kind::kMetaspace:
        text = ReplaceAll(text, step.text, first && step.flag ? "" : " ");
        break;
      case Kind::kByteFallback:
        if (const int byte = ByteOf(text); byte >= 0) text.assign(1, static_cast<char>(byte));
        break;
      case Kind::kFuse:
        fused = true;
        break;
      case Kind::kStrip:
        if (fused) {
          StripWhole(step, state, text);
        } else {
          StripToken(step.text, step.start, step.stop, text);
        }
        break;
      case Kind::kReplace:
        text = ReplaceAll(text, step.text, step.with);
        break;
      case Kind::kBpe: {
        // A suffix at the end of the last token is nothing, before others a space.
        const bool ends = text.ends_with(step.text);
        text = state.held + ReplaceAll(text, step.text, " ");
        state.held.clear();
        if (ends) {
          text.pop_back();
          state.held = " ";
        }
        break;
      }
    }
  }
  bytes += text;
}

absl::Status Decoder::Add(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantObject());
  BDH_ASSIGN_OR_RETURN(const std::string type, place.At("type").String());
  if (type == "Sequence") {
    const JsonPlace list = place.At("decoders");
    BDH_RETURN_IF_ERROR(list.WantArray());
    for (size_t i = 0; i < list.json().size(); ++i) BDH_RETURN_IF_ERROR(Add(list.At(i)));
    return absl::OkStatus();
  }
  Step step{};
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "WordPiece") {
    step.kind = Kind::kWordPiece;
    BDH_ASSIGN_OR_RETURN(step.text, place.At("prefix").String());
    BDH_ASSIGN_OR_RETURN(step.flag, place.At("cleanup").Bool());
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    BDH_ASSIGN_OR_RETURN(step.text, place.At("replacement").Character());
    BDH_ASSIGN_OR_RETURN(step.flag, place.At("add_prefix_space").Bool(true));
    if (const JsonPlace scheme = place.At("prepend_scheme"); !scheme.is_null())
      step.flag = scheme.json() != "never";
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    BDH_ASSIGN_OR_RETURN(step.text, place.At("content").Character());
    BDH_ASSIGN_OR_RETURN(const int64_t start, place.At("start").Integer(0, 1000));
    BDH_ASSIGN_OR_RETURN(const int64_t stop, place.At("stop").Integer(0, 1000));
    step.start = static_cast<int>(start);
    step.stop = static_cast<int>(stop);
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    const JsonPlace pattern = place.At("pattern");
    if (!pattern.json().is_object() || !pattern.json().contains("String")) {
      return pattern.Refuse("is a regular expression; a decoder replaces texts only here");
    }
    BDH_ASSIGN_OR_RETURN(step.text, pattern.At("String").String());
    BDH_ASSIGN_OR_RETURN(step.with, place.At("content").String());
    if (step.text.empty()) return pattern.Refuse("is empty; want what is to be replaced");
  } else if (type == "BPEDecoder") {
    step.kind = Kind::kBpe;
    step.text = "</w>";
    if (const JsonPlace suffix = place.At("suffix"); !suffix.is_null()) {
      BDH_ASSIGN_OR_RETURN(step.text, suffix.String());
    }
    if (step.text.empty()) return place.At("suffix").Refuse("is empty");
  } else {
    return place.At("type").Refuse(
        absl::StrFormat("is \"%s\", a decoder that is not supported; the known ones are BPEDecoder, "
                        "ByteFallback, ByteLevel, Fuse, "
                        "Metaspace, Replace, Sequence, Strip and WordPiece",
                        type));
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<Decoder> Decoder::Read(const JsonPlace& place) {
  Decoder decoder;
  if (place.is_null()) {
    decoder.joins_with_spaces_ = true;
    return decoder;
  }
  BDH_RETURN_IF_ERROR(decoder.Add(place));
  return decoder;
}

}  // namespace bdh::tokenizer
