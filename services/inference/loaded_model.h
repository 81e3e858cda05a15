#pragma once

#include <memory>

#include "bdh/engine/bdh_model.h"
#include "bdh/engine/memory_budget.h"
#include "bdh/tokenizer/tokenizer.h"
#include "bdh/v1/inference.pb.h"

namespace bdh::inference {

// A model that can be asked for. Immutable; whoever generates with it shares it, so that replacing or
// unloading it disturbs nobody. Its memory is given back with the last of them.
struct LoadedModel {
  v1::Model info;
  bool from_config = false;  // Not remembered: the configuration names it again.
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  engine::MemoryBudget::Reservation memory;  // Of the weights; given back after them.
  std::shared_ptr<const engine::BdhModel> model;
};

// The model alone, as a decoder wants it; keeps all of `loaded`.
inline std::shared_ptr<const engine::DecodeModel> DecodeModelOf(
    const std::shared_ptr<const LoadedModel>& loaded) {
  return {loaded, loaded->model.get()};
}

}  // namespace bdh::inference
