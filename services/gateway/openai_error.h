// Errors as OpenAI's clients expect them: one shape, and a status they know how to act on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "services/gateway/http_message.h"

namespace bdh::gateway {

struct ApiError {
  int status = 400;
  std::string message = "";
  std::string type = "invalid_request_error";
  std::optional<std::string> param = std::nullopt;
  std::optional<std::string> code = std::nullopt;
  HeaderList headers = {};
};

// {"error":{"message":...,"type":...,"param":...,"code":...}}, all four always there.
std::string ErrorBody(const ApiError& error);
Response ErrorResponse(const ApiError& error);

// An error of this server itself, from its HTTP status.
ApiError ServerError(int status, const std::string& message);

// What a call to bdh-inference ended with. `model` is what the client asked for, `chat` which endpoint it
// asked. What is our fault and not the client's is told in general words: the log has the rest, under
// `request_id`.
ApiError FromInference(const absl::Status& status, std::string_view model, bool chat,
                       std::string_view request_id);

}  // namespace bdh::gateway
