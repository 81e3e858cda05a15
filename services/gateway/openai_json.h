// Bodies of POST /v1/completions and /v1/chat/completions, read strictly: what is not understood is an
// error that names the parameter, never ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bdh/v1/inference.pb.h"
#include "services/gateway/openai_error.h"

namespace bdh::gateway {

inline constexpr int kMaxChoices = 128;    // Of one request: prompts times n.
inline constexpr int kMaxMessages = 4096;  // Of one chat.
inline constexpr int kMaxStops = 4;        // As OpenAI has it.
inline constexpr int kMaxStopBytes = 256;  // Each.
inline constexpr int kMaxJsonDepth = 64;

// A checked request. Choice i is prompt i / n, generated with the seed plus i.
struct CompletionRequest {
  bool chat = false;
  std::string model = "";
  bool stream = false;
  bool include_usage = false;
  bool echo = false;
  int n = 1;
  std::string user = "";                          // May be empty.
  std::vector<v1::GenerateRequest> prompts = {};  // At least one.

  int choices() const { return n * static_cast<int>(prompts.size()); }
  v1::GenerateRequest ForChoice(int index) const;
};

template <class T>
using OrError = std::variant<T, ApiError>;

OrError<CompletionRequest> ParseCompletion(std::string_view body);
OrError<CompletionRequest> ParseChatCompletion(std::string_view body);

}  // namespace bdh::gateway
