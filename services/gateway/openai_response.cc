#include "services/gateway/openai_response.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "bdh/base/text.h"

namespace bdh::gateway {
namespace {

using Json = nlohmann::ordered_json;

// Text comes as whole UTF-8 characters; should it ever not, a replacement character is better than no answer.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json ReasonJson(v1::FinishReason reason) {
  if (reason == v1::FINISH_REASON_STOP) return "stop";
  if (reason == v1::FINISH_REASON_LENGTH) return "length";
  return nullptr;
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens()}}}};
}

Json HeaderJson(const CompletionHeader& header, const char* object) {
  Json json = {{"id", header.id}, {"object", object}, {"created", header.created}, {"model", header.model}};
  json["system_fingerprint"] = nullptr;
  if (!header.fingerprint.empty()) json["system_fingerprint"] = "fp_" + header.fingerprint.substr(0, 12);
  return json;
}

Json ChatChoice(int index, const Choice& choice) {
  return {{"index", index},
          {"message", {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}}},
          {"logprobs", nullptr},
          {"finish_reason", ReasonJson(choice.finish_reason)}};
}

Json TextChoice(int index, const std::string& text, v1::FinishReason reason) {
  return {{"text", text}, {"index", index}, {"logprobs", nullptr}, {"finish_reason", ReasonJson(reason)}};
}

Json DeltaChoice(int index, Json delta, v1::FinishReason reason) {
  return {{"index", index},
          {"delta", std::move(delta)},
          {"logprobs", nullptr},
          {"finish_reason", ReasonJson(reason)}};
}

std::string Chunk(const CompletionHeader& header, bool with_usage, Json choice) {
  Json json = HeaderJson(header, header.chat ? "chat.completion.chunk" : "text_completion");
  json["choices"] = Json::array({std::move(choice)});
  if (with_usage) json["usage"] = nullptr;
  return Dump(json);
}

Json ModelJson(const v1::Model& model) {
  return {{"id", model.id()},
          {"object", "model"},
          {"created", model.load_time().seconds()},
          {"owned_by", "bdh"},
          {"max_model_len", model.max_context_tokens()},  // As vLLM calls it; tools look for it.
          {"bdh",
           {{"checkpoint", model.checkpoint()},
            {"tokenizer", model.tokenizer()},
            {"parameter_count", model.parameter_count()},
            {"state_bytes", model.state_bytes()},
            {"fingerprint", model.fingerprint()}}}};
}

}  // namespace

std::string NewCompletionId(bool chat) {
  return (chat ? "chatcmpl-" : "cmpl-") + RandomHex(12);
}

std::string CompletionBody(const CompletionHeader& header, const std::vector<Choice>& choices,
                           const v1::Usage& usage) {
  Json json = HeaderJson(header, header.chat ? "chat.completion" : "text_completion");
  json["choices"] = Json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    const int index = static_cast<int>(i);
    json["choices"].push_back(header.chat ? ChatChoice(index, choices[i])
                                          : TextChoice(index, choices[i].text, choices[i].finish_reason));
  }
  json["usage"] = UsageJson(usage);
  return Dump(json);
}

std::string ChunkWriter::Role(int index) const {
  return Chunk(header_, with_usage_,
               DeltaChoice(index, {{"role", "assistant"}, {"content", ""}}, v1::FINISH_REASON_UNSPECIFIED));
}

std::string ChunkWriter::Text(int index, const std::string& text) const {
  const auto none = v1::FINISH_REASON_UNSPECIFIED;
  return Chunk(header_, with_usage_,
               header_.chat ? DeltaChoice(index, {{"content", text}}, none) : TextChoice(index, text, none));
}

std::string ChunkWriter::Finish(int index, v1::FinishReason reason) const {
  return Chunk(header_, with_usage_,
               header_.chat ? DeltaChoice(index, Json::object(), reason) : TextChoice(index, "", reason));
}

std::string ChunkWriter::Usage(const v1::Usage& usage) const {
  Json json = HeaderJson(header_, header_.chat ? "chat.completion.chunk" : "text_completion");
  json["choices"] = Json::array();
  json["usage"] = UsageJson(usage);
  return Dump(json);
}

std::string ModelBody(const v1::Model& model) {
  return Dump(ModelJson(model));
}

std::string ModelListBody(const v1::ListModelsResponse& models) {
  Json json = {{"object", "list"}, {"data", Json::array()}};
  for (const auto& model : models.models()) json["data"].push_back(ModelJson(model));
  return Dump(json);
}

}  // namespace bdh::gateway
