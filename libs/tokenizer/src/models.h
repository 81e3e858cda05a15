// The "model" of a tokenizer.json: from a piece of text to ids.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bdh/tokenizer/tokenizer.h"
#include "json_reader.h"

namespace bdh::tokenizer {

// Spellings and their ids, both ways.
class Vocabulary {
 public:
  // InvalidArgumentError: an id twice or out of range, or none at all. Gaps are allowed up to a size that is
  // absurd for the number of tokens.
  absl::Status Add(std::string spelling, int64_t id, const JsonPlace& place);
  std::optional<int32_t> Find(std::string_view spelling) const {
    const auto found = ids_.find(absl::string_view(spelling.data(), spelling.size()));
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  bool Has(int32_t id) const { return id >= 0 && id < size() && known_[static_cast<size_t>(id)]; }
  // Empty in a gap.
  const std::string& Spelling(int32_t id) const { return spellings_[static_cast<size_t>(id)]; }
  int size() const { return static_cast<int>(spellings_.size()); }  // One more than the largest id.
  int count() const { return static_cast<int>(ids_.size()); }

 private:
  absl::flat_hash_map<std::string, int32_t> ids_;
  std::vector<std::string> spellings_;
  std::vector<bool> known_;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual Kind kind() const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  virtual void Encode(std::string_view piece, std::vector<int32_t>& ids) const = 0;
  // Whether EncodeBytes may be called, with bytes that ByteLevel has not mapped. Memory may be read up to
  // `end`.
  virtual bool takes_bytes() const { return false; }
  virtual void EncodeBytes(std::string_view /*bytes*/, const char* /*end*/,
                           std::vector<int32_t>& /*ids*/) const {}
};

absl::StatusOr<std::shared_ptr<const Model>> ReadModel(const JsonPlace& place);

// Each for its own "type".
absl::StatusOr<std::shared_ptr<const Model>> ReadBpe(const JsonPlace& place);
absl::StatusOr<std::shared_ptr<const Model>> ReadWordPiece(const JsonPlace& place);
absl::StatusOr<std::shared_ptr<const Model>> ReadUnigram(const JsonPlace& place);

// "vocab" as an object of spellings and ids.
absl::StatusOr<Vocabulary> ReadVocabulary(const JsonPlace& place);

// The ids of "<0x00>" to "<0xFF>" where the vocabulary has them, else -1.
std::vector<int32_t> ByteTokens(const Vocabulary& vocabulary);

}  // namespace bdh::tokenizer
