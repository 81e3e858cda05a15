// BDH as a LibTorch module, equal to the reference in every number: for training, and as the oracle of
// others. Includes torch: only model, training, bdh-trainer-worker and bdh-lab may include this, with PCH
// torch.
#pragma once

// First: without it, clang does not compile LibTorch 1.13's headers as C++20.
#include <ATen/core/ivalue.h>
#include <torch/torch.h>

#include "bdh/spec/model_config.h"

namespace bdh::model {

// Parameters carry the names of the reference (embed.weight, encoder, encoder_v, decoder, lm_head) and are
// drawn from normal(0, 0.02) with torch's generator. One thread at a time.
class BdhImpl : public torch::nn::Module {
 public:
  // `config` has passed spec::Validate.
  explicit BdhImpl(const spec::ModelConfig& config);

  // Token ids [B, T] (int64) to logits [B, T, vocab_size], float32. Dropout acts in training mode.
  torch::Tensor forward(const torch::Tensor& tokens);

  // Where dropout draws from; LibTorch's default generator if this is never called. Models that train in
  // several threads need one each: of a shared one nobody knows who draws first.
  void set_generator(const at::Generator& generator) { generator_ = generator; }

  // The type of the weights and of the products with them: float32, in which the module equals the reference,
  // or bfloat16. Norms, rotations and the sums of the residual stream stay float32, and so do the
  // frequencies, which to(kBFloat16) would round.
  void set_weight_type(torch::ScalarType type);

  const spec::ModelConfig& config() const { return config_; }

 private:
  // What the passes read at every position from the positions before it: keys [heads, batch x length, N] and
  // values [batch, length, n_embd] to [heads, batch x length, n_embd].
  torch::Tensor Attention(const torch::Tensor& keys, const torch::Tensor& values);

  // The rotation of every pair of neurons at the positions 0 to length - 1, [length, N / 2], complex.
  torch::Tensor Turns(int64_t length);

  const spec::ModelConfig config_;
  torch::nn::Embedding embed_{nullptr};
  torch::Tensor encoder_, encoder_v_, decoder_, lm_head_, frequencies_;
  c10::optional<at::Generator> generator_;
  torch::Tensor turns_;  // Kept from the last forward: they depend on the position alone.
};
TORCH_MODULE(Bdh);

// Mean cross-entropy of logits [B, T, V] against targets [B, T].
torch::Tensor Loss(const torch::Tensor& logits, const torch::Tensor& targets);

}  // namespace bdh::model
