// What one sequence left behind, in three forms: its tokens, which are the truth; the factors of its last
// ones; and rho, which several states may share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bdh/engine/bdh_model.h"
#include "buffer.h"
#include "geometry.h"
#include "ref.h"

namespace bdh::engine {

class BdhModelImpl;

// Where rho may stand.
struct Grid {
  int64_t step;
  int64_t dense_from;  // A multiple of step.

  // How many tokens rho holds when position `t` reads it; 0: t reads no rho.
  int64_t BaseAt(int64_t t) const { return t < dense_from ? 0 : t / step * step; }
};

// What one token wrote in one layer. Written once, then shared.
class FactorBlock : public Counted {
 public:
  FactorBlock(const Geometry& geometry, BufferKeeper& keeper)
      : keeper_(keeper),
        buffer_(keeper.Take(geometry.factor_bytes())),
        keys_(geometry.keys),
        width_(geometry.width) {}
  ~FactorBlock() { keeper_.Give(std::move(buffer_)); }

  bool has_memory() const { return buffer_.data() != nullptr; }
  float* values(const Segment& segment) const { return buffer_.floats() + segment.keys; }
  uint16_t* masks(const Segment& segment) const {
    return reinterpret_cast<uint16_t*>(buffer_.floats() + keys_ + width_) + segment.masks;
  }
  float* x() const { return buffer_.floats() + keys_; }
  kernels::Factor View(const Segment& segment) const { return {{masks(segment), values(segment)}, x()}; }
  kernels::Factor View(const Segment& segment, const Part& part, const kernels::Kernels& kernels) const {
    const uint16_t* const first = masks(segment);
    return {{first + part.first, values(segment) + kernels.count(first, part.first)}, x()};
  }

 private:
  BufferKeeper& keeper_;
  Buffer buffer_;
  const int64_t keys_, width_;
};

// rho of one layer: one row a neuron, segment after segment. Changed only while one state holds it.
struct DenseLayer : Counted {
  DenseLayer(int64_t bytes, BufferKeeper& buffers) : keeper(buffers), memory(buffers.Take(bytes)) {}
  ~DenseLayer() { keeper.Give(std::move(memory)); }
  float* rows(const Segment& segment, const Part& part, int64_t width) const {
    return memory.floats() + (segment.row + part.first * kernels::kLanes) * width;
  }
  BufferKeeper& keeper;
  Buffer memory;  // Holds anything at first.
};

struct LayerState {
  Ref<DenseLayer> base;  // Of the first base_position tokens; null when that is 0.
  std::vector<Ref<FactorBlock>> tail;
};

struct Counts {
  int64_t active = 0, keys = 0, passed = 0;
  int64_t writes = 0;  // Tokens and layers that gates were computed for.
};

class BdhState final : public DecodeState {
 public:
  BdhState(const BdhModelImpl& model, const Geometry& geometry, const Grid& grid);

  int64_t position() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t memory_bytes() const override;
  absl::StatusOr<std::unique_ptr<DecodeState>> Fork() const override;
  absl::Status Truncate(int64_t position) override;
  absl::StatusOr<std::string> Snapshot() const override;
  void Rest() override;

  const BdhModelImpl& model() const { return model_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Tokens whose factors are here or in rho; the others are fed again before anything else.
  int64_t computed() const { return base_position_ + static_cast<int64_t>(layers_[0].tail.size()); }
  int64_t base_position() const { return base_position_; }
  LayerState& layer(int64_t index) { return layers_[index]; }
  const LayerState& layer(int64_t index) const { return layers_[index]; }
  StateForm form() const;
  const Counts& counts() const { return counts_; }
  int64_t counted_tokens() const { return counted_tokens_; }
  void Count(const Counts& counts, int64_t tokens);

  void Append(int32_t token) { tokens_.push_back(token); }
  // Cuts tokens that are not computed.
  void TruncateTokens(int64_t count) { tokens_.resize(count); }
  // A block to fill: one that nobody needs any more, or a new one. Null: no memory.
  Ref<FactorBlock> TakeBlock();
  // Room for a rho. Null: no memory.
  Ref<DenseLayer> NewLayer() const;
  // Drops the first `count` tokens of a layer's tail, which rho holds now.
  void DropTail(LayerState& layer, int64_t count);
  void set_base_position(int64_t position) { base_position_ = position; }
  // Keeps the tokens only.
  void Forget();

 private:
  friend class SnapshotReader;
  void Recycle(Ref<FactorBlock> block);

  const BdhModelImpl& model_;
  const Geometry& geometry_;
  const Grid& grid_;
  std::vector<int32_t> tokens_;
  int64_t base_position_ = 0;
  std::vector<LayerState> layers_;
  std::vector<Ref<FactorBlock>> spare_;
  Counts counts_;
  int64_t counted_tokens_ = 0;
};

}  // namespace bdh::engine
