// States as bytes: a header of text that says what they belong to, the tokens, and what was computed of them.
//
//   bdh-state 1
//   fingerprint=2c26b4...      of the model
//   dtype=f32                  of its weights
//   phases=reference
//   numerics=bdh-1/fma
//   grid=32
//   dense_from=192
//   position=517
//   form=dense
//   base_position=512          tokens in rho
//   payload_bytes=90111
//   (an empty line, the payload, and the SHA-256 of all before it in 64 hex digits)
//
// The payload, little-endian: the tokens (int32); and unless the form is tokens, layer after layer: if
// base_position is not 0, a bit a row of rho that says whether it has a number other than zero, and the rows
// that have (fp32); then the factors, token after token: x (fp32), and the masks and values of every segment.
#pragma once

#include <string>
#include <string_view>

#include "bdh_state.h"

namespace bdh::engine {

// FailedPreconditionError: the state is not in this form now.
absl::StatusOr<std::string> WriteSnapshot(const BdhState& state, StateForm form);

// InvalidArgumentError names the field that does not fit `model`; DataLossError says what is damaged.
absl::StatusOr<std::unique_ptr<DecodeState>> ReadSnapshot(const BdhModelImpl& model, std::string_view bytes);

// "tokens", "factors", "dense".
std::string_view Name(StateForm form);

}  // namespace bdh::engine
