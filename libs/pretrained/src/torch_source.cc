#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/tensorfile/torch_file.h"
#include "json_files.h"
#include "tensor_source.h"

namespace bdh::pretrained {
namespace {

using tensorfile::TorchDict;
using tensorfile::TorchFile;
using tensorfile::TorchTensor;
using tensorfile::TorchValue;

// Where training scripts put the state dict, and their config and step beside it.
constexpr const char* kWrappers[] = {"model_state_dict", "state_dict", "model", "module"};
constexpr const char* kConfigs[] = {"config", "model_config", "model_args", "bdh_config", "hparams"};
constexpr const char* kSteps[] = {"step", "global_step", "iter_num", "iteration"};
constexpr int kMaxWrappers = 4;  // One around the other.

template <class T>
const T* Find(const TorchDict& dict, const char* key) {
  const auto found = dict.find(key);
  return found == dict.end() ? nullptr : found->second->As<T>();
}

bool HoldsTensors(const TorchDict& dict) {
  for (const auto& [name, value] : dict) {
    if (value->As<TorchTensor>() != nullptr) return true;
  }
  return false;
}

// The plain values of a dict.
std::string ToJson(const TorchDict& dict) {
  Json json = Json::object();
  for (const auto& [key, value] : dict) {
    if (const auto* number = value->As<int64_t>()) json[key] = *number;
    if (const auto* number = value->As<double>()) json[key] = *number;
    if (const auto* text = value->As<std::string>()) json[key] = *text;
  }
  return json.dump();
}

class TorchSource : public TensorSource {
 public:
  explicit TorchSource(TorchFile file) : file_(std::move(file)) {}

  absl::Status FindStateDict() {
    const auto* dict = file_.root().As<TorchDict>();
    for (int depth = 0; dict != nullptr && depth <= kMaxWrappers; ++depth) {
      Note(*dict);
      const TorchDict* inner = nullptr;
      for (const char* wrapper : kWrappers) {
        if (inner == nullptr) inner = Find<TorchDict>(*dict, wrapper);
      }
      if (inner == nullptr) {
        if (!HoldsTensors(*dict)) break;
        weights_ = dict;
        return CheckTensors();
      }
      dict = inner;
    }
    return absl::InvalidArgumentError(
        "holds no state dict: neither tensors by name nor such a dict under model_state_dict, state_dict, "
        "model or module");
  }

  std::vector<StoredTensor> List() const override {
    std::vector<StoredTensor> list;
    for (const auto& [name, value] : *weights_) {
      const auto& tensor = *value->As<TorchTensor>();
      int64_t bytes = tensorfile::ElementSize(tensor.storage.dtype);
      // A size beyond int64 is refused by Bytes; its text need not be right.
      for (const int64_t size : tensor.shape) {
        if (__builtin_mul_overflow(bytes, size, &bytes)) bytes = 0;
      }
      list.push_back({name, tensor.storage.dtype, tensor.shape, bytes});
    }
    return list;
  }

  absl::StatusOr<std::string> Bytes(const std::string& name) const override {
    const auto* tensor = Find<TorchTensor>(*weights_, name.c_str());
    if (tensor == nullptr) return absl::NotFoundError(absl::StrFormat("there is no tensor %s", name));
    return file_.Bytes(name, *tensor);
  }

  std::string Config() const override { return config_; }
  int64_t Step() const override { return step_; }

 private:
  void Note(const TorchDict& dict) {
    for (const char* key : kConfigs) {
      if (const auto* config = Find<TorchDict>(dict, key)) config_ = ToJson(*config);
    }
    for (const char* key : kSteps) {
      if (const auto* step = Find<int64_t>(dict, key); step != nullptr && *step > 0) step_ = *step;
    }
  }

  absl::Status CheckTensors() const {
    for (const auto& [name, value] : *weights_) {
      if (value->As<TorchTensor>() != nullptr) continue;
      return absl::InvalidArgumentError(absl::StrFormat("the state dict's entry %s is no tensor", name));
    }
    return absl::OkStatus();
  }

  const TorchFile file_;
  const TorchDict* weights_ = nullptr;
  std::string config_;
  int64_t step_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenTorchFile(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(TorchFile file, TorchFile::Open(path));
  auto source = std::make_unique<TorchSource>(std::move(file));
  BDH_RETURN_IF_ERROR(Annotate(source->FindStateDict(), path));
  return source;
}

}  // namespace bdh::pretrained
