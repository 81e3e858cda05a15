// What tokenizer.json's "normalizer" does to a text before it is split.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "json_reader.h"

namespace bdh::tokenizer {

// A text on its way, and how many bytes in front are made of the first character that was given: Metaspace's
// prepend_scheme "first" asks for what begins in them.
struct NormalText {
  std::string text;
  size_t from_first = 0;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void Apply(NormalText& text) const = 0;
};

// Null where `place` is. InvalidArgumentError names a kind that is not supported.
absl::StatusOr<std::shared_ptr<const Normalizer>> ReadNormalizer(const JsonPlace& place);

// Of a pattern {"String": ".."} or {"Regex": ".."}: a regular expression, quoted where it is a string.
absl::StatusOr<std::string> ReadPattern(const JsonPlace& place);

// Texts like " hello" that ByteLevel writes as "Ġhello".
void AppendMappedBytes(std::string_view bytes, std::string& out);
// The bytes that such a text stands for; false: it has a character outside of the map.
bool UnmapBytes(std::string_view mapped, std::string& bytes);

}  // namespace bdh::tokenizer
