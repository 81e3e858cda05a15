// Where the tensors of a model lie: safetensors files or a file of torch.save.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/tensorfile/torch_file.h"

namespace bdh::pretrained {

struct StoredTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t size_bytes = 0;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::vector<StoredTensor> List() const = 0;
  // Errors name the tensor.
  virtual absl::StatusOr<std::string> Bytes(const std::string& name) const = 0;
  // A model config as JSON that came with the tensors, or empty. Fields may be missing, others be there.
  virtual std::string Config() const { return ""; }
  // The training step that came with the tensors, or 0.
  virtual int64_t Step() const { return 0; }
};

absl::StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path);

// The files that `index`, a model.safetensors.index.json beside them, names. Every tensor must be where it
// says, and none be anywhere else.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenShards(const std::string& index);

absl::StatusOr<std::unique_ptr<TensorSource>> OpenTorchFile(const std::string& path);

}  // namespace bdh::pretrained
