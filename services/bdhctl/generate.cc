// bdhctl generate: a prompt in, text out as it comes.
#include <iostream>
#include <iterator>
#include <optional>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/v1/inference.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

constexpr absl::Duration kTimeout = absl::Hours(1);

struct GenerateFlags {
  MeshFlags mesh;
  std::string model, prompt;
  std::optional<int32_t> max_tokens, top_k;
  std::optional<double> temperature, top_p;
  std::optional<int64_t> seed;
  std::vector<std::string> stop;
  bool chat = false;
};

// What came, put together.
struct Generated {
  std::string text;
  v1::GenerateResponse last;  // finish_reason and usage.
  int64_t seed = 0;
  std::string fingerprint;
};

v1::SamplingParams Sampling(const GenerateFlags& flags) {
  v1::SamplingParams sampling;
  if (flags.max_tokens) sampling.set_max_tokens(*flags.max_tokens);
  if (flags.top_k) sampling.set_top_k(*flags.top_k);
  if (flags.temperature) sampling.set_temperature(*flags.temperature);
  if (flags.top_p) sampling.set_top_p(*flags.top_p);
  if (flags.seed) sampling.set_seed(*flags.seed);
  for (const std::string& stop : flags.stop) sampling.add_stop(stop);
  return sampling;
}

v1::GenerateRequest Request(const GenerateFlags& flags, const std::string& model) {
  v1::GenerateRequest request;
  request.set_model(model);
  *request.mutable_sampling() = Sampling(flags);
  const std::string prompt =
      flags.prompt == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : flags.prompt;
  if (flags.chat) {
    v1::ChatMessage& message = *request.mutable_chat()->add_messages();
    message.set_role("user");
    message.set_content(prompt);
  } else {
    request.set_text(prompt);
  }
  return request;
}

// The one that is loaded, when no name was given.
absl::StatusOr<std::string> OnlyModel(const Mesh& mesh, const mesh::Peer& inference) {
  const auto stub = v1::InferenceService::NewStub(inference.channel());
  BDH_ASSIGN_OR_RETURN(const auto response, inference.Call(*stub, &v1::InferenceService::Stub::ListModels,
                                                           v1::ListModelsRequest(), mesh.call_timeout()));
  if (response.models_size() == 1) return response.models(0).id();
  if (response.models().empty()) {
    return absl::NotFoundError("no model is loaded; load one with: bdhctl models load TAG");
  }
  return absl::InvalidArgumentError("several models are loaded; say which with --model (bdhctl models ls)");
}

absl::StatusOr<Generated> Stream(const mesh::Peer& inference, const v1::GenerateRequest& request,
                                 bool print) {
  const auto stub = v1::InferenceService::NewStub(inference.channel());
  const auto context = inference.NewContext(kTimeout);
  const auto stream = stub->Generate(context.get(), request);
  Generated generated;
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
    generated.text += response.text();
    if (response.has_seed()) generated.seed = response.seed();
    if (!response.fingerprint().empty()) generated.fingerprint = response.fingerprint();
    if (print) std::cout << response.text() << std::flush;
    generated.last = response;
  }
  if (print && !generated.text.empty()) std::cout << std::endl;
  BDH_RETURN_IF_ERROR(inference.Outcome(stream->Finish()));
  return generated;
}

absl::StatusOr<int> RunGenerate(const GenerateFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer inference = mesh.Inference();
  std::string model = flags.model;
  if (model.empty()) {
    BDH_ASSIGN_OR_RETURN(model, OnlyModel(mesh, inference));
  }
  BDH_ASSIGN_OR_RETURN(const Generated generated,
                       Stream(inference, Request(flags, model), /*print=*/!flags.mesh.json));
  if (flags.mesh.json) {
    const auto last = ToJson(generated.last);
    PrintJson({{"model", model},
               {"text", generated.text},
               {"finish_reason", last.at("finish_reason")},
               {"usage", last.contains("usage") ? last.at("usage") : nlohmann::ordered_json()},
               {"seed", generated.seed},
               {"fingerprint", generated.fingerprint}});
  }
  return kExitOk;
}

void Define(CLI::App& command, GenerateFlags& flags) {
  command.add_option("prompt", flags.prompt, "Text to go on with; - reads standard input")
      ->required()
      ->type_name("PROMPT");
  command.add_option("--model,-m", flags.model, "Id of a loaded model (default: the one that is loaded)")
      ->type_name("ID");
  command
      .add_option("--max-tokens,-n", flags.max_tokens, "Longest answer (default: 16; with --chat what fits)")
      ->type_name("N");
  command.add_option("--temperature,-t", flags.temperature, "0 is greedy (default: 1)")->type_name("0..2");
  command.add_option("--top-k", flags.top_k, "Choose among the K likeliest tokens (default: all)")
      ->type_name("K");
  command
      .add_option("--top-p", flags.top_p,
                  "Choose among the likeliest tokens that reach P together (default: 1)")
      ->type_name("P");
  command.add_option("--seed", flags.seed, "Same seed, same text (default: a random one)")->type_name("N");
  command.add_option("--stop", flags.stop, "End before this text; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command.add_flag("--chat", flags.chat, "The prompt is a user's message; the model's chat template applies");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Examples:\n"
      "  bdhctl generate --model small \"In the beginning\" --max-tokens 200 --temperature 0.7 --seed 7\n"
      "  bdhctl generate - < prompt.txt\n"
      "A prompt that begins with a dash: bdhctl generate -- \"--like this\"");
}

}  // namespace

void AddGenerateCommand(CLI::App& app, Invocation& invocation) {
  AddCommand<GenerateFlags>(app, invocation, "generate", "Let a loaded model go on with a text", Define,
                            RunGenerate);
}

}  // namespace bdh::bdhctl
