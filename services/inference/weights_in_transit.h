// The weights of a checkpoint while they arrive.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/spec/model_config.h"
#include "bdh/v1/checkpoint_store.pb.h"

namespace bdh::inference {

// Tensors of a checkpoint that are not weights begin with one of these.
inline constexpr const char* kForeignPrefixes[] = {"optimizer/", "trainer/"};

// What the checkpoint says its model is. InvalidArgumentError: it does not say, or no model is like that.
absl::StatusOr<spec::ModelConfig> ConfigOf(const v1::Checkpoint& checkpoint);

// One thread at a time.
class WeightsInTransit {
 public:
  // Compares the checkpoint's tensors with what `config` wants. InvalidArgumentError names the tensor that is
  // missing, unknown, or of another type, shape or size.
  static absl::StatusOr<WeightsInTransit> Expect(const spec::ModelConfig& config,
                                                 const v1::Checkpoint& checkpoint);

  // Memory that the tensors take; none of it is taken before the first Add.
  int64_t size_bytes() const;

  // DataLossError names a tensor whose bytes come out of order or too many.
  absl::Status Add(const v1::TensorChunk& chunk);
  // DataLossError names a tensor that is not whole.
  absl::Status CheckWhole() const;

  std::vector<engine::NamedTensor> tensors() const;

 private:
  struct Tensor {
    std::vector<int64_t> shape;
    int64_t size_bytes = 0, filled = 0;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors_;
};

}  // namespace bdh::inference
