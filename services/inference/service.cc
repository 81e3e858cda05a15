#include "services/inference/service.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "services/inference/file_loader.h"
#include "services/inference/generate_request.h"

namespace bdh::inference {
namespace {

// How often a reader that waits looks whether its client is still there. A generation that runs notices at
// its next token, by the write that fails.
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxPathBytes = 1024;

absl::Status CheckId(std::string_view field, std::string_view id) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("._:/-").find(c) != std::string_view::npos;
  };
  if (!id.empty() && id.size() <= kMaxNameBytes && std::all_of(id.begin(), id.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat("%s is '%s'; want 1 to %d of [A-Za-z0-9._:/-]", field,
                                                    id.substr(0, kMaxNameBytes), kMaxNameBytes));
}

// A checkpoint, a tag, or a path of this machine.
absl::Status CheckReference(const std::string& reference) {
  if (!IsPath(reference)) return CheckId("reference", reference);
  const bool printable = std::none_of(reference.begin(), reference.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
  if (reference.size() <= kMaxPathBytes && printable && IsUtf8(reference)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("reference is a path of %d bytes; want at most %d, UTF-8 and no control characters",
                      reference.size(), kMaxPathBytes));
}

void Fill(const engine::GenerationOutput& output, int64_t prompt_tokens, v1::GenerateResponse& response) {
  response.set_text(output.text);
  response.mutable_tokens()->Add(output.tokens.begin(), output.tokens.end());
  if (!output.finish.has_value()) return;
  response.set_finish_reason(ToProto(*output.finish));
  response.mutable_usage()->set_prompt_tokens(prompt_tokens);
  response.mutable_usage()->set_completion_tokens(output.completion_tokens);
}

}  // namespace

Inference::Inference(ModelTable& models, engine::Scheduler& scheduler, DecodeMetrics& metrics,
                     const mesh::Gate& gate)
    : models_(models), scheduler_(scheduler), metrics_(metrics), gate_(gate) {}

std::string Inference::KeyFigure() const {
  const int models = models_.size();
  const engine::Scheduler::Load load = scheduler_.load();
  std::string figure = absl::StrFormat("%d %s, %d active", models, models == 1 ? "model" : "models",
                                       load.active + load.parked);
  if (load.queued > 0) absl::StrAppendFormat(&figure, ", %d queued", load.queued);
  if (const double rate = metrics_.last_tokens_per_second(); rate > 0) {
    absl::StrAppendFormat(&figure, ", %.0f tok/s last", rate);
  }
  return figure;
}

void Inference::StopAdmitting() {
  stopping_ = true;
  scheduler_.StopAdmitting();
}

grpc::Status Inference::LoadModel(grpc::ServerContext* context, const v1::LoadModelRequest* request,
                                  v1::LoadModelResponse* response) {
  return gate_.Run(*context, "LoadModel", [&] { return Load(*context, *request, *response); });
}

grpc::Status Inference::UnloadModel(grpc::ServerContext* context, const v1::UnloadModelRequest* request,
                                    v1::UnloadModelResponse*) {
  return gate_.Run(*context, "UnloadModel", [&]() -> absl::Status {
    BDH_RETURN_IF_ERROR(CheckId("id", request->id()));
    return models_.Unload(request->id());
  });
}

grpc::Status Inference::ListModels(grpc::ServerContext* context, const v1::ListModelsRequest*,
                                   v1::ListModelsResponse* response) {
  return gate_.Run(*context, "ListModels", [&] {
    for (v1::Model& model : models_.List()) *response->add_models() = std::move(model);
    return absl::OkStatus();
  });
}

grpc::Status Inference::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                 Writer* writer) {
  return gate_.Run(*context, "Generate", [&] { return Generate(*context, *request, *writer); });
}

absl::Status Inference::Load(const grpc::ServerContext& context, const v1::LoadModelRequest& request,
                             v1::LoadModelResponse& response) {
  BDH_RETURN_IF_ERROR(CheckReference(request.reference()));
  const std::string& id = request.id().empty() ? request.reference() : request.id();
  BDH_RETURN_IF_ERROR(CheckId("id", id));
  BDH_ASSIGN_OR_RETURN(*response.mutable_model(),
                       models_.Load(id, request.reference(), [&] { return context.IsCancelled(); }));
  return absl::OkStatus();
}

absl::Status Inference::Generate(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                                 Writer& writer) {
  if (request.model().empty())
    return absl::InvalidArgumentError("model is empty; want the id of a loaded model");
  BDH_ASSIGN_OR_RETURN(const auto model, models_.Find(request.model()));
  BDH_ASSIGN_OR_RETURN(engine::GenerationRequest engine_request, ToEngine(request, model));
  const auto prompt_tokens = static_cast<int64_t>(engine_request.prompt.size());
  v1::GenerateResponse first;
  first.set_seed(static_cast<int64_t>(engine_request.sampling.seed));
  first.set_fingerprint(model->info.fingerprint());

  BDH_ASSIGN_OR_RETURN(auto generation, scheduler_.Submit(std::move(engine_request)));
  const auto update = absl::MakeCleanup([this, &generation] {
    generation.reset();
    metrics_.SetLoad(scheduler_.load());
  });
  metrics_.SetLoad(scheduler_.load());
  // At once, so that the client knows that it was admitted.
  if (!writer.Write(first)) return absl::CancelledError("the client went away");
  return Stream(context, *generation, prompt_tokens, writer);
}

absl::Status Inference::Stream(const grpc::ServerContext& context, engine::Generation& generation,
                               int64_t prompt_tokens, Writer& writer) {
  while (!context.IsCancelled()) {
    auto output = generation.Next(kPoll);
    if (output.status().code() == absl::StatusCode::kCancelled && stopping_) {
      return absl::UnavailableError("bdh-inference is shutting down; ask again");
    }
    BDH_RETURN_IF_ERROR(output.status());
    if (!output->has_value()) continue;
    v1::GenerateResponse response;
    Fill(**output, prompt_tokens, response);
    if (!writer.Write(response)) break;
    if ((*output)->finish.has_value()) return absl::OkStatus();
  }
  return absl::CancelledError("the client went away");
}

}  // namespace bdh::inference
