#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "bdh/engine/bdh_model.h"
#include "bdh_forward.h"
#include "bdh_state.h"
#include "bdh_weights.h"
#include "geometry.h"
#include "worker_pool.h"

namespace bdh::engine {

class BdhModelImpl final : public BdhModel {
 public:
  // `options` is complete.
  BdhModelImpl(const Geometry& geometry, BdhWeights weights, const BdhOptions& options);
  ~BdhModelImpl() override;

  const spec::ModelConfig& config() const override { return geometry_.config; }
  const BdhOptions& options() const override { return options_; }
  int32_t vocab_size() const override { return config().vocab_size; }
  int64_t parameter_count() const override { return spec::ParameterCount(config()); }
  int64_t weight_bytes() const override { return WeightBytesFor(config(), options_); }
  const std::string& fingerprint() const override { return weights_.fingerprint(); }
  int64_t max_tokens() const override;
  bool keeps_first_layer() const override { return geometry_.keeps_first_layer(); }
  int64_t StateBytes(int64_t tokens) const override;

  absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const override;
  absl::StatusOr<std::unique_ptr<DecodeState>> Restore(std::string_view snapshot) const override;
  absl::Status Prefill(DecodeState& state, std::span<const int32_t> tokens, std::span<float> logits,
                       const std::stop_token& stop) const override;
  absl::Status Step(std::span<const StepInput> batch) const override;

  RestPlan PlanRest(int64_t position) const override;
  Density DensityOf(const DecodeState& state) const override;
  absl::StatusOr<std::string> SnapshotAs(const DecodeState& state, StateForm form) const override;

  const Geometry& geometry() const { return geometry_; }
  const Grid& grid() const { return grid_; }
  BufferKeeper& keeper() const { return keeper_; }

 private:
  class Borrowed;

  BdhState& Own(DecodeState& state) const;
  absl::Status CheckToken(int32_t token) const;
  absl::Status CheckRoom(const DecodeState& state, int64_t count) const;
  absl::Status CheckRow(const StepInput& input) const;
  absl::StatusOr<int64_t> CatchUp(BdhState& state, bool wants_last, const std::stop_token& stop,
                                  Workspace& work) const;
  int64_t BlockEnd(int64_t position, int64_t end) const;
  absl::Status StepBlock(std::span<const StepInput> batch, Workspace& work) const;

  const Geometry geometry_;
  const BdhOptions options_;
  const Grid grid_;
  const BdhWeights weights_;
  mutable WorkerPool pool_;
  const Forward forward_;
  mutable BufferKeeper keeper_;
  mutable std::atomic<Workspace*> idle_{nullptr};  // Kept from the last call.
};

}  // namespace bdh::engine
