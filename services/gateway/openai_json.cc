#include "services/gateway/openai_json.h"

#include <limits>

#include "absl/strings/str_format.h"
#include "services/gateway/json_fields.h"

namespace bdh::gateway {
namespace {

constexpr size_t kMaxModelBytes = 256;
constexpr size_t kMaxUserBytes = 256;
constexpr size_t kMaxHintBytes = 1024;
constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();

std::string ParseModel(JsonFields& fields) {
  const auto model = fields.Text("model", kMaxModelBytes);
  if (fields.ok() && (!model || model->empty())) {
    fields.Fail("model", "You must provide a model parameter; GET /v1/models lists what is loaded.",
                "missing_required_parameter");
  }
  return model.value_or("");
}

void AddStop(JsonFields& fields, const Json& value, v1::SamplingParams& sampling) {
  if (!value.is_string()) {
    return fields.Fail("stop", "Invalid type for 'stop': expected a string or an array of strings.",
                       "invalid_type");
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty() || text.size() > kMaxStopBytes) {
    return fields.Fail("stop", absl::StrFormat("A stop sequence is %d bytes long; want 1 to %d.", text.size(),
                                               kMaxStopBytes));
  }
  sampling.add_stop(text);
}

void ParseStop(JsonFields& fields, v1::SamplingParams& sampling) {
  const Json* stop = fields.Value("stop");
  if (stop == nullptr) return;
  if (!stop->is_array()) return AddStop(fields, *stop, sampling);
  if (stop->size() > kMaxStops) {
    return fields.Fail("stop",
                       absl::StrFormat("'stop' has %d sequences; want at most %d.", stop->size(), kMaxStops),
                       "array_above_max_length");
  }
  for (const Json& text : *stop) AddStop(fields, text, sampling);
}

// Everything that says how to sample, except max_tokens.
v1::SamplingParams ParseSampling(JsonFields& fields) {
  v1::SamplingParams sampling;
  if (const auto value = fields.Number("temperature", 0, 2)) sampling.set_temperature(*value);
  if (const auto value = fields.Number("top_p", 0, 1)) sampling.set_top_p(*value);
  if (const auto value = fields.Integer("top_k", 0, kMaxTokens))
    sampling.set_top_k(static_cast<int32_t>(*value));
  if (const auto value = fields.Integer("seed", INT64_MIN, INT64_MAX)) sampling.set_seed(*value);
  ParseStop(fields, sampling);
  fields.Unsupported("frequency_penalty", "penalties are not implemented; leave it out or send 0", {0});
  fields.Unsupported("presence_penalty", "penalties are not implemented; leave it out or send 0", {0});
  fields.Unsupported("logit_bias", "biases are not implemented; leave it out", {Json::object()});
  return sampling;
}

void ParseStreaming(JsonFields& fields, std::optional<ApiError>& error, CompletionRequest& request) {
  request.stream = fields.Bool("stream").value_or(false);
  const Json* options = fields.Value("stream_options");
  if (options == nullptr) return;
  if (!request.stream) {
    return fields.Fail("stream_options",
                       "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
  }
  if (!options->is_object()) {
    return fields.Fail("stream_options", "Invalid type for 'stream_options': expected an object.",
                       "invalid_type");
  }
  JsonFields inner(*options, "stream_options.", error);
  request.include_usage = inner.Bool("include_usage").value_or(false);
  inner.Unsupported("include_obfuscation", "streams are not padded; leave it out or send false", {false});
  inner.RejectUnknown();
}

// What every endpoint takes. `hints` change nothing in the output, so they may be accepted and left unused.
void ParseCommon(JsonFields& fields, std::optional<ApiError>& error, CompletionRequest& request) {
  request.model = ParseModel(fields);
  request.n = static_cast<int>(fields.Integer("n", 1, kMaxChoices).value_or(1));
  request.user = fields.Text("user", kMaxUserBytes).value_or("");
  ParseStreaming(fields, error, request);
}

void SetMaxTokens(JsonFields& fields, const char* name, int64_t min, v1::SamplingParams& sampling) {
  if (const auto value = fields.Integer(name, min, kMaxTokens)) {
    sampling.set_max_tokens(static_cast<int32_t>(*value));
  }
}

// ---- Prompts of /v1/completions: a text, a list of texts, a list of tokens, a list of lists of tokens.

void AddText(JsonFields& fields, const std::string& name, const Json& text, CompletionRequest& request) {
  if (text.get_ref<const std::string&>().empty()) {
    return fields.Fail(name,
                       absl::StrFormat("'%s' is empty; want at least one character to go on from.", name));
  }
  request.prompts.emplace_back().set_text(text.get<std::string>());
}

void AddTokens(JsonFields& fields, const std::string& name, const Json& tokens, CompletionRequest& request) {
  if (tokens.empty()) {
    return fields.Fail(name, absl::StrFormat("'%s' is empty; want at least one token to go on from.", name));
  }
  auto* ids = request.prompts.emplace_back().mutable_tokens();
  for (const Json& token : tokens) {
    const bool fits = token.is_number_integer() && token >= 0 && token <= kMaxTokens;
    if (!fits) {
      return fields.Fail(
          name, absl::StrFormat("'%s' holds %s where a token id, 0 or greater, is wanted.", name,
                                token.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 60)));
    }
    ids->add_ids(token.get<int32_t>());
  }
}

void AddEach(JsonFields& fields, const Json& prompts, bool texts, CompletionRequest& request) {
  if (prompts.size() > kMaxChoices) {
    return fields.Fail(
        "prompt", absl::StrFormat("'prompt' holds %d prompts; want at most %d.", prompts.size(), kMaxChoices),
        "array_above_max_length");
  }
  for (size_t i = 0; i < prompts.size() && fields.ok(); ++i) {
    const std::string name = absl::StrFormat("prompt[%d]", i);
    if (texts != prompts[i].is_string() || texts == prompts[i].is_array()) {
      return fields.Fail(name, "All prompts of a list must be of one kind: texts, or lists of token ids.",
                         "invalid_type");
    }
    texts ? AddText(fields, name, prompts[i], request) : AddTokens(fields, name, prompts[i], request);
  }
}

void ParsePrompt(JsonFields& fields, CompletionRequest& request) {
  const Json* prompt = fields.Value("prompt");
  if (!fields.ok()) return;
  if (prompt == nullptr) {
    return fields.Fail("prompt", "You must provide a prompt parameter: the models here have no default one.",
                       "missing_required_parameter");
  }
  if (prompt->is_string()) return AddText(fields, "prompt", *prompt, request);
  const bool list = prompt->is_array();
  const Json* first = list && !prompt->empty() ? &prompt->front() : nullptr;
  if (list && (first == nullptr || first->is_number())) return AddTokens(fields, "prompt", *prompt, request);
  if (list && (first->is_string() || first->is_array()))
    return AddEach(fields, *prompt, first->is_string(), request);
  fields.Fail("prompt",
              "Invalid type for 'prompt': expected a string, an array of strings, an array of token ids, or "
              "an array of arrays of token ids.",
              "invalid_type");
}

void CheckChoices(JsonFields& fields, const CompletionRequest& request) {
  if (!fields.ok() || request.choices() <= kMaxChoices) return;
  fields.Fail("n", absl::StrFormat("%d prompts with n = %d make %d choices; want at most %d.",
                                   request.prompts.size(), request.n, request.choices(), kMaxChoices));
}

void ParseEcho(JsonFields& fields, CompletionRequest& request) {
  request.echo = fields.Bool("echo").value_or(false);
  if (request.echo && fields.ok() && !request.prompts.empty() && request.prompts[0].has_tokens()) {
    fields.Fail("echo", "'echo' is supported for prompts given as text, not for token ids.",
                "unsupported_parameter");
  }
}

// best_of above n would mean to drop choices by their probability, which we do not return.
void ParseBestOf(JsonFields& fields, const CompletionRequest& request) {
  const auto best_of = fields.Integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != request.n) {
    fields.Fail("best_of", "'best_of' is not supported, except with the same value as 'n'.",
                "unsupported_parameter");
  }
}

// ---- Messages of /v1/chat/completions

// The text of a list of {"type":"text","text":...}.
std::string ParseParts(JsonFields& message, const std::string& name, const Json& parts,
                       std::optional<ApiError>& error) {
  std::string text;
  if (parts.empty()) message.Fail("content", absl::StrFormat("'%s' is an empty array.", name));
  for (size_t i = 0; i < parts.size() && message.ok(); ++i) {
    const std::string part_name = absl::StrFormat("content[%d]", i);
    if (!parts[i].is_object()) {
      message.Fail(part_name, "A content part must be an object with 'type' and 'text'.", "invalid_type");
      return "";
    }
    JsonFields part(parts[i], message.Path(part_name) + ".", error);
    const auto type = part.Text("type", kMaxHintBytes);
    if (part.ok() && type != "text") {
      part.Fail("type", absl::StrFormat("Content parts of type '%s' are not supported; only 'text' is.",
                                        type.value_or("")));
    }
    const auto piece = part.Text("text", SIZE_MAX);
    if (part.ok() && !piece) part.Fail("text", absl::StrFormat("'%s' is missing.", part.Path("text")));
    part.RejectUnknown();
    text += piece.value_or("");
  }
  return text;
}

std::string ParseContent(JsonFields& message, std::optional<ApiError>& error) {
  const Json* content = message.Value("content");
  if (!message.ok()) return "";
  const std::string name = message.Path("content");
  if (content != nullptr && content->is_string()) return content->get<std::string>();
  if (content != nullptr && content->is_array()) return ParseParts(message, name, *content, error);
  message.Fail("content", absl::StrFormat("'%s' must be a string or an array of text parts.", name),
               content == nullptr ? "missing_required_parameter" : "invalid_type");
  return "";
}

void ParseRole(JsonFields& message, std::string& role) {
  role = message.Text("role", 64).value_or("");
  if (!message.ok()) return;
  if (role == "tool" || role == "function") {
    message.Fail("role",
                 absl::StrFormat("Messages of role '%s' are not supported, because tools are not.", role));
  } else if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
    message.Fail("role",
                 absl::StrFormat("'%s' is '%s'; want system, developer, user or assistant.",
                                 message.Path("role"), role),
                 "invalid_value");
  }
}

void ParseMessage(const Json& given, int index, std::optional<ApiError>& error, v1::ChatMessage& out) {
  JsonFields message(given, absl::StrFormat("messages[%d].", index), error);
  ParseRole(message, *out.mutable_role());
  out.set_content(ParseContent(message, error));
  // An answer may be sent back as it came, with its empty fields.
  message.Unsupported("refusal", "an answer cannot be a refusal here");
  message.Unsupported("annotations", "annotations are not implemented", {Json::array()});
  message.Unsupported("tool_calls", "tools are not implemented", {Json::array()});
  message.Unsupported("function_call", "functions are not implemented");
  message.Unsupported("audio", "audio is not implemented");
  message.Unsupported("name", "the chat template has no place for names");
  message.RejectUnknown();
}

void ParseMessages(JsonFields& fields, std::optional<ApiError>& error, CompletionRequest& request) {
  const Json* messages = fields.Value("messages");
  if (!fields.ok()) return;
  if (messages == nullptr) {
    return fields.Fail("messages", "Missing required parameter: 'messages'.", "missing_required_parameter");
  }
  if (!messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return fields.Fail("messages",
                       absl::StrFormat("'messages' must be an array of 1 to %d messages.", kMaxMessages));
  }
  auto& chat = *request.prompts.emplace_back().mutable_chat();
  for (size_t i = 0; i < messages->size() && fields.ok(); ++i) {
    const Json& message = (*messages)[i];
    if (!message.is_object()) {
      return fields.Fail(absl::StrFormat("messages[%d]", i),
                         "A message must be an object with 'role' and 'content'.", "invalid_type");
    }
    ParseMessage(message, static_cast<int>(i), error, *chat.add_messages());
  }
}

void RejectWhatChatHasNot(JsonFields& fields) {
  fields.Unsupported("logprobs", "log probabilities are not implemented; leave it out or send false",
                     {false});
  fields.Unsupported("top_logprobs", "log probabilities are not implemented; leave it out");
  fields.Unsupported("response_format",
                     "only plain text is implemented; leave it out or send {\"type\":\"text\"}",
                     {Json::object({{"type", "text"}})});
  fields.Unsupported("tools", "tools are not implemented; leave it out");
  fields.Unsupported("tool_choice", "tools are not implemented; leave it out or send \"none\"", {"none"});
  fields.Unsupported("parallel_tool_calls", "tools are not implemented; leave it out", {true});
  fields.Unsupported("functions", "functions are not implemented; leave it out");
  fields.Unsupported("function_call", "functions are not implemented; leave it out or send \"none\"",
                     {"none"});
  fields.Unsupported("modalities", "only text is implemented; leave it out or send [\"text\"]",
                     {Json::array({"text"})});
  fields.Unsupported("audio", "only text is implemented; leave it out");
  fields.Unsupported("prediction", "predicted outputs are not implemented; leave it out");
  fields.Unsupported("store", "answers are not stored; leave it out or send false", {false});
  fields.Unsupported("metadata", "answers are not stored; leave it out", {Json::object()});
  fields.Unsupported("service_tier", "there is one tier; leave it out or send \"auto\" or \"default\"",
                     {"auto", "default"});
  fields.Unsupported("reasoning_effort", "the models here do not reason; leave it out or send \"none\"",
                     {"none"});
  fields.Unsupported("verbosity", "it cannot be chosen; leave it out or send \"medium\"", {"medium"});
  fields.Unsupported("web_search_options", "web search is not implemented; leave it out");
  fields.Unsupported("moderation", "moderation is not implemented; leave it out");
  fields.Unsupported("prompt_cache_retention", "it cannot be chosen; leave it out");
}

// Hints that OpenAI defines to have no effect on the output.
void ReadHints(JsonFields& fields) {
  fields.Text("prompt_cache_key", kMaxHintBytes);
  fields.Text("safety_identifier", kMaxHintBytes);
}

OrError<CompletionRequest> Finish(std::optional<ApiError>& error, const v1::SamplingParams& sampling,
                                  CompletionRequest& request) {
  if (error) return *std::move(error);
  for (auto& prompt : request.prompts) {
    prompt.set_model(request.model);
    *prompt.mutable_sampling() = sampling;
  }
  return std::move(request);
}

}  // namespace

v1::GenerateRequest CompletionRequest::ForChoice(int index) const {
  v1::GenerateRequest choice = prompts[static_cast<size_t>(index / n)];
  if (choice.sampling().has_seed()) {  // Unsigned, because the last seed plus one is the first.
    const uint64_t seed = static_cast<uint64_t>(choice.sampling().seed()) + static_cast<uint64_t>(index);
    choice.mutable_sampling()->set_seed(static_cast<int64_t>(seed));
  }
  return choice;
}

OrError<CompletionRequest> ParseCompletion(std::string_view body) {
  Json json;
  std::optional<ApiError> error = ParseJsonObject(body, kMaxJsonDepth, json);
  if (error) return *std::move(error);
  CompletionRequest request;
  JsonFields fields(json, "", error);
  ParseCommon(fields, error, request);
  ParsePrompt(fields, request);
  v1::SamplingParams sampling = ParseSampling(fields);
  SetMaxTokens(fields, "max_tokens", 0, sampling);
  CheckChoices(fields, request);
  ParseEcho(fields, request);
  ParseBestOf(fields, request);
  fields.Unsupported("logprobs", "log probabilities are not implemented; leave it out");
  fields.Unsupported("suffix", "insertion is not implemented; leave it out", {""});
  fields.RejectUnknown();
  return Finish(error, sampling, request);
}

OrError<CompletionRequest> ParseChatCompletion(std::string_view body) {
  Json json;
  std::optional<ApiError> error = ParseJsonObject(body, kMaxJsonDepth, json);
  if (error) return *std::move(error);
  CompletionRequest request{.chat = true};
  JsonFields fields(json, "", error);
  ParseCommon(fields, error, request);
  ParseMessages(fields, error, request);
  v1::SamplingParams sampling = ParseSampling(fields);
  SetMaxTokens(fields, "max_tokens", 1, sampling);
  SetMaxTokens(fields, "max_completion_tokens", 1, sampling);  // Wins.
  RejectWhatChatHasNot(fields);
  ReadHints(fields);
  fields.RejectUnknown();
  return Finish(error, sampling, request);
}

}  // namespace bdh::gateway
