#include "reader.h"

#include <algorithm>
#include <set>

#include "absl/container/flat_hash_map.h"
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

absl::Status ReadServable(const Chunks& chunks, Ledger& ledger, const rocksdb::Snapshot* snapshot,
                          const Digest& digest, int64_t size, Sha256& sha, std::string& out) {
  if (const auto damage = ledger.DamageOf(digest); damage.has_value()) return absl::DataLossError(*damage);
  const absl::Status status = chunks.Read(snapshot, digest, size, sha, out);
  if (absl::IsDataLoss(status)) {
    ledger.MarkDamaged(digest, std::string_view(status.message().data(), status.message().size()));
  }
  return status;
}

absl::StatusOr<std::unique_ptr<Reader>> DatabaseReader::Open(const Database& database, const Catalog& catalog,
                                                             const Chunks& chunks, Ledger& ledger,
                                                             std::string_view reference,
                                                             const Selection& selection) {
  auto reader = std::unique_ptr<DatabaseReader>(new DatabaseReader(database, chunks, ledger));
  const rocksdb::Snapshot* snapshot = reader->view_.snapshot();
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog.Find(reference, snapshot));
  BDH_ASSIGN_OR_RETURN(reader->manifest_, catalog.ManifestOf(record, snapshot));
  reader->checkpoint_ = FromRecord(record);
  BDH_ASSIGN_OR_RETURN(reader->checkpoint_.tags, catalog.TagsOf(record.name(), snapshot));
  for (const v1::StoredTensor& tensor : reader->manifest_.tensors()) {
    reader->checkpoint_.tensors.push_back(FromStored(tensor.info()));
  }
  BDH_RETURN_IF_ERROR(reader->Select(selection));
  return std::unique_ptr<Reader>(std::move(reader));
}

absl::Status DatabaseReader::Select(const Selection& selection) {
  if (!selection.ranges.empty()) return SelectRanges(selection.ranges);
  std::set<std::string_view> wanted(selection.tensors.begin(), selection.tensors.end());
  for (int i = 0; i < manifest_.tensors_size(); ++i) {
    const v1::TensorInfo& info = manifest_.tensors(i).info();
    if (!selection.tensors.empty() && wanted.erase(info.name()) == 0) continue;
    if (BeginsWithAny(info.name(), selection.prefixes_excluded)) continue;
    parts_.push_back({.tensor = i, .begin = 0, .end = info.size_bytes()});
  }
  if (wanted.empty()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrFormat("%s has no tensor \"%s\"", checkpoint_.name, *wanted.begin()));
}

absl::Status DatabaseReader::SelectRanges(const std::vector<Selection::Range>& ranges) {
  absl::flat_hash_map<std::string_view, int> indexes;
  for (int i = 0; i < manifest_.tensors_size(); ++i) indexes[manifest_.tensors(i).info().name()] = i;
  for (const Selection::Range& range : ranges) {
    const auto found = indexes.find(range.tensor);
    if (found == indexes.end()) {
      return absl::NotFoundError(absl::StrFormat("%s has no tensor \"%s\"", checkpoint_.name, range.tensor));
    }
    const int64_t size = manifest_.tensors(found->second).info().size_bytes();
    if (range.offset < 0 || range.size_bytes < 0 || range.offset > size ||
        range.size_bytes > size - range.offset) {
      return absl::OutOfRangeError(
          absl::StrFormat("%d bytes at offset %d are not all within the %d bytes of %s", range.size_bytes,
                          range.offset, size, TensorInWords(range.tensor, checkpoint_.name)));
    }
    parts_.push_back(
        {.tensor = found->second, .begin = range.offset, .end = range.offset + range.size_bytes});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Piece>> DatabaseReader::Next() {
  const auto chunk_bytes = static_cast<int64_t>(manifest_.chunk_bytes());
  for (; next_ < parts_.size(); ++next_, offset_ = 0) {
    const Part& part = parts_[next_];
    const int64_t begin = part.begin + offset_;
    if (begin == part.end) continue;
    const v1::StoredTensor& tensor = manifest_.tensors(part.tensor);
    const int64_t index = begin / chunk_bytes;
    Piece piece{.tensor = tensor.info().name(), .offset = begin, .bytes = {}};
    const absl::Status status =
        ReadServable(chunks_, ledger_, view_.snapshot(), DigestAt(tensor, index),
                     ChunkSize(tensor.info().size_bytes(), chunk_bytes, index), sha_, piece.bytes);
    BDH_RETURN_IF_ERROR(Annotate(status, TensorInWords(tensor.info().name(), checkpoint_.name)));
    const auto skip = static_cast<size_t>(begin - index * chunk_bytes);
    const auto take = std::min(piece.bytes.size() - skip, static_cast<size_t>(part.end - begin));
    if (take < piece.bytes.size()) piece.bytes = piece.bytes.substr(skip, take);
    offset_ += static_cast<int64_t>(take);
    return std::optional<Piece>(std::move(piece));
  }
  return std::optional<Piece>();
}

}  // namespace bdh::store
