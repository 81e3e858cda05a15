#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/sha256.h"
#include "bdh/base/text.h"
#include "bdh/corpus/dataset_builder.h"

namespace bdh::corpus {
namespace {

std::string_view AsBytes(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

}  // namespace

SplitRule ResolveRule(SplitRule rule, int64_t documents) {
  if (rule != SplitRule::kAuto) return rule;
  return documents >= kManyDocuments ? SplitRule::kDocument : SplitRule::kTail;
}

ContentHash::ContentHash(Identity identity)
    : identity_(std::move(identity)),
      all_(std::make_unique<Sha256>()),
      document_(std::make_unique<Sha256>()),
      scores_(std::make_unique<Sha256>()) {
  all_->Update(
      absl::StrFormat("bdh-dataset 1\n%s\n%.17g\n", identity_.tokenizer, identity_.validation_fraction));
}

ContentHash::~ContentHash() = default;

void ContentHash::BeginDocument(std::optional<double> score) {
  EndDocument();
  in_document_ = true;
  ++documents_;
  if (identity_.scored) scores_->Update(AsBytes(score.value_or(0)));
}

void ContentHash::Append(std::string_view text) {
  document_bytes_ += text.size();
  document_->Update(text);
}

uint64_t ContentHash::EndDocument() {
  if (!in_document_) return 0;
  all_->Update(AsBytes(document_bytes_));
  const Sha256Digest digest = document_->Finish();
  all_->Update(digest.view());
  document_bytes_ = 0;
  in_document_ = false;
  uint64_t number;
  std::memcpy(&number, digest.bytes.data(), sizeof(number));
  return number;
}

std::string ContentHash::Peek() const {
  return absl::StrFormat("%s %s %d", all_->Peek().Hex(), document_->Peek().Hex(), document_bytes_);
}

std::string ContentHash::Finish() {
  EndDocument();
  const std::string content = all_->Finish().Hex();
  const SplitRule rule = ResolveRule(identity_.split_rule, documents_);
  const bool as_in_release_0_1 = rule == SplitRule::kTail && !identity_.end_of_text &&
                                 identity_.order == Order::kRandom && !identity_.scored;
  if (as_in_release_0_1) return content;
  return Sha256Hex(absl::StrFormat("bdh-dataset 2\n%s\nby_document %d\nend_of_text %d\norder %s\nscores %s\n",
                                   content, rule == SplitRule::kDocument, identity_.end_of_text,
                                   OrderName(identity_.order),
                                   identity_.scored ? scores_->Finish().Hex() : std::string()));
}

}  // namespace bdh::corpus
