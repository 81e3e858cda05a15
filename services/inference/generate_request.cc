#include "services/inference/generate_request.h"

#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/engine/chat.h"
#include "bdh/engine/text_assembler.h"

namespace bdh::inference {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's, for /v1/completions.

absl::Status CheckTokens(const v1::TokenIds& tokens, int32_t vocabulary) {
  if (tokens.ids().empty()) return absl::InvalidArgumentError("tokens is empty; want at least 1 token");
  for (int i = 0; i < tokens.ids_size(); ++i) {
    if (tokens.ids(i) >= 0 && tokens.ids(i) < vocabulary) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tokens.ids[%d] is %d, outside the model's vocabulary; want 0 to %d", i,
                        tokens.ids(i), vocabulary - 1));
  }
  return absl::OkStatus();
}

// A model may have been trained on part of its tokenizer's vocabulary.
absl::Status CheckEncoded(const std::vector<int32_t>& tokens, int32_t vocabulary, const char* field) {
  for (const int32_t token : tokens) {
    if (token < vocabulary) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has a character whose token %d is outside the model's vocabulary of %d", field,
                        token, vocabulary));
  }
  return absl::OkStatus();
}

std::vector<engine::ChatMessage> Messages(const v1::ChatMessages& chat) {
  std::vector<engine::ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages())
    messages.push_back({message.role(), message.content()});
  return messages;
}

// Fills prompt and, for a chat, the stops of its template.
absl::Status SetPrompt(const v1::GenerateRequest& request, const LoadedModel& model,
                       engine::GenerationRequest& out) {
  const int32_t vocabulary = model.model->vocab_size();
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kTokens:
      BDH_RETURN_IF_ERROR(CheckTokens(request.tokens(), vocabulary));
      out.prompt.assign(request.tokens().ids().begin(), request.tokens().ids().end());
      return absl::OkStatus();
    case v1::GenerateRequest::kText:
      if (request.text().empty()) {
        return absl::InvalidArgumentError(
            "text is empty; want at least one character, because a model continues what is there");
      }
      model.tokenizer->Encode(request.text(), out.prompt);
      return CheckEncoded(out.prompt, vocabulary, "text");
    case v1::GenerateRequest::kChat: {
      const auto messages = Messages(request.chat());
      BDH_RETURN_IF_ERROR(engine::Validate(messages));
      model.tokenizer->Encode(engine::RenderTranscript(messages), out.prompt);
      for (std::string& stop : engine::TranscriptStops()) out.stops.push_back(std::move(stop));
      return CheckEncoded(out.prompt, vocabulary, "chat");
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("prompt is not given; want text, tokens or chat");
}

// In what every client's numbers can hold exactly.
int64_t RandomSeed() {
  std::random_device device;
  const uint64_t bits = (uint64_t{device()} << 32) | device();
  return static_cast<int64_t>(bits >> 11);
}

absl::Status SetSampling(const v1::SamplingParams& params, engine::GenerationRequest& out) {
  if (params.has_temperature()) out.sampling.temperature = params.temperature();
  if (params.has_top_k()) out.sampling.top_k = params.top_k();
  if (params.has_top_p()) out.sampling.top_p = params.top_p();
  out.sampling.seed = static_cast<uint64_t>(params.has_seed() ? params.seed() : RandomSeed());
  BDH_RETURN_IF_ERROR(engine::Validate(out.sampling));
  const std::vector<std::string> stops(params.stop().begin(), params.stop().end());
  BDH_RETURN_IF_ERROR(engine::ValidateStops(stops));
  out.stops.insert(out.stops.end(), stops.begin(), stops.end());
  return absl::OkStatus();
}

absl::Status SetMaxTokens(const v1::GenerateRequest& request, int64_t context,
                          engine::GenerationRequest& out) {
  const auto prompt = static_cast<int64_t>(out.prompt.size());
  const bool is_given = request.sampling().has_max_tokens();
  if (is_given && request.sampling().max_tokens() < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("max_tokens is %d; want 0 or more", request.sampling().max_tokens()));
  }
  if (prompt >= context) {
    return absl::OutOfRangeError(absl::StrFormat(
        "prompt has %d tokens and this model's context holds %d, so nothing is left for an answer "
        "(inference.max_context_tokens)",
        prompt, context));
  }
  out.max_tokens = is_given             ? request.sampling().max_tokens()
                   : request.has_chat() ? context - prompt
                                        : std::min(kDefaultMaxTokens, context - prompt);
  if (prompt + out.max_tokens <= context) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrFormat(
      "max_tokens is %d and the prompt has %d tokens, together %d; this model's context holds %d "
      "(inference.max_context_tokens)",
      out.max_tokens, prompt, prompt + out.max_tokens, context));
}

}  // namespace

absl::StatusOr<engine::GenerationRequest> ToEngine(const v1::GenerateRequest& request,
                                                   const std::shared_ptr<const LoadedModel>& model) {
  engine::GenerationRequest out;
  out.model = DecodeModelOf(model);
  out.tokenizer = model->tokenizer;
  out.priority = request.priority();
  // What follows the slash a client says of itself: it must not gain places by many names.
  out.tenant = request.tenant().substr(0, request.tenant().find('/'));
  BDH_RETURN_IF_ERROR(SetPrompt(request, *model, out));
  BDH_RETURN_IF_ERROR(SetSampling(request.sampling(), out));
  BDH_RETURN_IF_ERROR(SetMaxTokens(request, model->info.max_context_tokens(), out));
  return out;
}

v1::FinishReason ToProto(engine::FinishReason reason) {
  return reason == engine::FinishReason::kStop ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH;
}

}  // namespace bdh::inference
