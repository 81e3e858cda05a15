// bdhctl model show: what a model is, from files or from the checkpoint store.
#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/spec/memory.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/spec/shape.h"
#include "services/bdhctl/client/checkpoint_io.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/model_commands.h"
#include "services/bdhctl/model_record.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShortDigest = 16;

struct ShowFlags {
  MeshFlags mesh;
  std::string model;
  std::optional<int> n_layer;
};

struct Tensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  int64_t size_bytes = 0;
  std::string sha256;
};

// What is shown, wherever it came from.
struct Shown {
  std::string from;  // "directory", "checkpoint": what the model was found as.
  pretrained::Description description = {};
  std::vector<Tensor> tensors = {};
  std::vector<std::string> notes = {};
  std::string digest = {};  // Of the checkpoint.
};

absl::StatusOr<Shown> ShowFiles(const ShowFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const auto model, pretrained::LoadPretrained(flags.model, {.n_layer = flags.n_layer}));
  std::error_code error;
  Shown shown{.from = std::filesystem::is_directory(flags.model, error) ? "directory" : "file",
              .description = {.title = flags.model,
                              .config = model.config(),
                              .tokenizer = model.tokenizer(),
                              .record = model.record()},
              .notes = model.notes()};
  for (const pretrained::WeightInfo& weight : model.weights()) {
    BDH_RETURN_IF_ERROR(model.Floats(weight).status());  // Whether all of them are numbers.
    BDH_ASSIGN_OR_RETURN(const std::string bytes, model.Bytes(weight));
    shown.tensors.push_back({weight.name, weight.dtype, weight.shape, weight.size_bytes, Sha256Hex(bytes)});
  }
  return shown;
}

// "F32" for DTYPE_F32, as files call it.
std::string DTypeName(v1::DType dtype) {
  return v1::DType_Name(dtype).substr(sizeof("DTYPE_") - 1);
}

absl::StatusOr<Shown> ShowStored(const ShowFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  Shown shown{.from = "checkpoint"};
  BDH_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint,
                       GetWeights(mesh, flags.model, [&](const v1::TensorInfo& tensor, std::string bytes) {
                         if (!IsWeight(tensor)) return absl::OkStatus();
                         shown.tensors.push_back({tensor.name(),
                                                  DTypeName(tensor.dtype()),
                                                  {tensor.shape().begin(), tensor.shape().end()},
                                                  tensor.size_bytes(),
                                                  Sha256Hex(bytes)});
                         return absl::OkStatus();
                       }));
  BDH_ASSIGN_OR_RETURN(shown.description, Describe(checkpoint));
  shown.digest = checkpoint.digest();
  return shown;
}

Json RecordJson(const pretrained::TrainingRecord& record) {
  Json json = {{"checkpoint", record.checkpoint},     {"dataset", record.dataset},
               {"dataset_hash", record.dataset_hash}, {"step", record.step},
               {"tokens_seen", record.tokens_seen},   {"software_version", record.software_version}};
  if (record.train_loss) json["train_loss"] = *record.train_loss;
  if (record.validation_loss) json["validation_loss"] = *record.validation_loss;
  return json;
}

void PrintAsJson(const Shown& shown) {
  const spec::ModelConfig& config = shown.description.config;
  Json tensors = Json::array();
  for (const Tensor& tensor : shown.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"size_bytes", tensor.size_bytes},
                       {"sha256", tensor.sha256}});
  }
  PrintJson(
      {{"model", shown.description.title},
       {"from", shown.from},
       {"config", Json::parse(spec::ToJson(config))},
       {"parameters", spec::ParameterCount(config)},
       {"tokenizer", shown.description.tokenizer},
       {"training", RecordJson(shown.description.record)},
       {"serving", {{"weight_bytes", spec::WeightBytes(config)}, {"state_bytes", spec::StateBytes(config)}}},
       {"digest", shown.digest},
       {"tensors", std::move(tensors)},
       {"notes", shown.notes}});
}

std::string TrainingText(const pretrained::TrainingRecord& record) {
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!record.dataset.empty()) add("data set " + record.dataset);
  if (record.step > 0) add(absl::StrFormat("step %d", record.step));
  if (record.tokens_seen > 0) add(FormatCount(record.tokens_seen) + " tokens");
  if (record.train_loss) add(absl::StrFormat("loss %.3f", *record.train_loss));
  if (record.validation_loss) add(absl::StrFormat("validation %.3f", *record.validation_loss));
  return text.empty() ? "not known" : text;
}

void PrintAsText(const Shown& shown) {
  const spec::ModelConfig& config = shown.description.config;
  const auto line = [](std::string_view name, const std::string& value) {
    std::cout << absl::StrFormat("%-12s %s\n", name, value);
  };
  line("model", absl::StrFormat("%s (%s)", shown.description.title, shown.from));
  line("config",
       absl::StrFormat("n_layer %d, n_embd %d, n_head %d, mlp_internal_dim_multiplier %d, vocab_size "
                       "%d, dropout %g",
                       config.n_layer, config.n_embd, config.n_head, config.mlp_internal_dim_multiplier,
                       config.vocab_size, config.dropout));
  line("parameters", absl::StrFormat("%d in %d neurons (%d heads of %d)", spec::ParameterCount(config),
                                     config.neurons(), config.n_head, config.neurons_per_head()));
  line("tokenizer", shown.description.tokenizer);
  line("training", TrainingText(shown.description.record));
  line("to serve",
       absl::StrFormat("%s for the weights, %s for the state of each session",
                       FormatBytes(spec::WeightBytes(config)), FormatBytes(spec::StateBytes(config))));
  if (!shown.digest.empty()) line("digest", shown.digest);
  for (const std::string& note : shown.notes) line("note", note);
  Table table({"TENSOR", "TYPE", "SHAPE", ">SIZE", "SHA-256"});
  for (const Tensor& tensor : shown.tensors) {
    table.Add({tensor.name, tensor.dtype, spec::ShapeText(tensor.shape), FormatBytes(tensor.size_bytes),
               tensor.sha256.substr(0, kShortDigest)});
  }
  std::cout << "\n" << table.ToString() << std::flush;
}

absl::StatusOr<int> RunShow(const ShowFlags& flags) {
  std::error_code error;
  const bool is_file = std::filesystem::exists(flags.model, error);
  BDH_ASSIGN_OR_RETURN(const Shown shown, is_file ? ShowFiles(flags) : ShowStored(flags));
  flags.mesh.json ? PrintAsJson(shown) : PrintAsText(shown);
  return kExitOk;
}

void DefineShow(CLI::App& command, ShowFlags& flags) {
  command.add_option("model", flags.model, "Path of a model's files, or else a tag or checkpoint")
      ->required()
      ->type_name("PATH|REF");
  command
      .add_option("--n-layer", flags.n_layer, "For files that do not say how often the weights are passed")
      ->type_name("N");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Prints config, parameters, what is known of the training, the memory that serving takes, and every "
      "tensor\n"
      "with type, shape, size and SHA-256 (whole with --json). All weights are read for that, so it is also "
      "a check:\n"
      "a damaged or unfit file is refused with the tensor's name. Files need no mesh.\n\n"
      "Examples:\n"
      "  bdhctl model show ./my-model\n"
      "  bdhctl model show small/best --json");
}

}  // namespace

void AddModelShowCommand(CLI::App& group, Invocation& invocation) {
  AddCommand<ShowFlags>(group, invocation, "show", "Show what a model is", DefineShow, RunShow);
}

}  // namespace bdh::bdhctl
