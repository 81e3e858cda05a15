#include "services/gateway/openai_error.h"

#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_format.h"

namespace bdh::gateway {
namespace {

using nlohmann::ordered_json;

// Clients obey 1 to 60 seconds; outside of that some give up, some ignore it.
HeaderList RetryAfter(int seconds) {
  return {{"Retry-After", absl::StrFormat("%d", seconds)},
          {"retry-after-ms", absl::StrFormat("%d", seconds * 1000)}};
}

ApiError Unavailable(const std::string& message) {
  ApiError error{.status = 503, .message = message, .type = "server_error", .code = "service_unavailable"};
  error.headers = RetryAfter(2);
  error.headers.emplace_back("x-should-retry", "true");
  return error;
}

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

// Messages of bdh-inference begin with the path of the field ("tokens.ids[3] is ..."); here is what the
// client calls it.
std::optional<std::string> ParamOf(std::string_view message, bool chat) {
  static const std::set<std::string, std::less<>> kSameName = {"model", "temperature", "top_k", "top_p",
                                                               "seed",  "max_tokens",  "stop"};
  constexpr std::string_view kSampling = "sampling.";
  if (message.starts_with(kSampling)) message.remove_prefix(kSampling.size());
  const std::string_view field = message.substr(0, message.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"));
  if (field == "prompt" || field == "text" || field == "tokens" || field == "chat" || field == "messages") {
    return chat ? "messages" : "prompt";
  }
  return kSameName.count(field) == 0 ? std::nullopt : std::optional(std::string(field));
}

ApiError ModelNotFound(std::string_view model, const std::string& reason) {
  return {.status = 404,
          .message =
              absl::StrFormat("The model `%s` does not exist or you do not have access to it. (%s) To load a "
                              "checkpoint or tag: bdhctl models load %s",
                              model, reason, model),
          .code = "model_not_found"};
}

ApiError Overloaded(const std::string& message) {
  return {.status = 429,
          .message = message,
          .type = "requests",
          .code = "rate_limit_exceeded",
          .headers = RetryAfter(1)};
}

ApiError Internal(std::string_view request_id) {
  return {
      .status = 500,
      .message = absl::StrFormat("The server had an error while processing your request. Its log says more "
                                 "under request id %s.",
                                 request_id),
      .type = "server_error",
      .code = "internal_error"};
}

}  // namespace

std::string ErrorBody(const ApiError& error) {
  ordered_json inner = {
      {"message", error.message}, {"type", error.type}, {"param", nullptr}, {"code", nullptr}};
  if (error.param) inner["param"] = *error.param;
  if (error.code) inner["code"] = *error.code;
  const ordered_json body = {{"error", std::move(inner)}};
  return body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Response ErrorResponse(const ApiError& error) {
  return {.status = error.status, .body = ErrorBody(error), .headers = error.headers};
}

ApiError ServerError(int status, const std::string& message) {
  if (status == 503) return Unavailable(message);
  return {
      .status = status, .message = message, .type = status < 500 ? "invalid_request_error" : "server_error"};
}

ApiError FromInference(const absl::Status& status, std::string_view model, bool chat,
                       std::string_view request_id) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return {.message = Text(status), .param = ParamOf(Text(status), chat)};
    case absl::StatusCode::kOutOfRange:
      return {
          .message = Text(status), .param = chat ? "messages" : "prompt", .code = "context_length_exceeded"};
    case absl::StatusCode::kNotFound:
      return ModelNotFound(model, Text(status));
    case absl::StatusCode::kResourceExhausted:
      return Overloaded(Text(status));
    case absl::StatusCode::kUnavailable:
      return Unavailable(Text(status) + "; `bdhctl status` shows which daemons run");
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return Unavailable("The generation was ended because a server is shutting down. Try again soon.");
    case absl::StatusCode::kDeadlineExceeded:
      return {.status = 504,
              .message = "The generation did not begin within gateway.request_timeout_seconds.",
              .type = "server_error",
              .code = "timeout"};
    default:
      return Internal(request_id);
  }
}

}  // namespace bdh::gateway
