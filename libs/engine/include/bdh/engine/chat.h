// How messages become a prompt for a model that was never taught a chat format.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bdh::engine {

struct ChatMessage {
  std::string role;
  std::string content;
};

// InvalidArgumentError begins with the field's name: no messages, or a role that is not one of system,
// developer, user, assistant and tool.
absl::Status Validate(std::span<const ChatMessage> messages);

// A plain transcript, one "role: content" line a message, that ends where the assistant is to speak.
std::string RenderTranscript(std::span<const ChatMessage> messages);

// Texts with which the next turn of somebody else would begin: the assistant's turn ends there.
std::vector<std::string> TranscriptStops();

}  // namespace bdh::engine
