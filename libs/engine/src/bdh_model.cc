#include "bdh/engine/bdh_model.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/kernels/kernels.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/spec/shape.h"

namespace bdh::engine {
namespace {

using kernels::F32Matrix;
using kernels::Layout;
using kernels::SparseVector;
using kernels::WeightMatrix;
using spec::ElementCount;
using spec::ShapeText;

// Beyond 2^24 two positions share one fp32 number, so their phases would be equal.
constexpr int64_t kMaxTokens = int64_t{1} << 24;

using Tensors = std::map<std::string_view, const NamedTensor*>;

// 1 x 1 x 1 x N, as the reference registers its buffer, is N.
std::vector<int64_t> WithoutLeadingOnes(const std::vector<int64_t>& shape) {
  size_t begin = 0;
  while (begin + 1 < shape.size() && shape[begin] == 1) ++begin;
  return {shape.begin() + begin, shape.end()};
}

absl::Status CheckTensor(const NamedTensor& tensor, const std::vector<int64_t>& given,
                         const std::vector<int64_t>& wanted) {
  if (given != wanted) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has shape %s; the model's config wants %s",
                                                      tensor.name, ShapeText(given), ShapeText(wanted)));
  }
  if (static_cast<int64_t>(tensor.values.size()) != ElementCount(wanted)) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s holds %d numbers; its shape %s wants %d",
                                                      tensor.name, tensor.values.size(), ShapeText(wanted),
                                                      ElementCount(wanted)));
  }
  for (size_t i = 0; i < tensor.values.size(); ++i) {
    if (std::isfinite(tensor.values[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s is damaged: element %d is %g, which is not a finite number", tensor.name,
                        i, tensor.values[i]));
  }
  return absl::OkStatus();
}

// The clocks of a head must go by pairs, because pairs are what RoPE turns.
absl::Status CheckFrequencyPairs(std::span<const float> frequencies) {
  for (size_t i = 0; i + 1 < frequencies.size(); i += 2) {
    if (frequencies[i] == frequencies[i + 1]) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s: neurons %d and %d are one pair but have the frequencies %g and %g",
                        spec::kFrequenciesName, i, i + 1, frequencies[i], frequencies[i + 1]));
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensors> CheckTensors(const spec::ModelConfig& config, std::span<const NamedTensor> given) {
  Tensors tensors;
  for (const NamedTensor& tensor : given) {
    if (!tensors.emplace(tensor.name, &tensor).second) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is given twice", tensor.name));
    }
  }
  size_t known = 0;
  for (const spec::WeightSpec& weight : spec::Weights(config)) {
    const auto found = tensors.find(weight.name);
    if (found == tensors.end()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s %s is missing", weight.name, ShapeText(weight.shape)));
    }
    BDH_RETURN_IF_ERROR(CheckTensor(*found->second, found->second->shape, weight.shape));
    ++known;
  }
  if (const auto found = tensors.find(spec::kFrequenciesName); found != tensors.end()) {
    const NamedTensor& frequencies = *found->second;
    BDH_RETURN_IF_ERROR(
        CheckTensor(frequencies, WithoutLeadingOnes(frequencies.shape), {config.neurons_per_head()}));
    BDH_RETURN_IF_ERROR(CheckFrequencyPairs(frequencies.values));
    ++known;
  }
  if (known == tensors.size()) return tensors;
  for (const auto& [name, tensor] : tensors) {
    bool is_known = name == spec::kFrequenciesName;
    for (const spec::WeightSpec& weight : spec::Weights(config)) is_known = is_known || weight.name == name;
    if (!is_known) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is not a weight of a BDH model", name));
    }
  }
  return tensors;
}

std::string Fingerprint(const spec::ModelConfig& config, const Tensors& tensors,
                        std::span<const float> frequencies) {
  spec::ModelConfig decoded = config;
  decoded.dropout = 0;  // It does not act here.
  std::string summary = spec::ToJson(decoded);
  const auto add = [&summary](std::string_view name, std::span<const float> values) {
    const std::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    summary += absl::StrFormat("\n%s f32 %s", name, Sha256Hex(bytes));
  };
  for (const spec::WeightSpec& weight : spec::Weights(config)) {
    add(weight.name, tensors.at(weight.name)->values);
  }
  add(spec::kFrequenciesName, frequencies);
  return Sha256Hex(summary);
}

std::vector<float> Copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// [heads, width, neurons] to [heads, neurons, width]: one row a neuron.
std::vector<float> NeuronRows(std::span<const float> values, int64_t heads, int64_t width, int64_t neurons) {
  constexpr int64_t kTile = 16;  // So that both sides stay in the cache.
  std::vector<float> rows(values.size());
  for (int64_t head = 0; head < heads; ++head) {
    const float* in = values.data() + head * width * neurons;
    float* out = rows.data() + head * width * neurons;
    for (int64_t begin = 0; begin < neurons; begin += kTile) {
      const int64_t end = std::min(begin + kTile, neurons);
      for (int64_t d = 0; d < width; ++d) {
        for (int64_t n = begin; n < end; ++n) out[n * width + d] = in[d * neurons + n];
      }
    }
  }
  return rows;
}

// Zeros that cost nothing until they are written: rows of neurons that never fire stay unallocated pages.
class ZeroedFloats {
 public:
  explicit ZeroedFloats(int64_t size)
      : data_(static_cast<float*>(std::calloc(size, sizeof(float))), &std::free), size_(size) {}
  bool ok() const { return data_ != nullptr; }
  std::span<float> all() const { return {data_.get(), static_cast<size_t>(size_)}; }

 private:
  std::unique_ptr<float, decltype(&std::free)> data_;
  int64_t size_;
};

int64_t RhoSize(const spec::ModelConfig& config) {
  return config.n_layer * config.neurons() * config.n_embd;
}

// What a step works in; nothing of it outlives the step.
struct Scratch {
  explicit Scratch(const spec::ModelConfig& config)
      : x(config.n_embd),
        read(config.n_embd),
        written(config.n_embd),
        active(config.neurons_per_head()),
        cosines(config.neurons_per_head() / 2),
        sines(config.neurons_per_head() / 2),
        indices(config.neurons_per_head()),
        values(config.neurons_per_head()) {}

  static int64_t Bytes(const spec::ModelConfig& config) {
    return static_cast<int64_t>(sizeof(float)) * (3 * int64_t{config.n_embd} + 4 * config.neurons_per_head());
  }
  SparseVector Sparse() { return SparseVector(indices, values); }

  std::vector<float> x, read, written, active, cosines, sines;
  std::vector<int32_t> indices;
  std::vector<float> values;
};

class BdhModelImpl;

class BdhState : public DecodeState {
 public:
  BdhState(const BdhModelImpl& model, const spec::ModelConfig& config)
      : model_(model), config_(config), rho_(RhoSize(config)), scratch_(config) {}

  bool ok() const { return rho_.ok(); }
  int64_t position() const override { return position_; }
  int64_t memory_bytes() const override { return BdhModel::StateBytesFor(config_); }
  absl::StatusOr<std::unique_ptr<DecodeState>> Fork() const override;
  absl::Status Truncate(int64_t position) override;

  const BdhModelImpl& model() const { return model_; }
  Scratch& scratch() { return scratch_; }
  void Advance() { ++position_; }
  // rho of one head in one layer: [neurons per head, n_embd].
  std::span<float> Rho(int layer, int head) const {
    const int64_t size = config_.neurons_per_head() * config_.n_embd;
    return rho_.all().subspan((int64_t{layer} * config_.n_head + head) * size, size);
  }

 private:
  const BdhModelImpl& model_;
  const spec::ModelConfig& config_;
  int64_t position_ = 0;
  ZeroedFloats rho_;
  Scratch scratch_;
};

class BdhModelImpl final : public BdhModel {
 public:
  BdhModelImpl(const spec::ModelConfig& config, const Tensors& tensors);

  const spec::ModelConfig& config() const override { return config_; }
  int32_t vocab_size() const override { return config_.vocab_size; }
  int64_t parameter_count() const override { return spec::ParameterCount(config_); }
  int64_t weight_bytes() const override { return WeightBytesFor(config_); }
  const std::string& fingerprint() const override { return fingerprint_; }
  int64_t max_tokens() const override { return kMaxTokens; }
  int64_t StateBytes(int64_t) const override { return StateBytesFor(config_); }

  absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const override;
  absl::Status Prefill(DecodeState& state, std::span<const int32_t> tokens, std::span<float> logits,
                       const std::stop_token& stop) const override;
  absl::Status Step(std::span<const StepInput> batch) const override;

 private:
  WeightMatrix HeadOf(const std::vector<float>& weights, Layout layout, int head) const;
  BdhState& Own(DecodeState& state) const;
  absl::Status CheckToken(int32_t token) const;
  absl::Status CheckRoom(const DecodeState& state, int64_t count) const;
  void Feed(BdhState& state, int32_t token) const;
  void FeedLayer(BdhState& state, int layer) const;
  void Logits(BdhState& state, std::span<float> logits) const;

  const spec::ModelConfig config_;
  const std::vector<float> turns_;    // One frequency a pair of neurons.
  std::vector<float> embed_;          // [vocabulary, width], normed already.
  const std::vector<float> encoder_;  // [heads, width, neurons]: every output is wanted, so one row an input.
  const std::vector<float> encoder_v_;  // [heads, neurons, width]: one row a neuron.
  const std::vector<float> decoder_;    // [heads, neurons, width]: one row a neuron.
  const std::vector<float> lm_head_;    // [width, vocabulary].
  std::string fingerprint_;
};

std::vector<float> FrequenciesOf(const spec::ModelConfig& config, const Tensors& tensors) {
  const auto found = tensors.find(spec::kFrequenciesName);
  if (found != tensors.end()) return Copy(found->second->values);
  return spec::RopeFrequencies(config.neurons_per_head());
}

std::vector<float> EverySecond(const std::vector<float>& values) {
  std::vector<float> half;
  for (size_t i = 0; i < values.size(); i += 2) half.push_back(values[i]);
  return half;
}

BdhModelImpl::BdhModelImpl(const spec::ModelConfig& config, const Tensors& tensors)
    : config_(config),
      turns_(EverySecond(FrequenciesOf(config, tensors))),
      embed_(Copy(tensors.at("embed.weight")->values)),
      encoder_(Copy(tensors.at("encoder")->values)),
      encoder_v_(NeuronRows(tensors.at("encoder_v")->values, config.n_head, config.n_embd,
                            config.neurons_per_head())),
      decoder_(Copy(tensors.at("decoder")->values)),
      lm_head_(Copy(tensors.at("lm_head")->values)),
      fingerprint_(Fingerprint(config, tensors, FrequenciesOf(config, tensors))) {
  const std::span<float> embed(embed_);
  for (int64_t token = 0; token < config_.vocab_size; ++token) {
    const auto row = embed.subspan(token * config_.n_embd, config_.n_embd);
    kernels::LayerNorm(row, row);
  }
}

WeightMatrix BdhModelImpl::HeadOf(const std::vector<float>& weights, Layout layout, int head) const {
  const int64_t neurons = config_.neurons_per_head(), width = config_.n_embd;
  const std::span<const float> part = std::span(weights).subspan(head * neurons * width, neurons * width);
  return layout == Layout::kRowPerInput ? F32Matrix(part, layout, width, neurons)
                                        : F32Matrix(part, layout, neurons, width);
}

BdhState& BdhModelImpl::Own(DecodeState& state) const {
  auto* own = dynamic_cast<BdhState*>(&state);
  BDH_CHECK(own != nullptr && &own->model() == this) << "a state of another model";
  return *own;
}

absl::Status BdhModelImpl::CheckToken(int32_t token) const {
  if (token >= 0 && token < config_.vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("token %d is outside the vocabulary; want 0 to %d", token, config_.vocab_size - 1));
}

absl::Status BdhModelImpl::CheckRoom(const DecodeState& state, int64_t count) const {
  if (count <= kMaxTokens - state.position()) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrFormat("%d tokens after position %d exceed the %d a state can count",
                                               count, state.position(), kMaxTokens));
}

absl::StatusOr<std::unique_ptr<DecodeState>> BdhModelImpl::NewState() const {
  auto state = std::make_unique<BdhState>(*this, config_);
  if (state->ok()) return state;
  return absl::ResourceExhaustedError(
      absl::StrFormat("no memory for a state of %s", FormatBytes(StateBytesFor(config_))));
}

absl::Status BdhModelImpl::Prefill(DecodeState& state, std::span<const int32_t> tokens,
                                   std::span<float> logits, const std::stop_token& stop) const {
  if (tokens.empty()) return absl::InvalidArgumentError("no tokens to feed; want at least 1");
  for (const int32_t token : tokens) BDH_RETURN_IF_ERROR(CheckToken(token));
  BDH_RETURN_IF_ERROR(CheckRoom(state, static_cast<int64_t>(tokens.size())));
  BdhState& own = Own(state);
  for (const int32_t token : tokens) {
    if (stop.stop_requested()) return absl::CancelledError("cancelled while reading the prompt");
    Feed(own, token);
  }
  if (!logits.empty()) Logits(own, logits);
  return absl::OkStatus();
}

absl::Status BdhModelImpl::Step(std::span<const StepInput> batch) const {
  for (const StepInput& input : batch) {
    BDH_RETURN_IF_ERROR(CheckToken(input.token));
    BDH_RETURN_IF_ERROR(CheckRoom(*input.state, 1));
  }
  for (const StepInput& input : batch) {
    BdhState& state = Own(*input.state);
    Feed(state, input.token);
    if (!input.logits.empty()) Logits(state, input.logits);
  }
  return absl::OkStatus();
}

// Leaves what the last layer made of the token in scratch.x.
void BdhModelImpl::Feed(BdhState& state, int32_t token) const {
  Scratch& s = state.scratch();
  const int64_t width = config_.n_embd;
  std::memcpy(s.x.data(), embed_.data() + token * width, width * sizeof(float));
  kernels::RopePhases(state.position(), turns_, s.cosines, s.sines);
  for (int layer = 0; layer < config_.n_layer; ++layer) FeedLayer(state, layer);
  state.Advance();
}

void BdhModelImpl::FeedLayer(BdhState& state, int layer) const {
  Scratch& s = state.scratch();
  std::fill(s.written.begin(), s.written.end(), 0.0f);
  for (int head = 0; head < config_.n_head; ++head) {
    kernels::ReluMatVec(s.x, HeadOf(encoder_, Layout::kRowPerInput, head), s.active);
    SparseVector sparse = s.Sparse();
    kernels::SparseRope(s.active, s.cosines, s.sines, sparse);
    // What is read was written strictly before this token.
    kernels::RhoReadFold(state.Rho(layer, head), sparse, s.x, s.read);
    kernels::LayerNorm(s.read, s.read);
    kernels::GatedProduct(s.active, s.read, HeadOf(encoder_v_, Layout::kRowPerOutput, head), sparse);
    kernels::AccumulateRows(sparse, HeadOf(decoder_, Layout::kRowPerOutput, head), s.written);
  }
  kernels::LayerNorm(s.written, s.written);
  kernels::AddLayerNorm(s.x, s.written, s.x);
}

void BdhModelImpl::Logits(BdhState& state, std::span<float> logits) const {
  kernels::MatVec(state.scratch().x,
                  F32Matrix(lm_head_, Layout::kRowPerInput, config_.n_embd, config_.vocab_size), logits);
}

absl::StatusOr<std::unique_ptr<DecodeState>> BdhState::Fork() const {
  auto forked = model_.NewState();
  if (!forked.ok()) return forked.status();
  auto& copy = static_cast<BdhState&>(**forked);
  std::memcpy(copy.rho_.all().data(), rho_.all().data(), rho_.all().size_bytes());
  copy.position_ = position_;
  return forked;
}

absl::Status BdhState::Truncate(int64_t position) {
  if (position == position_) return absl::OkStatus();
  if (position != 0) {
    // What a token folded into rho cannot be taken out again without rounding differently.
    return absl::FailedPreconditionError(absl::StrFormat(
        "a state at position %d cannot be cut to %d: feed the tokens again from 0", position_, position));
  }
  std::fill(rho_.all().begin(), rho_.all().end(), 0.0f);
  position_ = 0;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const BdhModel>> BdhModel::Create(const spec::ModelConfig& config,
                                                                 std::span<const NamedTensor> tensors) {
  BDH_RETURN_IF_ERROR(spec::Validate(config));
  BDH_ASSIGN_OR_RETURN(const Tensors checked, CheckTensors(config, tensors));
  return std::make_shared<const BdhModelImpl>(config, checked);
}

int64_t BdhModel::WeightBytesFor(const spec::ModelConfig& config) {
  const int64_t numbers = spec::ParameterCount(config) + config.neurons_per_head() / 2;
  return numbers * static_cast<int64_t>(sizeof(float));
}

int64_t BdhModel::StateBytesFor(const spec::ModelConfig& config) {
  return RhoSize(config) * static_cast<int64_t>(sizeof(float)) + Scratch::Bytes(config) +
         static_cast<int64_t>(sizeof(BdhState));
}

}  // namespace bdh::engine
