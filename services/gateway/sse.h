// Server-sent events, as far as OpenAI's clients understand them: `data:` lines and comments only. An `id:`
// or `retry:` field makes the official Python client see an event without data and fail.
#pragma once

#include <string>
#include <string_view>

#include "services/gateway/http_message.h"

namespace bdh::gateway {

inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
// A comment: keeps proxies and clients from giving up on a silent stream.
inline constexpr std::string_view kSsePing = ":\n\n";

// One event. `json` is one line.
std::string SseEvent(std::string_view json);

// 200 with the headers of a stream.
Response SseHead();

}  // namespace bdh::gateway
