#include "bdh_forward.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace bdh::engine {
namespace {

using kernels::Factor;
using kernels::kLanes;
using kernels::PackedNeurons;

// Columns of lm_head that one piece of work takes.
constexpr int64_t kVocabularyPiece = 1024;
// Neurons whose activations are worked on at once: whole panels.
constexpr int64_t kActivated = 4 * kernels::kPanel;
// Bytes of rho that stay in the second-level cache while tokens are folded into them and read them.
constexpr int64_t kPartBytes = 256 << 10;

// Up to kMaxTokens factors as the kernels want them.
struct FactorList {
  std::array<Factor, kernels::kMaxTokens> factors;
  size_t count = 0;

  FactorList(const LayerState& layer, const Segment& segment, const Part& part,
             const kernels::Kernels& kernels, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) factors[count++] = layer.tail[i]->View(segment, part, kernels);
  }
  std::span<const Factor> span() const { return {factors.data(), count}; }
};

}  // namespace

// ---- workspace ----

template <class Take>
void Workspace::Place(const Geometry& geometry, int threads, Take take) {
  const auto segments = static_cast<int64_t>(geometry.segments.size());
  const int64_t segment = std::min(kSegmentNeurons, kernels::RoundUp(geometry.config.neurons_per_head(), 64));
  x = static_cast<float*>(take(kRows * geometry.width * 4));
  turns = static_cast<float*>(take(kRows * geometry.pairs * 8));
  active_values = static_cast<float*>(take(kRows * geometry.keys * 4));
  active_masks = static_cast<uint16_t*>(take(kRows * geometry.masks * 2));
  read_parts = static_cast<float*>(take(kRows * segments * geometry.width * 4));
  read = static_cast<float*>(take(kRows * geometry.config.n_head * geometry.width * 4));
  written_parts = static_cast<float*>(take(kRows * segments * geometry.width * 4));
  written = static_cast<float*>(take(kRows * geometry.width * 4));
  logits = static_cast<float*>(take(kRows * geometry.vocabulary * 4));
  counts = static_cast<Counts*>(take(kRows * segments * static_cast<int64_t>(sizeof(Counts))));
  workers.resize(threads);
  for (Worker& worker : workers) {
    worker.active = static_cast<float*>(take(kRows * kActivated * 4));
    worker.keys = static_cast<float*>(take(kRows * segment * 4));
    worker.unpacked = static_cast<float*>(take(kRows * segment * 4));
    worker.values = static_cast<float*>(take(kRows * geometry.width * 4));
    worker.scores = static_cast<float*>(take(kRows * kRows * 4));
  }
}

int64_t Workspace::Bytes(const Geometry& geometry, int threads) {
  const auto segments = static_cast<int64_t>(geometry.segments.size());
  const int64_t segment = std::min(kSegmentNeurons, kernels::RoundUp(geometry.config.neurons_per_head(), 64));
  const int64_t row = (2 + 2 * segments + geometry.config.n_head) * geometry.width * 4 + geometry.pairs * 8 +
                      geometry.keys * 4 + geometry.masks * 2 + geometry.vocabulary * 4 +
                      segments * static_cast<int64_t>(sizeof(Counts));
  const int64_t worker_row = (2 * segment + kActivated + geometry.width + kRows) * 4;
  return kRows * (row + threads * worker_row) + (10 + 5 * threads) * 64;
}

Workspace::Workspace(const Geometry& geometry, int threads) : memory_(Bytes(geometry, threads)) {
  if (!ok()) return;
  char* next = static_cast<char*>(memory_.data());
  Place(geometry, threads, [&next](int64_t bytes) {
    char* taken = next;
    next += kernels::RoundUp(bytes, 64);
    return static_cast<void*>(taken);
  });
}

// ---- one pass ----

// Rows that belong to one state.
struct Forward::Span {
  BdhState* state;
  int64_t first, count;   // Rows.
  int64_t position;       // Of the first row.
  LayerState* layer;      // The one worked on.
  DenseLayer* to;         // The rho that tokens are folded into; null when none are.
  Ref<DenseLayer> fresh;  // `to`, if it is a new one.
};

// How far one segment of a span's rho has come.
struct Forward::Cursor {
  const DenseLayer* base;
  int64_t position;
};

struct Forward::Pass {
  std::span<const Row> rows;
  Workspace& work;
  std::array<Span, kRows> spans;
  std::array<int16_t, kRows> span_of_row;
  int64_t span_count = 0;
  bool is_last_layer = false;
  bool knows_active = false;  // The activations of this layer need not be computed.

  // Whether anything comes of what the row reads in this layer.
  bool reads(int64_t row) const { return !is_last_layer || rows[row].is_wanted; }
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  const Span& span(int64_t row) const { return spans[span_of_row[row]]; }
  int64_t position(int64_t row) const { return span(row).position + row - span(row).first; }
};

bool Forward::Feed(std::span<const Row> rows, Workspace& work) const {
  BDH_CHECK(!rows.empty() && static_cast<int64_t>(rows.size()) <= kRows);
  Pass pass{.rows = rows, .work = work, .spans = {}, .span_of_row = {}};
  for (int64_t r = 0; r < pass.size(); ++r) {
    if (r == 0 || rows[r].state != rows[r - 1].state) {
      BdhState* state = rows[r].state;
      pass.spans[pass.span_count++] = {state, r, 0, state->computed(), nullptr, nullptr, {}};
    }
    ++pass.spans[pass.span_count - 1].count;
    pass.span_of_row[r] = static_cast<int16_t>(pass.span_count - 1);
  }
  pool_.Run(pass.size(), [&](int64_t r, int) {
    std::copy_n(weights_.embedding(rows[r].token), geometry_.width, work.x + r * geometry_.width);
    kernels_.phases(phases_, pass.position(r), weights_.frequencies(), geometry_.pairs,
                    work.turns + r * 2 * geometry_.pairs);
  });
  for (int layer = 0; layer < geometry_.config.n_layer; ++layer) {
    if (FeedLayer(pass, layer)) continue;
    for (int64_t i = 0; i < pass.span_count; ++i) pass.spans[i].state->Forget();
    return false;
  }
  for (int64_t i = 0; i < pass.span_count; ++i) {
    const Span& span = pass.spans[i];
    const int64_t base = grid_.BaseAt(span.position + span.count - 1);
    span.state->set_base_position(std::max(base, span.state->base_position()));
  }
  return true;
}

bool Forward::FeedLayer(Pass& pass, int layer) const {
  if (!Prepare(pass, layer)) return false;
  pass.is_last_layer = layer == geometry_.config.n_layer - 1;
  pass.knows_active = layer == 0 && weights_.knows_first_layer();
  const auto segments = static_cast<int64_t>(geometry_.segments.size());
  // Every other layer backwards: it begins with the encoder's part that the caches still hold.
  pool_.Run(segments, [&](int64_t piece, int worker) {
    Read(pass, layer % 2 == 0 ? piece : segments - 1 - piece, pass.work.workers[worker]);
  });
  pool_.Run(pass.size(), [&](int64_t row, int) { JoinReads(pass, row); });
  pool_.Run(segments, [&](int64_t segment, int) { Write(pass, segment); });
  pool_.Run(pass.size(), [&](int64_t row, int) { JoinWrites(pass, row); });
  Finish(pass, layer);
  return true;
}

// Everything that takes memory.
bool Forward::Prepare(Pass& pass, int layer) const {
  for (int64_t i = 0; i < pass.span_count; ++i) {
    Span& span = pass.spans[i];
    LayerState& state = span.state->layer(layer);
    span.layer = &state;
    for (int64_t r = 0; r < span.count; ++r) {
      state.tail.push_back(span.state->TakeBlock());
      if (!state.tail.back()) return false;
      std::copy_n(pass.work.x + (span.first + r) * geometry_.width, geometry_.width, state.tail.back()->x());
    }
    span.to = nullptr;
    if (grid_.BaseAt(span.position + span.count - 1) <= span.state->base_position()) continue;
    if (state.base && state.base.is_mine_alone()) {
      span.to = state.base.get();
      continue;
    }
    Ref<DenseLayer> fresh = span.state->NewLayer();
    if (!fresh) return false;
    span.to = fresh.get();
    span.fresh = std::move(fresh);
  }
  return true;
}

void Forward::Finish(Pass& pass, int layer) const {
  const auto segments = static_cast<int64_t>(geometry_.segments.size());
  for (int64_t i = 0; i < pass.span_count; ++i) {
    Span& span = pass.spans[i];
    Counts total;
    for (int64_t r = span.first; r < span.first + span.count; ++r) {
      total.writes += pass.reads(r) ? 1 : 0;
      for (int64_t c = r * segments; c < (r + 1) * segments; ++c) {
        total.active += pass.work.counts[c].active;
        total.keys += pass.work.counts[c].keys;
        total.passed += pass.work.counts[c].passed;
      }
    }
    span.state->Count(total, layer == 0 ? span.count : 0);
    if (span.to == nullptr) continue;
    if (span.fresh) span.layer->base = std::move(span.fresh);
    const int64_t base = grid_.BaseAt(span.position + span.count - 1);
    span.state->DropTail(*span.layer, base - span.state->base_position());
  }
}

// ---- what a segment reads ----

float* Forward::ReadPart(const Pass& pass, int64_t row, int64_t segment) const {
  return pass.work.read_parts + (segment * kRows + row) * geometry_.width;
}

// Rho first, part by part, so that a part is near while all rows fold into it and read it; then the tails.
void Forward::Read(const Pass& pass, int64_t index, Workspace::Worker& worker) const {
  const Segment& segment = geometry_.segments[index];
  Activate(pass, index, worker);
  for (int64_t row = 0; row < pass.size(); ++row) {
    if (pass.reads(row)) std::fill_n(ReadPart(pass, row, index), geometry_.width, 0.0f);
  }
  const int64_t row_bytes = geometry_.width * kLanes * 4;
  const int64_t part =
      pass.size() == 1 ? segment.blocks : kernels::RoundUp(std::max<int64_t>(kPartBytes / row_bytes, 1), 4);
  for (int64_t first = 0; first < segment.blocks; first += part) {
    ReadBases(pass, index, {first, std::min(part, segment.blocks - first)});
  }
  for (int64_t row = 0; row < pass.size();) {
    if (!pass.reads(row)) {
      ++row;
      continue;
    }
    const Span& span = pass.span(row);
    const int64_t base = grid_.BaseAt(pass.position(row));
    const auto belongs = [&](int64_t next) {
      return next < span.first + span.count && pass.reads(next) && grid_.BaseAt(pass.position(next)) == base;
    };
    int64_t end = row + 1;
    while (belongs(end)) ++end;
    ReadTail(pass, index, span, std::max(base, span.state->base_position()), row, end, worker);
    row = end;
  }
}

// Rows that read the same rho do so together; rho advances between them.
void Forward::ReadBases(const Pass& pass, int64_t index, const Part& part) const {
  const Segment& segment = geometry_.segments[index];
  std::array<Cursor, kRows> cursors;
  for (int64_t i = 0; i < pass.span_count; ++i) {
    cursors[i] = {pass.spans[i].layer->base.get(), pass.spans[i].state->base_position()};
  }
  const auto cursor = [&](int64_t row) -> Cursor& { return cursors[pass.span_of_row[row]]; };
  const auto fold_due = [&](int64_t row) { return grid_.BaseAt(pass.position(row)) > cursor(row).position; };
  for (int64_t begin = 0; begin < pass.size();) {
    if (fold_due(begin)) {
      FoldUpTo(pass.span(begin), cursor(begin), grid_.BaseAt(pass.position(begin)), segment, part);
    }
    if (!pass.reads(begin)) {
      ++begin;
      continue;
    }
    const DenseLayer* base = cursor(begin).base;
    const auto belongs = [&](int64_t row) {
      return row < pass.size() && pass.reads(row) && !fold_due(row) && cursor(row).base == base;
    };
    int64_t end = begin + 1;
    while (belongs(end)) ++end;
    if (base != nullptr) {
      ReadBase(pass, index, part, base->rows(segment, part, geometry_.width), begin, end);
    }
    begin = end;
  }
}

// The packed activations of a row.
PackedNeurons Forward::Active(const Pass& pass, int64_t row, int64_t index) const {
  if (pass.knows_active) return weights_.first_layer(pass.rows[row].token, index);
  const Segment& segment = geometry_.segments[index];
  return {pass.work.active_masks + row * geometry_.masks + segment.masks,
          pass.work.active_values + row * geometry_.keys + segment.keys};
}

// a = relu(x E) and its key, of all rows; a few panels at a time, so that a is near until its key is made.
void Forward::Activate(const Pass& pass, int64_t index, Workspace::Worker& worker) const {
  const Segment& segment = geometry_.segments[index];
  const Workspace& work = pass.work;
  const int64_t size = segment.blocks * kLanes;
  struct Packing {
    PackedNeurons known;
    float *active, *keys;
    const FactorBlock* block;
  };
  std::array<Packing, kRows> packings;
  for (int64_t row = 0; row < pass.size(); ++row) {
    const Span& span = pass.span(row);
    const FactorBlock* block = span.layer->tail[pass.position(row) - span.state->base_position()].get();
    packings[row] = {Active(pass, row, index), work.active_values + row * geometry_.keys + segment.keys,
                     block->values(segment), block};
    work.counts[row * static_cast<int64_t>(geometry_.segments.size()) + index] = {};
  }
  for (int64_t neuron = 0; neuron < size; neuron += kActivated) {
    const int64_t columns = std::min(kActivated, segment.padded() - neuron);
    const int64_t blocks = std::min(kActivated, size - neuron) / kLanes, block = neuron / kLanes;
    if (!pass.knows_active) {
      kernels_.product(work.x, pass.size(), geometry_.width, weights_.encoder(index).Columns(neuron, columns),
                       /*relu=*/true, worker.active, kActivated);
    }
    for (int64_t row = 0; row < pass.size(); ++row) {
      float* active = worker.active + row * kActivated;
      Packing& to = packings[row];
      Counts& counts = work.counts[row * static_cast<int64_t>(geometry_.segments.size()) + index];
      const int64_t found =
          pass.knows_active
              ? kernels_.unpack({to.known.masks + block, to.known.values}, blocks, active)
              : kernels_.pack(active, blocks,
                              work.active_masks + row * geometry_.masks + segment.masks + block, to.active);
      const int64_t keys =
          kernels_.rope(active, work.turns + row * 2 * geometry_.pairs + segment.begin + neuron, blocks,
                        worker.keys + row * size + neuron, to.block->masks(segment) + block, to.keys);
      counts.active += found;
      counts.keys += keys;
      to.known.values += found;
      to.active += found;
      to.keys += keys;
    }
  }
}

// Brings a part of rho to `position`.
void Forward::FoldUpTo(const Span& span, Cursor& cursor, int64_t position, const Segment& segment,
                       const Part& part) const {
  const int64_t first = span.state->base_position();
  float* to = span.to->rows(segment, part, geometry_.width);
  while (cursor.position < position) {
    const int64_t end = std::min<int64_t>(position, cursor.position + kernels::kMaxTokens);
    const FactorList factors(*span.layer, segment, part, kernels_, cursor.position - first, end - first);
    const float* from = cursor.base == nullptr ? nullptr : cursor.base->rows(segment, part, geometry_.width);
    kernels_.fold(from, to, geometry_.width, factors.span(), part.blocks);
    cursor = {span.to, end};
  }
}

void Forward::ReadBase(const Pass& pass, int64_t index, const Part& part, const float* rho, int64_t begin,
                       int64_t end) const {
  const Segment& segment = geometry_.segments[index];
  const auto factor = [&](int64_t row) {
    const Span& span = pass.span(row);
    return span.layer->tail[pass.position(row) - span.state->base_position()]->View(segment, part, kernels_);
  };
  if (end - begin == 1) {
    kernels_.rho_read(rho, geometry_.width, factor(begin).key, part.blocks, ReadPart(pass, begin, index));
    return;
  }
  std::array<Factor, kRows> keys;
  for (int64_t row = begin; row < end; ++row) keys[row - begin] = factor(row);
  kernels_.rho_read_shared(rho, geometry_.width, {keys.data(), static_cast<size_t>(end - begin)}, part.blocks,
                           ReadPart(pass, begin, index), geometry_.width);
}

// Rows [begin, end) of one span read the tokens between `base_position` and themselves.
void Forward::ReadTail(const Pass& pass, int64_t index, const Span& span, int64_t base_position,
                       int64_t begin, int64_t end, Workspace::Worker& worker) const {
  const Segment& segment = geometry_.segments[index];
  const int64_t size = segment.blocks * kLanes, width = geometry_.width;
  const int64_t first = base_position - span.state->base_position();
  const int64_t before = pass.position(begin) - span.state->base_position();
  const float* keys = worker.keys + begin * size;
  for (int64_t at = first; at < before; at += kRows) {
    const FactorList factors(*span.layer, segment, {0, segment.blocks}, kernels_, at,
                             std::min(before, at + kRows));
    if (end - begin == 1) {
      kernels_.tail_read(keys, factors.span(), segment.blocks, width, ReadPart(pass, begin, index));
      continue;
    }
    const auto count = static_cast<int64_t>(factors.count);
    for (int64_t i = 0; i < count; ++i) {
      kernels_.unpack(factors.factors[i].key, segment.blocks, worker.unpacked + i * size);
      std::copy_n(factors.factors[i].x, width, worker.values + i * width);
    }
    kernels_.scores(keys, end - begin, worker.unpacked, count, segment.blocks, worker.scores, kRows);
    for (int64_t row = begin; row < end; ++row) {
      kernels_.weighted_rows(worker.scores + (row - begin) * kRows, count, worker.values, width, width,
                             ReadPart(pass, row, index));
    }
  }
  // Among themselves: every row those before it.
  constexpr int64_t kSide = 4;
  const float* x = pass.work.x + begin * width;
  for (int64_t row = begin; row < end && end - begin > 1; row += kSide) {
    const int64_t rows = std::min(kSide, end - row);
    kernels_.scores(worker.keys + row * size, rows, keys, row - begin + rows, segment.blocks, worker.scores,
                    kRows);
    for (int64_t i = 0; i < rows; ++i) {
      kernels_.weighted_rows(worker.scores + i * kRows, row - begin + i, x, width, width,
                             ReadPart(pass, row + i, index));
    }
  }
}

// ---- the rest of a layer ----

void Forward::JoinReads(const Pass& pass, int64_t row) const {
  if (!pass.reads(row)) return;
  const int64_t width = geometry_.width;
  for (int head = 0; head < geometry_.config.n_head; ++head) {
    float* read = pass.work.read + (row * geometry_.config.n_head + head) * width;
    const int64_t first = geometry_.first_of_head[head];
    kernels_.sum_parts(ReadPart(pass, row, first), geometry_.first_of_head[head + 1] - first, kRows * width,
                       width, read);
    kernels_.layer_norm(read, geometry_.config.n_embd, read);
  }
}

void Forward::Write(const Pass& pass, int64_t index) const {
  const Segment& segment = geometry_.segments[index];
  const Workspace& work = pass.work;
  const auto segments = static_cast<int64_t>(geometry_.segments.size());
  const int64_t width = geometry_.width;
  std::array<kernels::GateRow, kRows> rows;
  std::array<int64_t, kRows> row_of;
  size_t count = 0;
  for (int64_t row = 0; row < pass.size(); ++row) {
    if (!pass.reads(row)) continue;
    row_of[count] = row;
    rows[count++] = {.a = Active(pass, row, index),
                     .y = work.read + (row * geometry_.config.n_head + segment.head) * width,
                     .written = work.written_parts + (index * kRows + row) * width};
  }
  for (size_t i = 0; i < count; ++i) std::fill_n(rows[i].written, width, 0.0f);
  const auto& gate = weights_.gate(index);
  const auto& decoder = weights_.decoder(index);
  if (count == 1) {
    rows[0].passed =
        kernels_.gate_decode(rows[0].a, segment.blocks, rows[0].y, gate, decoder, rows[0].written);
  } else if (count > 1) {
    kernels_.gate_decode_shared({rows.data(), count}, segment.blocks, gate, decoder);
  }
  for (size_t i = 0; i < count; ++i) work.counts[row_of[i] * segments + index].passed = rows[i].passed;
}

void Forward::JoinWrites(const Pass& pass, int64_t row) const {
  if (!pass.reads(row)) return;
  const auto segments = static_cast<int64_t>(geometry_.segments.size());
  const int64_t width = geometry_.width;
  float* written = pass.work.written + row * width;
  kernels_.sum_parts(pass.work.written_parts + row * width, segments, kRows * width, width, written);
  kernels_.add_norm(pass.work.x + row * width, written, geometry_.config.n_embd);
}

void Forward::Logits(int64_t first, int64_t count, Workspace& work) const {
  const int64_t pieces = (geometry_.vocabulary + kVocabularyPiece - 1) / kVocabularyPiece;
  pool_.Run(pieces, [&](int64_t piece, int) {
    const int64_t column = piece * kVocabularyPiece;
    const int64_t columns = std::min(kVocabularyPiece, geometry_.vocabulary - column);
    kernels_.product(work.x + first * geometry_.width, count, geometry_.width,
                     weights_.lm_head().Columns(column, columns), /*relu=*/false, work.logits + column,
                     geometry_.vocabulary);
  });
}

}  // namespace bdh::engine
