// BDH decoded exactly and recurrently: constant time and memory a token, without LibTorch.
//
// What a state remembers of the tokens before position t is computed in one of two ways, and which one is a
// function of t and the model alone: up to dense_from from the factors (sparse keys and values) of all tokens
// before t; from there on from rho, which holds the tokens up to the last line of a grid, and the factors of
// those after it. Rho advances on that grid only and in one order, so the bits of all logits are the same
// however tokens came in: at once or one by one, alone or in a batch, on one thread or on many, in a state
// that was forked, cut back, put to rest, or saved and loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/engine/decode_model.h"
#include "bdh/kernels/kernels.h"
#include "bdh/spec/model_config.h"

namespace bdh::engine {

// A weight under the reference's name, row-major. Borrows.
struct NamedTensor {
  std::string_view name;
  std::vector<int64_t> shape;
  std::span<const float> values;
};

// What a server keeps if it has the memory: enough for a state of the default shape.
inline constexpr int64_t kDefaultKeepBytes = int64_t{400} << 20;

struct BdhOptions {
  kernels::DType dtype = kernels::DType::kF32;  // Weights are rounded to it once; states are always fp32.
  kernels::PhaseMode phases = kernels::PhaseMode::kReference;
  int grid = 32;           // Tokens between two lines, up to 64.
  int64_t dense_from = 0;  // The first position that reads rho, a multiple of grid. 0: what costs least.
  int threads = 1;         // That work on one call together.
  // Memory of states that are gone which is kept for the next ones, though never more than one takes in its
  // life: the system need not clear it again.
  int64_t keep_bytes = 0;
  const kernels::Kernels* kernels = nullptr;  // Null: the fastest.
};

// A form in which a state can be kept while nobody decodes from it.
enum class StateForm {
  kTokens,   // The tokens alone; what was computed of them is computed again.
  kFactors,  // And the factors of all of them: short states are kept so while they decode.
  kDense,    // And rho, and the factors since the last line of the grid: long ones are kept so.
};

// What each form costs at a position, and which is the cheapest: the time to decode again, plus a price for
// the memory. A form that a state of this position does not have is not among them.
struct RestPlan {
  struct Choice {
    StateForm form;
    int64_t bytes;
    double resume_seconds;
    double cost;  // resume_seconds + GiB * seconds_per_gib.
  };
  int64_t position;
  double seconds_per_gib;
  std::vector<Choice> choices;
  StateForm best;

  std::string ToText() const;  // A table for people.
};

// How often neurons fired, of all that might have: fractions over tokens, layers and neurons.
struct Density {
  int64_t tokens = 0;
  double active = 0;  // relu(x E).
  double pairs = 0;   // Pairs with an active neuron: the rows of rho that are read and written.
  double passed = 0;  // Active ones whose gate is open too: the rows of the decoder that are read.
};

class BdhModel : public DecodeModel {
 public:
  // Needs every weight of spec::Weights(config), once, and takes attn.freqs [neurons per head] (or its
  // 1 x 1 x 1 x neurons form) if given; otherwise the frequencies are those of spec::RopeFrequencies. Copies
  // what it needs: WeightBytesFor(config), beside the tensors given.
  // InvalidArgumentError names what is wrong: a field of the config or the options; a tensor that is missing,
  // unknown, given twice, of another shape, or holds a number that is not finite. ResourceExhaustedError: no
  // memory.
  static absl::StatusOr<std::shared_ptr<const BdhModel>> Create(const spec::ModelConfig& config,
                                                                std::span<const NamedTensor> tensors,
                                                                const BdhOptions& options = {});

  // Memory of the weights, of what one call works in and of what is kept, known before there is a model.
  static int64_t WeightBytesFor(const spec::ModelConfig& config, const BdhOptions& options = {});

  virtual const spec::ModelConfig& config() const = 0;
  virtual const BdhOptions& options() const = 0;  // With dense_from and kernels as they are used.

  // What is weighed when a state of `position` tokens rests or is saved.
  virtual RestPlan PlanRest(int64_t position) const = 0;

  // As DecodeState::Snapshot, in a form that the caller names. FailedPreconditionError: the state does not
  // have it now.
  virtual absl::StatusOr<std::string> SnapshotAs(const DecodeState& state, StateForm form) const = 0;

  // Since `state` was made; a fork begins with its origin's.
  // Whether what the first layer's neurons make of each token is kept, as it is for vocabularies of bytes:
  // then that layer's encoder need not be read.
  virtual bool keeps_first_layer() const = 0;
  virtual Density DensityOf(const DecodeState& state) const = 0;
};

}  // namespace bdh::engine
