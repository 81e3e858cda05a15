// How a model's numbers lie in memory, computed once from its config.
//
// The neurons of a head are cut into segments of 2048. A segment's share of every sum over neurons is one
// chain in ascending order, and the shares are added in ascending order: so segments can be worked on by any
// number of threads, and what they compute depends on the config alone.
#pragma once

#include <cstdint>
#include <vector>

#include "bdh/kernels/kernels.h"
#include "bdh/spec/model_config.h"

namespace bdh::engine {

inline constexpr int64_t kSegmentNeurons = 2048;
// Vocabularies up to this size have what the first layer's neurons make of every token kept: bytes and a few
// more.
inline constexpr int64_t kFirstLayerTokens = 512;
// Tokens that share one pass over the weights.
inline constexpr int64_t kRows = kernels::kMaxTokens;

struct Segment {
  int head;
  int64_t begin;    // Its first neuron in the head.
  int64_t neurons;  // Even.
  int64_t blocks;   // Of 16 neurons, the last one padded.
  int64_t row;      // Where its rows begin among those of a layer's rho.
  int64_t keys;     // Where its values begin among those of a factor or of packed activations.
  int64_t masks;    // The same, of the masks.
  int64_t padded() const { return kernels::RoundUp(neurons, kernels::kPanel); }
};

// Some blocks of a segment; `first` is a multiple of 4.
struct Part {
  int64_t first, blocks;
};

struct Geometry {
  explicit Geometry(const spec::ModelConfig& model)
      : config(model), width(kernels::RoundUp(model.n_embd, kernels::kLanes)) {
    const int64_t per_head = config.neurons_per_head();
    for (int head = 0; head < config.n_head; ++head) {
      first_of_head.push_back(static_cast<int64_t>(segments.size()));
      for (int64_t begin = 0; begin < per_head; begin += kSegmentNeurons) {
        const int64_t neurons = std::min(kSegmentNeurons, per_head - begin);
        const int64_t blocks = kernels::RoundUp(neurons, kernels::kLanes) / kernels::kLanes;
        segments.push_back({head, begin, neurons, blocks, rows, keys, masks});
        rows += blocks * kernels::kLanes;
        keys += blocks * kernels::kLanes + kernels::kPackSlack;
        masks += kernels::RoundUp(blocks, 32);
      }
    }
    first_of_head.push_back(static_cast<int64_t>(segments.size()));
    pairs = kernels::RoundUp(per_head / 2, kernels::kLanes);
    vocabulary = kernels::RoundUp(config.vocab_size, kernels::kPanel);
  }

  bool keeps_first_layer() const { return config.vocab_size <= kFirstLayerTokens; }
  int64_t rho_bytes() const { return rows * width * 4; }  // Of one layer.
  // Of one token in one layer: values, x, masks.
  int64_t factor_bytes() const { return (keys + width) * 4 + masks * 2; }

  const spec::ModelConfig config;
  const int64_t width;  // n_embd, padded.
  std::vector<Segment> segments;
  std::vector<int64_t> first_of_head;  // And one more, behind the last.
  int64_t rows = 0, keys = 0, masks = 0;
  int64_t pairs = 0;       // Of a head, padded.
  int64_t vocabulary = 0;  // Padded.
};

}  // namespace bdh::engine
