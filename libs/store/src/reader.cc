#include "reader.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "manifest.h"

namespace bdh::store {
namespace {

bool BeginsWithAny(std::string_view name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return name.substr(0, prefix.size()) == prefix; });
}

}  // namespace

absl::Status ReadChunk(const Database& database, const rocksdb::Snapshot* snapshot, const Digest& digest,
                       int64_t size, Sha256& sha, std::string& out) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.fill_cache = false;
  const rocksdb::Status status =
      database.db().Get(options, database[Table::kChunks], ToSlice(digest.view()), &out);
  if (status.IsNotFound()) return absl::DataLossError("a chunk is gone");
  // Whatever keeps the disk from giving the bytes back, they are not there for the caller.
  if (!status.ok()) {
    const absl::Status error = database.ToStatus(status, "a chunk cannot be read");
    return absl::DataLossError(error.message());
  }
  if (static_cast<int64_t>(out.size()) != size || !(sha.Of(out) == digest)) {
    return absl::DataLossError("a chunk is damaged: it does not match its SHA-256");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Reader>> DatabaseReader::Open(const Database& database, const Catalog& catalog,
                                                             Ledger& ledger, std::string_view reference,
                                                             const Selection& selection) {
  auto reader = std::unique_ptr<DatabaseReader>(new DatabaseReader(database, ledger));
  const rocksdb::Snapshot* snapshot = reader->snapshot_.get();
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog.Find(reference, snapshot));
  BDH_ASSIGN_OR_RETURN(reader->manifest_, catalog.ManifestOf(record, snapshot));
  reader->checkpoint_ = FromRecord(record);
  BDH_ASSIGN_OR_RETURN(reader->checkpoint_.tags, catalog.TagsOf(record.name(), snapshot));
  for (const v1::StoredTensor& tensor : reader->manifest_.tensors()) {
    reader->checkpoint_.tensors.push_back(FromStored(tensor.info()));
  }
  BDH_RETURN_IF_ERROR(reader->Select(selection));
  return reader;
}

absl::Status DatabaseReader::Select(const Selection& selection) {
  std::set<std::string_view> wanted(selection.tensors.begin(), selection.tensors.end());
  for (int i = 0; i < manifest_.tensors_size(); ++i) {
    const std::string& name = manifest_.tensors(i).info().name();
    if (!selection.tensors.empty() && wanted.erase(name) == 0) continue;
    if (!BeginsWithAny(name, selection.prefixes_excluded)) selected_.push_back(i);
  }
  if (wanted.empty()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrFormat("%s has no tensor \"%s\"", checkpoint_.name, *wanted.begin()));
}

absl::StatusOr<std::optional<Piece>> DatabaseReader::Next() {
  const auto chunk_bytes = static_cast<int64_t>(manifest_.chunk_bytes());
  for (; next_ < selected_.size(); ++next_, next_chunk_ = 0) {
    const v1::StoredTensor& tensor = manifest_.tensors(selected_[next_]);
    const int64_t size = tensor.info().size_bytes();
    if (next_chunk_ == ChunkCount(size, chunk_bytes)) continue;
    const auto digest = Digest::FromBytes(
        std::string_view(tensor.chunk_digests()).substr(next_chunk_ * Digest::kBytes, Digest::kBytes));
    Piece piece{.tensor = tensor.info().name(), .offset = next_chunk_ * chunk_bytes, .bytes = {}};
    const absl::Status status = ReadChunk(database_, snapshot_.get(), digest,
                                          ChunkSize(size, chunk_bytes, next_chunk_), sha_, piece.bytes);
    if (!status.ok()) {
      ledger_.MarkDamaged(digest);
      return Annotate(status, TensorInWords(tensor.info().name(), checkpoint_.name));
    }
    ++next_chunk_;
    return std::optional<Piece>(std::move(piece));
  }
  return std::optional<Piece>();
}

}  // namespace bdh::store
