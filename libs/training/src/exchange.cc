#include "bdh/training/exchange.h"

#include <map>
#include <string_view>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace bdh::training {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kU8:
      return 1;
  }
  return 0;
}

absl::Status CheckFits(std::span<const MutableTensor> wanted, std::span<const Tensor> stored) {
  std::map<std::string_view, const Tensor*> by_name;
  for (const Tensor& tensor : stored) by_name[tensor.name] = &tensor;
  for (const MutableTensor& tensor : wanted) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the checkpoint has no tensor %s; it cannot be continued", tensor.name));
    }
    if (found->second->shape != tensor.shape || found->second->dtype != tensor.dtype) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tensor %s of the checkpoint has the shape [%s] and this model's has [%s], or their types differ",
          tensor.name, absl::StrJoin(found->second->shape, ", "), absl::StrJoin(tensor.shape, ", ")));
    }
  }
  return absl::OkStatus();
}

}  // namespace bdh::training
