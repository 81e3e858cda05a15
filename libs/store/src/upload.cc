#include "upload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "manifest.h"

namespace bdh::store {

LedgerUpload::LedgerUpload(const Store::Options& options, Ledger& ledger, Helpers& helpers,
                           Checkpoint checkpoint, v1::StoredManifest parent, Committed committed)
    : options_(options),
      ledger_(ledger),
      checkpoint_(std::move(checkpoint)),
      manifest_(NewManifest(checkpoint_, options.chunk_bytes)),
      parent_(std::move(parent)),
      committed_(std::move(committed)),
      intake_(std::in_place, ledger, helpers) {
  for (const v1::StoredTensor& tensor : parent_.tensors()) parent_tensors_[tensor.info().name()] = &tensor;
  SkipFinishedTensors();
}

LedgerUpload::~LedgerUpload() {
  intake_.reset();
  ledger_.EndUpload();
}

void LedgerUpload::SkipFinishedTensors() {
  while (!complete() && offset_ == current().size_bytes) {
    ++index_;
    offset_ = 0;
  }
}

absl::Status LedgerUpload::CheckPosition(std::string_view tensor, int64_t offset,
                                         std::string_view bytes) const {
  if (complete()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a chunk of tensor \"%s\" came after all bytes of %s had come", tensor, checkpoint_.name));
  }
  const std::string want =
      absl::StrFormat("want tensor \"%s\" at offset %d of %d", current().name, offset_, current().size_bytes);
  if (tensor != current().name || offset != offset_) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a chunk of tensor \"%s\" at offset %d came out of order or twice; %s", tensor, offset, want));
  }
  if (bytes.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("a chunk holds no bytes; %s", want));
  }
  if (static_cast<int64_t>(bytes.size()) > options_.max_piece_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a chunk of tensor \"%s\" has %d bytes; at most %d are taken at once", tensor,
                        bytes.size(), options_.max_piece_bytes));
  }
  if (static_cast<int64_t>(bytes.size()) > current().size_bytes - offset_) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a chunk of %d bytes at offset %d reaches past the end of tensor \"%s\" (%d bytes)",
                        bytes.size(), offset, tensor, current().size_bytes));
  }
  return absl::OkStatus();
}

absl::Status LedgerUpload::AddChunk(std::string_view tensor, int64_t offset, std::string_view bytes) {
  BDH_RETURN_IF_ERROR(failed_);
  failed_ = CheckPosition(tensor, offset, bytes);
  while (failed_.ok() && !bytes.empty()) {
    // Up to the end of the chunk; a chunk ends with its tensor too.
    const int64_t room = options_.chunk_bytes - static_cast<int64_t>(partial_.size());
    const size_t take = std::min<size_t>(room, bytes.size());
    failed_ = Append(bytes.substr(0, take));
    bytes.remove_prefix(take);
  }
  return failed_;
}

absl::Status LedgerUpload::Append(std::string_view bytes) {
  offset_ += static_cast<int64_t>(bytes.size());
  const int64_t begun = static_cast<int64_t>(partial_.size() + bytes.size());
  const bool whole = begun == options_.chunk_bytes || offset_ == current().size_bytes;
  if (whole && partial_.empty()) {
    BDH_RETURN_IF_ERROR(StoreChunk(bytes));  // The usual case: nothing is copied.
  } else {
    partial_.append(bytes);
    if (whole) {
      BDH_RETURN_IF_ERROR(StoreChunk(partial_));
      partial_.clear();
    }
  }
  SkipFinishedTensors();
  return absl::OkStatus();
}

// The chunk at the same place of the parent, if it has the same size there.
ChunkHint LedgerUpload::HintFor(size_t bytes) const {
  ChunkHint hint{.element_bytes = ElementBytes(current().dtype), .base = {}};
  const auto found = parent_tensors_.find(current().name);
  if (found == parent_tensors_.end() || static_cast<int64_t>(parent_.chunk_bytes()) != options_.chunk_bytes) {
    return hint;
  }
  const v1::StoredTensor& tensor = *found->second;
  const int64_t index = (offset_ - 1) / options_.chunk_bytes;  // offset_ stands at the chunk's end.
  const int64_t size = tensor.info().size_bytes();
  if (index < ChunkCount(size, options_.chunk_bytes) &&
      ChunkSize(size, options_.chunk_bytes, index) == static_cast<int64_t>(bytes)) {
    hint.base = DigestAt(tensor, index);
  }
  return hint;
}

absl::Status LedgerUpload::StoreChunk(std::string_view bytes) {
  return intake_->Add(bytes, HintFor(bytes.size()),
                      *manifest_.mutable_tensors(static_cast<int>(index_))->mutable_chunk_digests());
}

absl::StatusOr<Upload::Result> LedgerUpload::Commit(const Change& also) {
  BDH_RETURN_IF_ERROR(failed_);
  if (!complete()) {
    failed_ = absl::InvalidArgumentError(absl::StrFormat(
        "%s ended early: tensor \"%s\" has %d of %d bytes, and %d tensors follow", checkpoint_.name,
        current().name, offset_, current().size_bytes, checkpoint_.tensors.size() - index_ - 1));
    return failed_;
  }
  failed_ = intake_->Wait();
  BDH_RETURN_IF_ERROR(failed_);
  auto committed = ledger_.Commit(checkpoint_, manifest_, intake_->held(), also);
  if (!committed.ok()) {
    failed_ = committed.status();
    return failed_;
  }
  intake_->Forget();
  failed_ = absl::FailedPreconditionError("this upload is committed already");
  Result result{.checkpoint = FromRecord(committed->record), .stored_bytes = committed->new_bytes};
  result.checkpoint.tensors = std::move(checkpoint_.tensors);
  if (committed_) committed_(result.checkpoint.name);
  return result;
}

}  // namespace bdh::store
