#include "blob.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "manifest.h"
#include "reader.h"

namespace bdh::store {

Blob FromStoredBlob(const v1::StoredBlob& stored) {
  return {.id = stored.id(),
          .label = stored.label(),
          .size_bytes = static_cast<int64_t>(stored.size_bytes()),
          .sha256 = absl::BytesToHexString(stored.sha256()),
          .create_time = absl::FromUnixMicros(stored.create_time_us())};
}

absl::StatusOr<v1::StoredBlob> FindBlob(const Database& database, uint64_t id,
                                        const rocksdb::Snapshot* snapshot) {
  BDH_ASSIGN_OR_RETURN(const auto bytes, GetRecord(database, own::kBlobs, IdKey(id), snapshot));
  if (!bytes.has_value()) return absl::NotFoundError(absl::StrFormat("there is no blob %d", id));
  v1::StoredBlob stored;
  BDH_RETURN_IF_ERROR(ParseRecordInto(*bytes, "a blob", stored));
  return stored;
}

LedgerBlobUpload::LedgerBlobUpload(const Store::Options& options, Ledger& ledger, Helpers& helpers,
                                   std::string label, int64_t max_bytes)
    : options_(options), ledger_(ledger), max_bytes_(max_bytes), intake_(std::in_place, ledger, helpers) {
  blob_.set_label(std::move(label));
  manifest_.set_chunk_bytes(options.chunk_bytes);
  manifest_.add_tensors();
}

LedgerBlobUpload::~LedgerBlobUpload() {
  intake_.reset();
  ledger_.EndUpload();
}

absl::Status LedgerBlobUpload::Add(std::string_view bytes) {
  BDH_RETURN_IF_ERROR(failed_);
  failed_ = Take(bytes);
  return failed_;
}

absl::Status LedgerBlobUpload::Take(std::string_view bytes) {
  if (static_cast<int64_t>(bytes.size()) > options_.max_piece_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a piece of %s has %d bytes; at most %d are taken at once", blob_.label(),
                        bytes.size(), options_.max_piece_bytes));
  }
  if (static_cast<int64_t>(bytes.size()) > max_bytes_ - size_bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s is larger than the %s it may take", blob_.label(), FormatBytes(max_bytes_)));
  }
  size_bytes_ += static_cast<int64_t>(bytes.size());
  whole_.Update(bytes);
  while (!bytes.empty()) {
    const int64_t room = options_.chunk_bytes - static_cast<int64_t>(partial_.size());
    const std::string_view part = bytes.substr(0, static_cast<size_t>(room));
    bytes.remove_prefix(part.size());
    if (partial_.empty() && static_cast<int64_t>(part.size()) == options_.chunk_bytes) {
      BDH_RETURN_IF_ERROR(StoreChunk(part));
      continue;
    }
    partial_.append(part);
    if (static_cast<int64_t>(partial_.size()) < options_.chunk_bytes) continue;
    BDH_RETURN_IF_ERROR(StoreChunk(partial_));
    partial_.clear();
  }
  return absl::OkStatus();
}

absl::Status LedgerBlobUpload::StoreChunk(std::string_view bytes) {
  return intake_->Add(bytes, {}, *manifest_.mutable_tensors(0)->mutable_chunk_digests());
}

absl::StatusOr<BlobUpload::Result> LedgerBlobUpload::Commit(const Owner& also) {
  BDH_RETURN_IF_ERROR(failed_);
  failed_ = absl::FailedPreconditionError("this upload is committed already, or its commit failed");
  if (!partial_.empty()) BDH_RETURN_IF_ERROR(StoreChunk(partial_));
  BDH_RETURN_IF_ERROR(intake_->Wait());
  v1::TensorInfo& info = *manifest_.mutable_tensors(0)->mutable_info();
  info.set_dtype(v1::DTYPE_U8);
  info.add_shape(size_bytes_);
  info.set_size_bytes(size_bytes_);
  blob_.set_size_bytes(static_cast<uint64_t>(size_bytes_));
  blob_.set_sha256(std::string(whole_.Finish().view()));
  BDH_ASSIGN_OR_RETURN(const Ledger::CommittedBlob committed,
                       ledger_.CommitBlob(blob_, manifest_, intake_->held(), also));
  intake_->Forget();
  return Result{.blob = FromStoredBlob(committed.record), .stored_bytes = committed.new_bytes};
}

absl::StatusOr<std::unique_ptr<BlobReader>> DatabaseBlobReader::Open(const Database& database,
                                                                     const Chunks& chunks, Ledger& ledger,
                                                                     uint64_t id) {
  auto reader = std::unique_ptr<DatabaseBlobReader>(new DatabaseBlobReader(database, chunks, ledger));
  const rocksdb::Snapshot* snapshot = reader->view_.snapshot();
  BDH_ASSIGN_OR_RETURN(const v1::StoredBlob stored, FindBlob(database, id, snapshot));
  reader->blob_ = FromStoredBlob(stored);
  const auto bytes = database.Get(Table::kManifests, IdKey(id), snapshot);
  if (absl::IsNotFound(bytes.status())) {
    return absl::DataLossError(absl::StrFormat("%s: its manifest is gone", stored.label()));
  }
  BDH_RETURN_IF_ERROR(bytes.status());
  auto manifest = ParseManifest(*bytes);
  BDH_RETURN_IF_ERROR(Annotate(manifest.status(), stored.label()));
  if (manifest->tensors_size() != 1 || manifest->tensors(0).info().size_bytes() != reader->blob_.size_bytes) {
    return absl::DataLossError(absl::StrFormat("%s: its manifest is damaged", stored.label()));
  }
  reader->manifest_ = *std::move(manifest);
  return std::unique_ptr<BlobReader>(std::move(reader));
}

absl::StatusOr<std::optional<std::string>> DatabaseBlobReader::Next() {
  const v1::StoredTensor& tensor = manifest_.tensors(0);
  const auto chunk_bytes = static_cast<int64_t>(manifest_.chunk_bytes());
  const int64_t size = tensor.info().size_bytes();
  if (next_chunk_ == ChunkCount(size, chunk_bytes)) return std::optional<std::string>();
  std::string bytes;
  const absl::Status status = ReadServable(chunks_, ledger_, view_.snapshot(), DigestAt(tensor, next_chunk_),
                                           ChunkSize(size, chunk_bytes, next_chunk_), sha_, bytes);
  BDH_RETURN_IF_ERROR(Annotate(status, blob_.label));
  ++next_chunk_;
  return std::optional<std::string>(std::move(bytes));
}

}  // namespace bdh::store
