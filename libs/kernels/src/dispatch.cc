#include <cstdlib>
#include <cstring>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/kernels/kernels.h"
#include "simd.h"

namespace bdh::kernels {
namespace {

std::vector<const Kernels*> Everything() {
  std::vector<const Kernels*> all = {&Scalar()};
  for (const Kernels* kernels : SimdKernels()) all.push_back(kernels);
  return all;
}

const Kernels& Choose() {
  const auto all = All();
  const char* wanted = std::getenv("BDH_KERNELS");
  if (wanted == nullptr || *wanted == '\0') return *all.back();
  for (const Kernels* kernels : all) {
    if (std::strcmp(kernels->name, wanted) == 0) return *kernels;
  }
  BDH_LOG(WARNING) << "BDH_KERNELS names no kernels of this machine name=" << wanted
                   << " taken=" << all.back()->name;
  return *all.back();
}

}  // namespace

std::span<const Kernels* const> All() {
  static const std::vector<const Kernels*> all = Everything();
  return all;
}

const Kernels& Best() {
  static const Kernels& best = Choose();
  return best;
}

std::string_view NumericsId(const Kernels& kernels) {
  return kernels.fused ? "bdh-1/fma" : "bdh-1/mul-add";
}

}  // namespace bdh::kernels
