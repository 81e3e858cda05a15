// A tokenizer that comes with a checkpoint: its files are the tensors tokenizer/NAME, of bytes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tokenizer/tokenizer.h"
#include "bdh/v1/checkpoint_store.pb.h"

namespace bdh::inference {

inline constexpr char kTokenizerPrefix[] = "tokenizer/";

// One thread at a time.
class TokenizerInTransit {
 public:
  // InvalidArgumentError: a tensor under the prefix that is no file of a tokenizer, or files over its limit.
  static absl::StatusOr<TokenizerInTransit> Expect(const v1::Checkpoint& checkpoint);

  static bool IsPart(const std::string& tensor) { return tensor.starts_with(kTokenizerPrefix); }
  // DataLossError names a tensor whose bytes come out of order or too many.
  absl::Status Add(const v1::TensorChunk& chunk);
  // The tokenizer that came or, where none did, the one that the name says. InvalidArgumentError: neither.
  absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> Build();

 private:
  std::string name_;
  std::vector<tokenizer::TokenizerFile> files_;
  std::vector<size_t> sizes_;  // Of each file, when it is whole.
};

}  // namespace bdh::inference
