#include "services/inference/file_loader.h"

#include <utility>
#include <vector>

#include "bdh/base/status_macros.h"
#include "bdh/config/model_config.h"
#include "bdh/pretrained/pretrained.h"

namespace bdh::inference {
absl::StatusOr<std::shared_ptr<LoadedModel>> LoadFiles(const std::string& path, engine::MemoryBudget& memory,
                                                       const engine::BdhOptions& options,
                                                       const std::function<bool()>& cancelled,
                                                       v1::Checkpoint& header) {
  BDH_ASSIGN_OR_RETURN(const auto files, pretrained::LoadPretrained(path));
  const spec::ModelConfig& config = files.config();
  header.set_name(path);
  *header.mutable_model() = config::ToProto(config);
  auto loaded = std::make_shared<LoadedModel>();
  BDH_ASSIGN_OR_RETURN(loaded->memory, memory.Reserve(engine::BdhModel::WeightBytesFor(config, options),
                                                      "the model's weights"));
  // The model is built from float32 copies, so for a moment both are there.
  const int64_t copy_bytes = spec::ParameterCount(config) * static_cast<int64_t>(sizeof(float));
  BDH_ASSIGN_OR_RETURN(const auto copy_memory,
                       memory.Reserve(copy_bytes, "a second copy of the weights while they load"));
  std::vector<std::vector<float>> values;
  std::vector<engine::NamedTensor> tensors;
  values.reserve(files.weights().size());
  for (const pretrained::WeightInfo& weight : files.weights()) {
    if (cancelled()) return absl::CancelledError("loading was cancelled");
    BDH_ASSIGN_OR_RETURN(std::vector<float> floats, files.Floats(weight));
    tensors.push_back({weight.name, weight.shape, values.emplace_back(std::move(floats))});
  }
  BDH_ASSIGN_OR_RETURN(loaded->tokenizer,
                       files.tokenizer_files().empty()
                           ? tokenizer::Find(files.tokenizer())
                           : tokenizer::LoadTokenizer(files.tokenizer(), files.tokenizer_files()));
  BDH_ASSIGN_OR_RETURN(loaded->model, engine::BdhModel::Create(config, tensors, options));
  return loaded;
}

}  // namespace bdh::inference
