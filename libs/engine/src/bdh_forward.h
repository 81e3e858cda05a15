// Tokens through all layers: up to kRows rows at once, which share each pass over the weights. Rows are
// either tokens that follow each other in one state, or one token each of different states.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "bdh_state.h"
#include "bdh_weights.h"
#include "worker_pool.h"

namespace bdh::engine {

struct Row {
  BdhState* state;
  int32_t token;
  // Somebody wants what the last layer makes of it. The others only leave their keys there.
  bool is_wanted;
};

// What a call works in. Nothing of it outlives the call.
class Workspace {
 public:
  Workspace(const Geometry& geometry, int threads);
  static int64_t Bytes(const Geometry& geometry, int threads);
  bool ok() const { return memory_.data() != nullptr; }

  struct Worker {
    float* active;    // kRows activations of some neurons.
    float* keys;      // kRows keys of a segment, with their zeros.
    float* unpacked;  // The same of earlier tokens.
    float* values;    // Their x.
    float* scores;    // kRows of kRows.
  };
  // kRows rows each.
  float *x, *turns, *active_values, *read_parts, *read, *written_parts, *written, *logits;
  uint16_t* active_masks;
  Counts* counts;  // Of each row and segment.
  std::vector<Worker> workers;

 private:
  template <class Take>
  void Place(const Geometry& geometry, int threads, Take take);
  Buffer memory_;
};

class Forward {
 public:
  Forward(const Geometry& geometry, const BdhWeights& weights, const Grid& grid,
          const kernels::Kernels& kernels, kernels::PhaseMode phases, WorkerPool& pool)
      : geometry_(geometry),
        weights_(weights),
        grid_(grid),
        kernels_(kernels),
        phases_(phases),
        pool_(pool) {}

  // Feeds the rows to their states, which do not yet count them among their tokens; rows of one state lie
  // together. Leaves what the last layer made of a wanted row r at work.x + r * width. False: no memory, and
  // then the states remember nothing but their tokens.
  bool Feed(std::span<const Row> rows, Workspace& work) const;

  // Logits of the rows [first, first + count) of work.x into work.logits, one row of
  // geometry.vocabulary each.
  void Logits(int64_t first, int64_t count, Workspace& work) const;

 private:
  struct Span;
  struct Cursor;
  struct Pass;

  bool FeedLayer(Pass& pass, int layer) const;
  bool Prepare(Pass& pass, int layer) const;
  void Finish(Pass& pass, int layer) const;
  void Read(const Pass& pass, int64_t segment, Workspace::Worker& worker) const;
  void JoinReads(const Pass& pass, int64_t row) const;
  void Write(const Pass& pass, int64_t segment) const;
  void JoinWrites(const Pass& pass, int64_t row) const;
  kernels::PackedNeurons Active(const Pass& pass, int64_t row, int64_t segment) const;
  void Activate(const Pass& pass, int64_t segment, Workspace::Worker& worker) const;
  void ReadBases(const Pass& pass, int64_t segment, const Part& part) const;
  void FoldUpTo(const Span& span, Cursor& cursor, int64_t position, const Segment& segment,
                const Part& part) const;
  void ReadBase(const Pass& pass, int64_t segment, const Part& part, const float* rho, int64_t begin,
                int64_t end) const;
  void ReadTail(const Pass& pass, int64_t segment, const Span& span, int64_t base_position, int64_t begin,
                int64_t end, Workspace::Worker& worker) const;
  float* ReadPart(const Pass& pass, int64_t row, int64_t segment) const;

  const Geometry& geometry_;
  const BdhWeights& weights_;
  const Grid& grid_;
  const kernels::Kernels& kernels_;
  const kernels::PhaseMode phases_;
  WorkerPool& pool_;
};

}  // namespace bdh::engine
