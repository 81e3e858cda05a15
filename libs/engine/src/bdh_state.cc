#include "bdh_state.h"

#include "absl/strings/str_format.h"
#include "bdh_model_impl.h"
#include "bdh_snapshot.h"

namespace bdh::engine {

BdhState::BdhState(const BdhModelImpl& model, const Geometry& geometry, const Grid& grid)
    : model_(model), geometry_(geometry), grid_(grid), layers_(geometry.config.n_layer) {}

int64_t BdhState::memory_bytes() const {
  int64_t bytes = static_cast<int64_t>(tokens_.size() * sizeof(int32_t) + sizeof(BdhState));
  int64_t blocks = static_cast<int64_t>(spare_.size());
  for (const LayerState& layer : layers_) {
    if (layer.base) bytes += layer.base->memory.bytes();
    blocks += static_cast<int64_t>(layer.tail.size());
  }
  return bytes + blocks * geometry_.factor_bytes();
}

absl::StatusOr<std::unique_ptr<DecodeState>> BdhState::Fork() const {
  auto fork = std::make_unique<BdhState>(model_, geometry_, grid_);
  fork->tokens_ = tokens_;
  fork->base_position_ = base_position_;
  fork->layers_ = layers_;
  fork->counts_ = counts_;
  fork->counted_tokens_ = counted_tokens_;
  return fork;
}

absl::Status BdhState::Truncate(int64_t position) {
  if (position < 0 || position > this->position()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a state of %d tokens cannot be cut to %d", this->position(), position));
  }
  tokens_.resize(position);
  if (position >= computed()) return absl::OkStatus();
  if (position < base_position_ || position == 0) {
    Forget();
    return absl::OkStatus();
  }
  for (LayerState& layer : layers_) {
    while (base_position_ + static_cast<int64_t>(layer.tail.size()) > position) {
      Recycle(std::move(layer.tail.back()));
      layer.tail.pop_back();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> BdhState::Snapshot() const {
  StateForm form = model_.PlanRest(position()).best;
  if (computed() < position()) form = StateForm::kTokens;
  return WriteSnapshot(*this, form);
}

void BdhState::Rest() {
  spare_.clear();
  spare_.shrink_to_fit();
  if (model_.PlanRest(position()).best == StateForm::kTokens) Forget();
}

StateForm BdhState::form() const {
  if (computed() == 0 && position() > 0) return StateForm::kTokens;
  return base_position_ == 0 ? StateForm::kFactors : StateForm::kDense;
}

void BdhState::Count(const Counts& counts, int64_t tokens) {
  counts_.active += counts.active;
  counts_.keys += counts.keys;
  counts_.passed += counts.passed;
  counts_.writes += counts.writes;
  counted_tokens_ += tokens;
}

Ref<FactorBlock> BdhState::TakeBlock() {
  if (spare_.empty()) {
    Ref<FactorBlock> fresh(new FactorBlock(geometry_, model_.keeper()));
    return fresh->has_memory() ? fresh : Ref<FactorBlock>();
  }
  Ref<FactorBlock> block = std::move(spare_.back());
  spare_.pop_back();
  return block;
}

Ref<DenseLayer> BdhState::NewLayer() const {
  Ref<DenseLayer> fresh(new DenseLayer(geometry_.rho_bytes(), model_.keeper()));
  return fresh->memory.data() == nullptr ? Ref<DenseLayer>() : fresh;
}

void BdhState::Recycle(Ref<FactorBlock> block) {
  // As many as the layers of a grid's step need, so that decoding takes no new ones.
  const auto most = static_cast<size_t>(geometry_.config.n_layer * grid_.step + kRows);
  if (spare_.size() < most && block.is_mine_alone()) spare_.push_back(std::move(block));
}

void BdhState::DropTail(LayerState& layer, int64_t count) {
  for (int64_t i = 0; i < count; ++i) Recycle(std::move(layer.tail[i]));
  layer.tail.erase(layer.tail.begin(), layer.tail.begin() + count);
}

void BdhState::Forget() {
  base_position_ = 0;
  for (LayerState& layer : layers_) {
    layer.base = Ref<DenseLayer>();
    layer.tail.clear();
  }
  spare_.clear();
}

}  // namespace bdh::engine
