// Documents of a data set as text again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::corpus {

// Of a data set that is complete and has tokens of its own. Thread-safe.
class DocumentText {
 public:
  // FailedPreconditionError: its tokenizer is gone, or is another one now.
  static absl::StatusOr<DocumentText> Create(std::shared_ptr<const Dataset> dataset,
                                             const DatasetStore& store);

  // Hands what of the document lies in `splits`, in that order, to `consume`, in pieces of about
  // `piece_bytes`; one empty piece for a document without text.
  absl::Status Read(int64_t document, const std::vector<Split>& splits, size_t piece_bytes,
                    const std::function<absl::Status(std::string_view)>& consume) const;
  // At most `bytes` of its beginning.
  absl::StatusOr<std::string> Beginning(int64_t document, int64_t bytes) const;

 private:
  DocumentText(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const tokenizer::Tokenizer> tokenizer)
      : dataset_(std::move(dataset)), tokenizer_(std::move(tokenizer)) {}

  std::shared_ptr<const Dataset> dataset_;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
};

// "books/a.jsonl:17", the document's number in its source; "document 17" where the sources are not known.
std::string DocumentName(const Dataset& dataset, int64_t document);

// In both splits.
int64_t DocumentTokens(const Dataset& dataset, int64_t document);

// Up to `count` different documents, drawn by `seed`.
std::vector<int64_t> DrawDocuments(const Dataset& dataset, int64_t count, uint64_t seed);

// How many documents have up to `tokens_max` tokens, and more than the bin before; bounds are powers of two.
struct LengthBin {
  int64_t tokens_max, documents;
};
std::vector<LengthBin> LengthHistogram(const Dataset& dataset);

}  // namespace bdh::corpus
