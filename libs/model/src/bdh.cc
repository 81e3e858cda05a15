// Layout: everything with a neuron axis is [heads, batch x length, N], which the products with encoder,
// encoder_v and decoder take as it is, so that no tensor of that size is ever transposed or copied.
#include "bdh/model/bdh.h"

#include <cmath>
#include <numbers>

#include "gate.h"

namespace bdh::model {
namespace {

namespace F = torch::nn::functional;

constexpr double kInitStd = 0.02;

torch::Tensor LayerNorm(const torch::Tensor& x) {
  return torch::layer_norm(x, {x.size(-1)});
}

// k k^T strictly below the diagonal. Its own function for the backward pass: the product is one of a matrix
// with itself, so the gradient needs one product where autograd would make two.
class StrictlyLowerGram : public torch::autograd::Function<StrictlyLowerGram> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& keys) {
    context->save_for_backward({keys});
    return torch::bmm(keys, keys.transpose(1, 2)).tril_(-1);
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const torch::Tensor keys = context->get_saved_variables()[0];
    const torch::Tensor lower = gradients[0].tril(-1);
    return {torch::bmm(lower + lower.transpose(1, 2), keys)};
  }
};

// Turns the pairs (2i, 2i+1) of the last axis of `x` [G, T, N]. `turns` is [T, N/2], complex numbers of
// length 1.
torch::Tensor Rotate(const torch::Tensor& x, const torch::Tensor& turns) {
  const auto pairs = torch::view_as_complex(x.view({x.size(0), x.size(1), -1, 2}));
  return torch::view_as_real(pairs * turns).view(x.sizes());
}

}  // namespace

BdhImpl::BdhImpl(const spec::ModelConfig& config) : config_(config) {
  const int64_t heads = config.n_head, width = config.n_embd, per_head = config.neurons_per_head();
  const auto draw = [](torch::IntArrayRef shape) { return torch::empty(shape).normal_(0, kInitStd); };
  // Drawn in the reference's order, so that one seed gives both the same model.
  decoder_ = register_parameter("decoder", draw({heads * per_head, width}));
  encoder_ = register_parameter("encoder", draw({heads, width, per_head}));
  embed_ = register_module("embed", torch::nn::Embedding(config.vocab_size, width));
  encoder_v_ = register_parameter("encoder_v", draw({heads, width, per_head}));
  lm_head_ = register_parameter("lm_head", draw({width, config.vocab_size}));
  {
    torch::NoGradGuard no_grad;
    embed_->weight.normal_(0, kInitStd);
  }
  // A module of its own because the reference's name of the buffer is attn.freqs.
  const auto attention = register_module("attn", std::make_shared<torch::nn::Module>("attn"));
  frequencies_ = attention->register_buffer("freqs", torch::tensor(spec::RopeFrequencies(per_head)));
}

void BdhImpl::set_weight_type(torch::ScalarType type) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : parameters()) parameter.set_data(parameter.to(type));
}

torch::Tensor BdhImpl::Turns(int64_t length) {
  const bool cached =
      turns_.defined() && turns_.size(0) >= length && turns_.device() == frequencies_.device();
  if (!cached) {
    torch::NoGradGuard no_grad;
    // One float32 product, the part after the point, then radians: the reference's roundings, in its order.
    // The two neurons of a pair have the same frequency.
    const auto pairs = frequencies_.view({-1, 2}).select(1, 0);
    const auto phases = (torch::arange(length, frequencies_.options()).unsqueeze(1) * pairs)
                            .remainder_(1)
                            .mul_(2 * std::numbers::pi);
    turns_ = torch::complex(phases.cos(), phases.sin());
  }
  return turns_.narrow(0, 0, length);
}

torch::Tensor BdhImpl::Attention(const torch::Tensor& keys, const torch::Tensor& values) {
  const int64_t batch = values.size(0), length = values.size(1), width = values.size(2), heads = keys.size(0);
  const auto wide = keys.view({heads * batch, length, -1}).to(torch::kFloat32);
  const auto rotated = Rotate(wide, Turns(length)).to(keys.scalar_type());
  const auto shared = values.to(keys.scalar_type())
                          .expand({heads, batch, length, width})
                          .reshape({heads * batch, length, width});
  return torch::bmm(StrictlyLowerGram::apply(rotated), shared).view({heads, batch * length, width});
}

torch::Tensor BdhImpl::forward(const torch::Tensor& tokens) {
  TORCH_CHECK(tokens.dim() == 2 && tokens.size(0) > 0 && tokens.size(1) > 0, "tokens have shape ",
              tokens.sizes(), "; want [batch, length], neither of them 0");
  const int64_t batch = tokens.size(0), length = tokens.size(1), width = config_.n_embd,
                heads = config_.n_head;
  const int64_t rows = batch * length;
  // In float32 `to` gives the same tensor back.
  const auto type = encoder_.scalar_type();
  const auto for_every_head = [&](const torch::Tensor& x) {
    return x.to(type).view({rows, width}).expand({heads, rows, width});
  };
  const auto decoder = decoder_.view({heads, -1, width});

  auto x = LayerNorm(embed_->forward(tokens).to(torch::kFloat32));
  for (int layer = 0; layer < config_.n_layer; ++layer) {
    const auto active = torch::bmm(for_every_head(x), encoder_).relu_();
    const auto read = LayerNorm(Attention(active, x).to(torch::kFloat32)).to(type);
    const auto product =
        Gate(active, torch::bmm(read, encoder_v_), is_training() ? config_.dropout : 0, generator_);
    const auto written = torch::bmm(product, decoder).to(torch::kFloat32).sum(0).view({batch, length, width});
    x = LayerNorm(x + LayerNorm(written));
  }
  return torch::matmul(x.to(type), lm_head_).to(torch::kFloat32);
}

torch::Tensor Loss(const torch::Tensor& logits, const torch::Tensor& targets) {
  return F::cross_entropy(logits.reshape({-1, logits.size(-1)}), targets.reshape({-1}));
}

}  // namespace bdh::model
