#include "bdh/engine/chat.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace bdh::engine {
namespace {

constexpr std::array<const char*, 5> kRoles = {"system", "developer", "user", "assistant", "tool"};

}  // namespace

absl::Status Validate(std::span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("chat.messages is empty; want at least 1 message");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (std::find(kRoles.begin(), kRoles.end(), messages[i].role) != kRoles.end()) continue;
    return absl::InvalidArgumentError(absl::StrFormat("chat.messages[%d].role is '%s'; want one of %s", i,
                                                      messages[i].role, absl::StrJoin(kRoles, ", ")));
  }
  return absl::OkStatus();
}

std::string RenderTranscript(std::span<const ChatMessage> messages) {
  std::string transcript;
  for (const ChatMessage& message : messages) {
    absl::StrAppendFormat(&transcript, "%s: %s\n", message.role, message.content);
  }
  // The blank is ours, so that the answer does not begin with one.
  return transcript + "assistant: ";
}

std::vector<std::string> TranscriptStops() {
  std::vector<std::string> stops;
  for (const std::string_view role : kRoles) stops.push_back(absl::StrFormat("\n%s:", role));
  return stops;
}

}  // namespace bdh::engine
