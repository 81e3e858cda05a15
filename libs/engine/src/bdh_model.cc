#include "bdh/engine/bdh_model.h"

#include <algorithm>
#include <array>
#include <functional>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh_model_impl.h"
#include "bdh_snapshot.h"

namespace bdh::engine {
namespace {

// Beyond 2^24 two positions share one fp32 number, so their phases would be equal; a double holds the exact
// product of a frequency and a position up to 2^29.
constexpr int64_t kMaxTokensReference = int64_t{1} << 24;
constexpr int64_t kMaxTokensPrecise = int64_t{1} << 29;

constexpr int kMaxThreads = 1024;

// Reading the factors of t tokens moves about as many bytes as reading rho when t is n_embd; a little
// earlier, so that what a state holds is smaller than rho in any case.
int64_t DefaultDenseFrom(const spec::ModelConfig& config, int64_t grid) {
  return kernels::RoundUp(3 * int64_t{config.n_embd} / 4, grid);
}

// The layers of a state become dense one after the other, so that it never holds all in both forms.
int64_t BytesOfState(const Geometry& geometry, const Grid& grid, int64_t tokens) {
  const int64_t layers = geometry.config.n_layer, factor = geometry.factor_bytes();
  const int64_t always = tokens * static_cast<int64_t>(sizeof(int32_t) + sizeof(void*)) +
                         static_cast<int64_t>(sizeof(BdhState)) + layers * 64;
  if (tokens <= grid.dense_from) return always + layers * tokens * factor;
  int64_t most = 0;
  for (int64_t layer = 0; layer < layers; ++layer) {
    most = std::max(most, (layer + 1) * geometry.rho_bytes() + (layers - layer) * grid.dense_from * factor);
  }
  return always + most + (layers * grid.step + 2 * kRows) * factor;
}

// All that a state takes in its life: factors first, then rho.
int64_t LargestKept(const Geometry& geometry, const BdhOptions& complete) {
  const int64_t factors = (complete.dense_from + kRows) * geometry.factor_bytes();
  return std::min(complete.keep_bytes, geometry.config.n_layer * (geometry.rho_bytes() + factors));
}

absl::StatusOr<BdhOptions> Complete(const spec::ModelConfig& config, BdhOptions options) {
  if (options.grid < 1 || options.grid > kernels::kMaxTokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("grid is %d; want 1 to %d tokens", options.grid, kernels::kMaxTokens));
  }
  if (options.dense_from < 0 || options.dense_from % options.grid != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "dense_from is %d; want a multiple of grid, which is %d", options.dense_from, options.grid));
  }
  if (options.threads < 1 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrFormat("threads is %d; want 1 to %d", options.threads, kMaxThreads));
  }
  if (options.keep_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("keep_bytes is %d; want 0 or more", options.keep_bytes));
  }
  if (options.dense_from == 0) options.dense_from = DefaultDenseFrom(config, options.grid);
  if (options.kernels == nullptr) options.kernels = &kernels::Best();
  return options;
}

}  // namespace

// A workspace for the time of a call.
class BdhModelImpl::Borrowed {
 public:
  explicit Borrowed(const BdhModelImpl& model) : model_(model), work_(model.idle_.exchange(nullptr)) {
    if (work_ == nullptr) work_ = new Workspace(model.geometry_, model.options_.threads);
  }
  ~Borrowed() { delete model_.idle_.exchange(work_); }
  Workspace& operator*() const { return *work_; }
  absl::Status status() const {
    if (work_->ok()) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrFormat("no memory for a workspace of %s",
                        FormatBytes(Workspace::Bytes(model_.geometry_, model_.options_.threads))));
  }

 private:
  const BdhModelImpl& model_;
  Workspace* work_;
};

BdhModelImpl::BdhModelImpl(const Geometry& geometry, BdhWeights weights, const BdhOptions& options)
    : geometry_(geometry),
      options_(options),
      grid_{options.grid, options.dense_from},
      weights_(std::move(weights)),
      pool_(options.threads),
      forward_(geometry_, weights_, grid_, *options_.kernels, options_.phases, pool_),
      keeper_(LargestKept(geometry_, options_)) {}

BdhModelImpl::~BdhModelImpl() {
  delete idle_.load();
}

int64_t BdhModelImpl::max_tokens() const {
  return options_.phases == kernels::PhaseMode::kReference ? kMaxTokensReference : kMaxTokensPrecise;
}

int64_t BdhModelImpl::StateBytes(int64_t tokens) const {
  return BytesOfState(geometry_, grid_, tokens);
}

BdhState& BdhModelImpl::Own(DecodeState& state) const {
  auto* own = dynamic_cast<BdhState*>(&state);
  BDH_CHECK(own != nullptr && &own->model() == this) << "a state of another model";
  return *own;
}

absl::Status BdhModelImpl::CheckToken(int32_t token) const {
  if (token >= 0 && token < vocab_size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("token %d is outside the vocabulary; want 0 to %d", token, vocab_size() - 1));
}

absl::Status BdhModelImpl::CheckRoom(const DecodeState& state, int64_t count) const {
  if (count <= max_tokens() - state.position()) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrFormat("%d tokens after position %d exceed the %d a state can count",
                                               count, state.position(), max_tokens()));
}

absl::StatusOr<std::unique_ptr<DecodeState>> BdhModelImpl::NewState() const {
  return std::make_unique<BdhState>(*this, geometry_, grid_);
}

absl::StatusOr<std::unique_ptr<DecodeState>> BdhModelImpl::Restore(std::string_view snapshot) const {
  return ReadSnapshot(*this, snapshot);
}

absl::StatusOr<std::string> BdhModelImpl::SnapshotAs(const DecodeState& state, StateForm form) const {
  return WriteSnapshot(Own(const_cast<DecodeState&>(state)), form);
}

// Positions up to here can be fed together with `position`: all read rho, or none does.
int64_t BdhModelImpl::BlockEnd(int64_t position, int64_t end) const {
  end = std::min(end, position + kRows);
  return position < grid_.dense_from ? std::min(end, grid_.dense_from) : end;
}

// Feeds the tokens that the state holds but has not computed. Returns the row of the last one, of which the
// last layer's output is there if it is wanted.
absl::StatusOr<int64_t> BdhModelImpl::CatchUp(BdhState& state, bool wants_last, const std::stop_token& stop,
                                              Workspace& work) const {
  const int64_t until = state.position();
  int64_t last_row = 0;
  while (state.computed() < until) {
    if (stop.stop_requested()) return absl::CancelledError("cancelled while reading the prompt");
    const int64_t begin = state.computed(), end = BlockEnd(begin, until);
    std::array<Row, kRows> rows;
    for (int64_t i = begin; i < end; ++i) {
      rows[i - begin] = {&state, state.tokens()[i], wants_last && i == until - 1};
    }
    last_row = end - begin - 1;
    if (forward_.Feed({rows.data(), static_cast<size_t>(end - begin)}, work)) continue;
    return absl::ResourceExhaustedError(absl::StrFormat("no memory for the state of %d tokens", end));
  }
  return last_row;
}

absl::Status BdhModelImpl::Prefill(DecodeState& state, std::span<const int32_t> tokens,
                                   std::span<float> logits, const std::stop_token& stop) const {
  if (tokens.empty()) return absl::InvalidArgumentError("no tokens to feed; want at least 1");
  for (const int32_t token : tokens) BDH_RETURN_IF_ERROR(CheckToken(token));
  BDH_RETURN_IF_ERROR(CheckRoom(state, static_cast<int64_t>(tokens.size())));
  BdhState& own = Own(state);
  const Borrowed work(*this);
  BDH_RETURN_IF_ERROR(work.status());
  const int64_t before = own.position();
  for (const int32_t token : tokens) own.Append(token);
  const auto last_row = CatchUp(own, /*wants_last=*/!logits.empty(), stop, *work);
  if (!last_row.ok()) {
    own.TruncateTokens(std::max(before, own.computed()));
    return last_row.status();
  }
  if (logits.empty()) return absl::OkStatus();
  forward_.Logits(*last_row, 1, *work);
  std::copy_n((*work).logits, logits.size(), logits.begin());
  return absl::OkStatus();
}

absl::Status BdhModelImpl::CheckRow(const StepInput& input) const {
  BDH_RETURN_IF_ERROR(CheckToken(input.token));
  return CheckRoom(*input.state, 1);
}

absl::Status BdhModelImpl::Step(std::span<const StepInput> batch) const {
  for (const StepInput& input : batch) BDH_RETURN_IF_ERROR(CheckRow(input));
  const Borrowed work(*this);
  BDH_RETURN_IF_ERROR(work.status());
  for (const StepInput& input : batch) {
    BDH_RETURN_IF_ERROR(CatchUp(Own(*input.state), /*wants_last=*/false, {}, *work).status());
  }
  for (size_t begin = 0; begin < batch.size(); begin += kRows) {
    BDH_RETURN_IF_ERROR(
        StepBlock(batch.subspan(begin, std::min<size_t>(kRows, batch.size() - begin)), *work));
  }
  return absl::OkStatus();
}

absl::Status BdhModelImpl::StepBlock(std::span<const StepInput> batch, Workspace& work) const {
  // States that share a rho stand next to each other, so that it is read once for all of them.
  std::array<const StepInput*, kRows> inputs;
  for (size_t i = 0; i < batch.size(); ++i) inputs[i] = &batch[i];
  const auto base = [this](const StepInput* input) { return Own(*input->state).layer(0).base.get(); };
  std::stable_sort(inputs.begin(), inputs.begin() + batch.size(),
                   [&](const StepInput* a, const StepInput* b) {
                     return std::less<const DenseLayer*>()(base(a), base(b));
                   });
  std::array<Row, kRows> rows;
  for (size_t i = 0; i < batch.size(); ++i) {
    rows[i] = {&Own(*inputs[i]->state), inputs[i]->token, !inputs[i]->logits.empty()};
  }
  if (!forward_.Feed({rows.data(), batch.size()}, work)) {
    return absl::ResourceExhaustedError("no memory for one more token of a state");
  }
  for (size_t i = 0; i < batch.size(); ++i) rows[i].state->Append(rows[i].token);
  const auto wanted = [&](size_t i) { return !inputs[i]->logits.empty(); };
  for (size_t begin = 0; begin < batch.size();) {
    size_t end = begin;
    while (end < batch.size() && wanted(end)) ++end;
    if (end > begin) forward_.Logits(static_cast<int64_t>(begin), static_cast<int64_t>(end - begin), work);
    for (size_t i = begin; i < end; ++i) {
      const std::span<float> logits = inputs[i]->logits;
      std::copy_n(work.logits + (i - begin) * geometry_.vocabulary, logits.size(), logits.begin());
    }
    begin = end + 1;
  }
  return absl::OkStatus();
}

Density BdhModelImpl::DensityOf(const DecodeState& state) const {
  const BdhState& own = Own(const_cast<DecodeState&>(state));
  const auto neurons = static_cast<double>(own.counted_tokens() * config().n_layer * config().neurons());
  const auto gates = static_cast<double>(std::max<int64_t>(own.counts().writes, 1) * config().neurons());
  if (own.counted_tokens() == 0) return {};
  return {.tokens = own.counted_tokens(),
          .active = static_cast<double>(own.counts().active) / neurons,
          .pairs = static_cast<double>(own.counts().keys) / neurons,
          .passed = static_cast<double>(own.counts().passed) / gates};
}

absl::StatusOr<std::shared_ptr<const BdhModel>> BdhModel::Create(const spec::ModelConfig& config,
                                                                 std::span<const NamedTensor> tensors,
                                                                 const BdhOptions& options) {
  BDH_RETURN_IF_ERROR(spec::Validate(config));
  BDH_ASSIGN_OR_RETURN(const BdhOptions complete, Complete(config, options));
  BDH_ASSIGN_OR_RETURN(const Tensors checked, CheckTensors(config, tensors));
  const Geometry geometry(config);
  BDH_ASSIGN_OR_RETURN(BdhWeights weights,
                       BdhWeights::Pack(geometry, checked, complete.dtype, *complete.kernels));
  return std::make_shared<const BdhModelImpl>(geometry, std::move(weights), complete);
}

int64_t BdhModel::WeightBytesFor(const spec::ModelConfig& config, const BdhOptions& options) {
  const Geometry geometry(config);
  const auto complete = Complete(config, options);
  return BdhWeights::Bytes(geometry, options.dtype) + Workspace::Bytes(geometry, options.threads) +
         (complete.ok() ? LargestKept(geometry, *complete) : 0);
}

}  // namespace bdh::engine
