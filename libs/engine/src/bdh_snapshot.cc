#include "bdh_snapshot.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh_model_impl.h"

namespace bdh::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "snapshots are little-endian");

constexpr std::string_view kMagic = "bdh-state 1\n";
constexpr size_t kChecksumSize = 64;

using Fields = std::vector<std::pair<std::string_view, std::string>>;

// What a snapshot has in common with every other one of its model.
Fields ModelFields(const BdhModelImpl& model) {
  const BdhOptions& options = model.options();
  return {{"fingerprint", model.fingerprint()},
          {"dtype", options.dtype == kernels::DType::kF32 ? "f32" : "bf16"},
          {"phases", options.phases == kernels::PhaseMode::kReference ? "reference" : "precise"},
          {"numerics", std::string(kernels::NumericsId(*options.kernels))},
          {"grid", std::to_string(options.grid)},
          {"dense_from", std::to_string(options.dense_from)}};
}

class Writer {
 public:
  template <class T>
  void Put(const T* values, int64_t count) {
    bytes_.append(reinterpret_cast<const char*>(values), count * sizeof(T));
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

int64_t Popcount(const uint16_t* masks, int64_t blocks) {
  int64_t count = 0;
  for (int64_t b = 0; b < blocks; ++b) count += std::popcount(masks[b]);
  return count;
}

void PutRho(const DenseLayer& base, const Geometry& geometry, Writer& out) {
  const int64_t width = geometry.width;
  std::string bitmap((geometry.rows + 7) / 8, '\0');
  const auto is_zero = [&](int64_t row) {
    const float* numbers = base.memory.floats() + row * width;
    return std::all_of(numbers, numbers + width, [](float v) { return std::bit_cast<uint32_t>(v) == 0; });
  };
  for (int64_t row = 0; row < geometry.rows; ++row) {
    if (!is_zero(row)) bitmap[row / 8] = static_cast<char>(bitmap[row / 8] | (1 << (row % 8)));
  }
  out.Put(bitmap.data(), static_cast<int64_t>(bitmap.size()));
  for (int64_t row = 0; row < geometry.rows; ++row) {
    if ((bitmap[row / 8] >> (row % 8) & 1) != 0) {
      out.Put(base.memory.floats() + row * width, geometry.config.n_embd);
    }
  }
}

void PutFactor(const FactorBlock& block, const Geometry& geometry, Writer& out) {
  out.Put(block.x(), geometry.config.n_embd);
  for (const Segment& segment : geometry.segments) {
    out.Put(block.masks(segment), segment.blocks);
    out.Put(block.values(segment), Popcount(block.masks(segment), segment.blocks));
  }
}

std::string Payload(const BdhState& state, const Geometry& geometry, StateForm form) {
  Writer out;
  out.Put(state.tokens().data(), state.position());
  if (form == StateForm::kTokens) return std::move(out.bytes());
  for (int64_t i = 0; i < geometry.config.n_layer; ++i) {
    const LayerState& layer = state.layer(i);
    if (layer.base) PutRho(*layer.base.get(), geometry, out);
    for (const auto& block : layer.tail) PutFactor(*block.get(), geometry, out);
  }
  return std::move(out.bytes());
}

absl::Status CutShort() {
  return absl::DataLossError("snapshot is damaged: its payload is cut short");
}

}  // namespace

// Takes a snapshot apart, piece by piece; every piece is checked before it is used.
class SnapshotReader {
 public:
  SnapshotReader(const BdhModelImpl& model, std::string_view bytes) : model_(model), left_(bytes) {}

  absl::StatusOr<std::unique_ptr<DecodeState>> Read() {
    BDH_RETURN_IF_ERROR(CheckWhole());
    BDH_RETURN_IF_ERROR(ReadHeader());
    auto state = std::make_unique<BdhState>(model_, model_.geometry(), model_.grid());
    BDH_RETURN_IF_ERROR(ReadTokens(*state));
    if (form_ != Name(StateForm::kTokens)) {
      state->base_position_ = base_position_;
      for (LayerState& layer : state->layers_) BDH_RETURN_IF_ERROR(ReadLayer(*state, layer));
    }
    if (!left_.empty()) return absl::DataLossError("snapshot is damaged: its payload is too long");
    return state;
  }

 private:
  absl::Status CheckWhole() {
    if (!left_.starts_with(kMagic)) {
      return absl::InvalidArgumentError("these bytes are no snapshot: they do not begin with bdh-state 1");
    }
    if (left_.size() < kMagic.size() + kChecksumSize) return CutShort();
    const std::string_view checksum = left_.substr(left_.size() - kChecksumSize);
    left_.remove_suffix(kChecksumSize);
    if (Sha256Hex(left_) != checksum) {
      return absl::DataLossError("snapshot is damaged: its checksum is not that of its bytes");
    }
    left_.remove_prefix(kMagic.size());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string_view> Field(std::string_view name) {
    const size_t end = left_.find('\n');
    const std::string_view line = left_.substr(0, end);
    if (end == std::string_view::npos || !line.starts_with(name) || line.substr(name.size(), 1) != "=") {
      return absl::DataLossError(absl::StrFormat("snapshot is damaged: field %s is missing", name));
    }
    left_.remove_prefix(end + 1);
    return line.substr(name.size() + 1);
  }

  absl::StatusOr<int64_t> Number(std::string_view name, int64_t most) {
    BDH_ASSIGN_OR_RETURN(const std::string_view text, Field(name));
    int64_t value = 0;
    if (absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &value) && value >= 0 &&
        value <= most) {
      return value;
    }
    return absl::DataLossError(
        absl::StrFormat("snapshot field %s is %s; want a number from 0 to %d", name, text, most));
  }

  absl::Status ReadHeader() {
    for (const auto& [name, wanted] : ModelFields(model_)) {
      BDH_ASSIGN_OR_RETURN(const std::string_view found, Field(name));
      if (found == wanted) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("snapshot field %s is %s; this model has %s", name, found, wanted));
    }
    BDH_ASSIGN_OR_RETURN(position_, Number("position", model_.max_tokens()));
    BDH_ASSIGN_OR_RETURN(form_, Field("form"));
    BDH_ASSIGN_OR_RETURN(base_position_, Number("base_position", position_));
    BDH_ASSIGN_OR_RETURN(const int64_t payload, Number("payload_bytes", INT64_MAX));
    if (!left_.starts_with("\n") || static_cast<int64_t>(left_.size()) != payload + 1) return CutShort();
    left_.remove_prefix(1);
    return CheckForm();
  }

  absl::Status CheckForm() const {
    const Grid& grid = model_.grid();
    const bool has_base = base_position_ > 0;
    const bool fits = has_base ? base_position_ % grid.step == 0 && base_position_ >= grid.dense_from &&
                                     position_ - base_position_ <= grid.step
                               : position_ <= grid.dense_from || form_ == Name(StateForm::kTokens);
    if (!fits) {
      return absl::DataLossError(absl::StrFormat(
          "snapshot field base_position is %d, where a state of %d tokens has none of its rho lines",
          base_position_, position_));
    }
    if (form_ == Name(StateForm::kTokens) && !has_base) return absl::OkStatus();
    if (form_ == Name(has_base ? StateForm::kDense : StateForm::kFactors)) return absl::OkStatus();
    return absl::DataLossError(absl::StrFormat(
        "snapshot field form is %s; want tokens, factors or dense, as base_position says", form_));
  }

  template <class T>
  absl::Status Take(T* to, int64_t count) {
    const size_t size = count * sizeof(T);
    if (left_.size() < size) return CutShort();
    if (size == 0) return absl::OkStatus();  // Then `to` may be null, which memcpy does not allow.
    std::memcpy(to, left_.data(), size);
    left_.remove_prefix(size);
    return absl::OkStatus();
  }

  absl::Status TakeFloats(float* to, int64_t count) {
    BDH_RETURN_IF_ERROR(Take(to, count));
    if (std::all_of(to, to + count, [](float v) { return std::isfinite(v); })) return absl::OkStatus();
    return absl::DataLossError("snapshot is damaged: it holds a number that is not finite");
  }

  absl::Status ReadTokens(BdhState& state) {
    if (static_cast<int64_t>(left_.size()) < position_ * static_cast<int64_t>(sizeof(int32_t))) {
      return CutShort();
    }
    state.tokens_.resize(position_);
    BDH_RETURN_IF_ERROR(Take(state.tokens_.data(), position_));
    for (const int32_t token : state.tokens_) {
      if (token >= 0 && token < model_.vocab_size()) continue;
      return absl::DataLossError(
          absl::StrFormat("snapshot is damaged: its token %d is outside the vocabulary", token));
    }
    return absl::OkStatus();
  }

  absl::Status ReadLayer(BdhState& state, LayerState& layer) {
    if (base_position_ > 0) BDH_RETURN_IF_ERROR(ReadRho(state, layer));
    for (int64_t i = base_position_; i < position_; ++i) {
      layer.tail.push_back(state.TakeBlock());
      if (!layer.tail.back()) return absl::ResourceExhaustedError("no memory for the state of a snapshot");
      BDH_RETURN_IF_ERROR(ReadFactor(*layer.tail.back().get()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadRho(const BdhState& state, LayerState& layer) {
    const Geometry& geometry = model_.geometry();
    layer.base = state.NewLayer();
    if (!layer.base) return absl::ResourceExhaustedError("no memory for the state of a snapshot");
    float* rows = layer.base->memory.floats();
    std::string bitmap((geometry.rows + 7) / 8, '\0');
    BDH_RETURN_IF_ERROR(Take(bitmap.data(), static_cast<int64_t>(bitmap.size())));
    for (int64_t row = 0; row < geometry.rows; ++row) {
      std::fill_n(rows + row * geometry.width, geometry.width, 0.0f);
      if ((bitmap[row / 8] >> (row % 8) & 1) == 0) continue;
      BDH_RETURN_IF_ERROR(TakeFloats(rows + row * geometry.width, geometry.config.n_embd));
    }
    return absl::OkStatus();
  }

  absl::Status ReadFactor(FactorBlock& block) {
    const Geometry& geometry = model_.geometry();
    std::fill_n(block.x(), geometry.width, 0.0f);
    BDH_RETURN_IF_ERROR(TakeFloats(block.x(), geometry.config.n_embd));
    for (const Segment& segment : geometry.segments) {
      uint16_t* masks = block.masks(segment);
      BDH_RETURN_IF_ERROR(Take(masks, segment.blocks));
      for (int64_t b = 0; b < segment.blocks; ++b) {
        if ((masks[b] & 0x5555) * 3 == masks[b]) continue;
        return absl::DataLossError("snapshot is damaged: a key has one neuron of a pair without the other");
      }
      BDH_RETURN_IF_ERROR(TakeFloats(block.values(segment), Popcount(masks, segment.blocks)));
    }
    return absl::OkStatus();
  }

  const BdhModelImpl& model_;
  std::string_view left_;
  int64_t position_ = 0, base_position_ = 0;
  std::string_view form_;
};

std::string_view Name(StateForm form) {
  switch (form) {
    case StateForm::kTokens:
      return "tokens";
    case StateForm::kFactors:
      return "factors";
    case StateForm::kDense:
      return "dense";
  }
  return "";
}

absl::StatusOr<std::string> WriteSnapshot(const BdhState& state, StateForm form) {
  if (form != StateForm::kTokens && (form != state.form() || state.computed() != state.position())) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the state is kept as %s now; it cannot be saved as %s", Name(state.form()), Name(form)));
  }
  const BdhModelImpl& model = state.model();
  const std::string payload = Payload(state, model.geometry(), form);
  std::string bytes(kMagic);
  for (const auto& [name, value] : ModelFields(model)) absl::StrAppendFormat(&bytes, "%s=%s\n", name, value);
  absl::StrAppendFormat(&bytes, "position=%d\nform=%s\nbase_position=%d\npayload_bytes=%d\n\n",
                        state.position(), Name(form), form == StateForm::kTokens ? 0 : state.base_position(),
                        payload.size());
  bytes += payload;
  bytes += Sha256Hex(bytes);
  return bytes;
}

absl::StatusOr<std::unique_ptr<DecodeState>> ReadSnapshot(const BdhModelImpl& model, std::string_view bytes) {
  return SnapshotReader(model, bytes).Read();
}

}  // namespace bdh::engine
