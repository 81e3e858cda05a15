#include "bdh/corpus/document_text.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "order.h"

namespace bdh::corpus {
namespace {

constexpr int64_t kTokensAtOnce = 65536;

// Where the document lies in a split.
struct Span {
  int64_t begin, end;
};

Span SpanOf(const Dataset& dataset, int64_t document, Split split) {
  return {document == 0 ? 0 : dataset.document_end(document - 1).of(split),
          dataset.document_end(document).of(split)};
}

}  // namespace

absl::StatusOr<DocumentText> DocumentText::Create(std::shared_ptr<const Dataset> dataset,
                                                  const DatasetStore& store) {
  const DatasetInfo& info = dataset->info();
  const auto found = store.FindTokenizer(info.tokenizer);
  if (!found.ok() || (info.tokenizer != "byte" && (*found)->hash() != info.tokenizer_hash)) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "tokenizer '%s', of which the tokens of data set '%s' are, %s; import it again to read them as text",
        info.tokenizer, info.name, found.ok() ? "is another one now" : "is gone"));
  }
  return DocumentText(std::move(dataset), *found);
}

absl::Status DocumentText::Read(int64_t document, const std::vector<Split>& splits, size_t piece_bytes,
                                const std::function<absl::Status(std::string_view)>& consume) const {
  std::string text;
  bool handed = false;
  tokenizer::DecodeState state;
  for (const Split split : splits) {
    const Span span = SpanOf(*dataset_, document, split);
    for (int64_t at = span.begin; at < span.end; at += kTokensAtOnce) {
      const auto tokens = dataset_->Tokens(split, at, std::min(kTokensAtOnce, span.end - at));
      for (size_t i = 0; i < tokens.size(); ++i) {
        const bool last = at + static_cast<int64_t>(i) + 1 == span.end;
        // It was put there, it is not of the text.
        if (last && dataset_->info().end_of_text && tokens[i] == tokenizer_->end_of_text()) continue;
        BDH_RETURN_IF_ERROR(tokenizer_->DecodeNext(tokens[i], state, text));
        if (text.size() < piece_bytes) continue;
        BDH_RETURN_IF_ERROR(consume(text));
        handed = true;
        text.clear();
      }
    }
  }
  return text.empty() && handed ? absl::OkStatus() : consume(text);
}

absl::StatusOr<std::string> DocumentText::Beginning(int64_t document, int64_t bytes) const {
  std::string beginning;
  const auto enough = static_cast<size_t>(bytes);
  const absl::Status read = Read(document, {Split::kTrain, Split::kValidation}, enough,
                                 [&](std::string_view piece) -> absl::Status {
                                   beginning = piece.substr(0, enough);
                                   return absl::OutOfRangeError("that is enough");
                                 });
  if (!read.ok() && !absl::IsOutOfRange(read)) return read;
  return beginning;
}

std::string DocumentName(const Dataset& dataset, int64_t document) {
  int64_t number = document;
  for (const Report::Source& source : dataset.info().report.sources) {
    if (number < source.documents) {
      return source.documents == 1 ? source.name : absl::StrFormat("%s:%d", source.name, number + 1);
    }
    number -= source.documents;
  }
  return absl::StrFormat("document %d", document + 1);
}

int64_t DocumentTokens(const Dataset& dataset, int64_t document) {
  int64_t tokens = 0;
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    const Span span = SpanOf(dataset, document, split);
    tokens += span.end - span.begin;
  }
  return tokens;
}

std::vector<int64_t> DrawDocuments(const Dataset& dataset, int64_t count, uint64_t seed) {
  const auto documents = static_cast<uint64_t>(dataset.info().documents);
  const Permutation permutation(documents, Mix(seed));
  std::vector<int64_t> drawn;
  for (uint64_t i = 0; i < std::min(documents, static_cast<uint64_t>(count)); ++i) {
    drawn.push_back(static_cast<int64_t>(permutation(i)));
  }
  return drawn;
}

std::vector<LengthBin> LengthHistogram(const Dataset& dataset) {
  if (!dataset.parts().empty() || !dataset.complete()) return {};
  std::vector<LengthBin> bins;
  for (int64_t document = 0; document < dataset.info().documents; ++document) {
    const auto tokens = static_cast<uint64_t>(DocumentTokens(dataset, document));
    const auto bin = static_cast<size_t>(tokens <= 1 ? 0 : static_cast<uint64_t>(std::bit_width(tokens - 1)));
    while (bins.size() <= bin) bins.push_back({int64_t{1} << bins.size(), 0});
    ++bins[bin].documents;
  }
  return bins;
}

}  // namespace bdh::corpus
