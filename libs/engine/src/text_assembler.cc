#include "bdh/engine/text_assembler.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::engine {

absl::Status ValidateStops(const std::vector<std::string>& stops, size_t max_stops) {
  if (stops.size() > max_stops) {
    return absl::InvalidArgumentError(
        absl::StrFormat("stop holds %d texts; want at most %d", stops.size(), max_stops));
  }
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty() || stops[i].size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("stop[%d] is %d bytes long; want 1 to %d", i, stops[i].size(), kMaxStopBytes));
    }
    if (!IsUtf8(stops[i])) {
      return absl::InvalidArgumentError(absl::StrFormat("stop[%d] is not valid UTF-8", i));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> TextAssembler::Push(int32_t token, Piece& piece) {
  if (token == end_of_text_) {
    Append(decoder_.Flush());
    Release(pending_.size(), piece);
    return true;
  }
  BDH_ASSIGN_OR_RETURN(const std::string text, decoder_.Push(token));
  undecoded_.push_back(token);
  if (text.empty()) return false;
  const bool stopped = Append(text);
  Release(pending_.size() - (stopped ? 0 : HeldBack()), piece);
  return stopped;
}

bool TextAssembler::Finish(Piece& piece) {
  const bool stopped = Append(decoder_.Flush());
  Release(pending_.size(), piece);
  return stopped;
}

// Adds decoded text. At the first byte that completes a stop text, cuts that text off and returns true.
bool TextAssembler::Append(const std::string& text) {
  const int64_t end = released_ + static_cast<int64_t>(pending_.size() + text.size());
  for (const int32_t token : undecoded_) unreleased_.emplace_back(token, end);
  undecoded_.clear();
  for (const char byte : text) {
    pending_ += byte;
    // Of stops that end here, the longest: it begins first.
    size_t longest = 0;
    for (const std::string& stop : stops_) {
      if (std::string_view(pending_).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest == 0) continue;
    pending_.resize(pending_.size() - longest);
    return true;
  }
  return false;
}

// Bytes at the end of `pending_` that a stop text may begin with.
size_t TextAssembler::HeldBack() const {
  const std::string_view pending = pending_;
  size_t held = 0;
  for (const std::string_view stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, pending.size()); length > held; --length) {
      if (pending.ends_with(stop.substr(0, length))) held = length;
    }
  }
  return held;
}

void TextAssembler::Release(size_t bytes, Piece& piece) {
  piece.text.append(pending_, 0, bytes);
  pending_.erase(0, bytes);
  released_ += static_cast<int64_t>(bytes);
  for (; !unreleased_.empty() && unreleased_.front().second <= released_; unreleased_.pop_front()) {
    piece.tokens.push_back(unreleased_.front().first);
  }
}

}  // namespace bdh::engine
