#include "catalog.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "manifest.h"

namespace bdh::store {
namespace {

constexpr int kMaxPageSize = 1000;
constexpr size_t kMaxPageBytes = 4 << 20;  // So that a page fits into a message of the mesh.

using TagsByCheckpoint = std::map<std::string, std::vector<std::string>>;

TagsByCheckpoint Invert(const std::vector<Tag>& tags) {
  TagsByCheckpoint out;
  for (const Tag& tag : tags) out[tag.checkpoint].push_back(tag.name);
  return out;
}

absl::Status CheckListArguments(std::string_view run, int size) {
  if (!run.empty()) BDH_RETURN_IF_ERROR(CheckCheckpointName(CheckpointName(run, 0)));
  if (size >= 1 && size <= kMaxPageSize) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("page_size is %d; want 1 to %d", size, kMaxPageSize));
}

// The id to go on below; `token` is the last id of the page before.
absl::StatusOr<uint64_t> ParseToken(std::string_view token) {
  uint64_t id = UINT64_MAX;
  if (token.empty() || (absl::SimpleAtoi(absl::string_view(token.data(), token.size()), &id) && id > 0)) {
    return id;
  }
  return absl::InvalidArgumentError("page_token is none that this store gave out");
}

absl::StatusOr<Tag> ParseTag(std::string_view name, std::string_view bytes) {
  v1::StoredTag stored;
  if (!stored.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError(absl::StrFormat("the record of tag \"%s\" is damaged", name));
  }
  return Tag{.name = std::string(name),
             .checkpoint = stored.checkpoint(),
             .update_time = absl::FromUnixMicros(stored.update_time_us())};
}

}  // namespace

absl::StatusOr<std::string> Catalog::Resolve(std::string_view reference,
                                             const rocksdb::Snapshot* snapshot) const {
  if (IsCheckpointName(reference)) {
    BDH_RETURN_IF_ERROR(CheckCheckpointName(reference));
    return std::string(reference);
  }
  BDH_RETURN_IF_ERROR(CheckTagName(reference));
  const auto bytes = database_.Get(Table::kTags, reference, snapshot);
  if (absl::IsNotFound(bytes.status())) {
    return absl::NotFoundError(absl::StrFormat("there is no tag \"%s\"", reference));
  }
  BDH_RETURN_IF_ERROR(bytes.status());
  BDH_ASSIGN_OR_RETURN(const Tag tag, ParseTag(reference, *bytes));
  return tag.checkpoint;
}

absl::StatusOr<v1::StoredCheckpoint> Catalog::Find(std::string_view reference,
                                                   const rocksdb::Snapshot* snapshot) const {
  BDH_ASSIGN_OR_RETURN(const std::string name, Resolve(reference, snapshot));
  const auto bytes = database_.Get(Table::kCheckpoints, name, snapshot);
  if (absl::IsNotFound(bytes.status())) {
    return absl::NotFoundError(absl::StrFormat("there is no checkpoint %s", name));
  }
  BDH_RETURN_IF_ERROR(Annotate(bytes.status(), name));
  auto record = ParseRecord(*bytes);
  BDH_RETURN_IF_ERROR(Annotate(record.status(), name));
  return record;
}

absl::StatusOr<v1::StoredManifest> Catalog::ManifestOf(const v1::StoredCheckpoint& record,
                                                       const rocksdb::Snapshot* snapshot) const {
  auto bytes = database_.Get(Table::kManifests, IdKey(record.id()), snapshot);
  if (absl::IsNotFound(bytes.status())) {
    return absl::DataLossError(absl::StrFormat("%s: its manifest is gone", record.name()));
  }
  BDH_RETURN_IF_ERROR(Annotate(bytes.status(), record.name()));
  auto manifest = ParseManifest(*bytes);
  BDH_RETURN_IF_ERROR(Annotate(manifest.status(), record.name()));
  if (ContentDigest(*manifest, record.facts()).view() != record.digest()) {
    return absl::DataLossError(absl::StrFormat("%s: its manifest does not match its digest", record.name()));
  }
  return manifest;
}

absl::StatusOr<Checkpoint> Catalog::Describe(std::string_view reference,
                                             const rocksdb::Snapshot* snapshot) const {
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, Find(reference, snapshot));
  BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, ManifestOf(record, snapshot));
  Checkpoint checkpoint = FromRecord(record);
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    checkpoint.tensors.push_back(FromStored(tensor.info()));
  }
  BDH_ASSIGN_OR_RETURN(checkpoint.tags, TagsOf(record.name(), snapshot));
  return checkpoint;
}

absl::StatusOr<Store::Page> Catalog::List(std::string_view run, int size, std::string_view token,
                                          const rocksdb::Snapshot* snapshot, const Wanted& wanted) const {
  BDH_RETURN_IF_ERROR(CheckListArguments(run, size));
  BDH_ASSIGN_OR_RETURN(const uint64_t before, ParseToken(token));
  BDH_ASSIGN_OR_RETURN(const std::vector<Tag> all_tags, Tags(snapshot));
  const TagsByCheckpoint tags = Invert(all_tags);
  const std::string prefix = run.empty() ? "" : absl::StrFormat("runs/%s/", run);

  Store::Page page;
  size_t bytes = 0;
  uint64_t last = 0;
  const auto order = database_.NewIterator(Table::kOrder, snapshot);
  for (order->SeekForPrev(IdKey(before - 1)); order->Valid(); order->Prev()) {
    const std::string_view name = ToView(order->value());
    if (name.substr(0, prefix.size()) != prefix) continue;
    BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, Find(name, snapshot));
    if (wanted) {
      BDH_ASSIGN_OR_RETURN(const bool is_wanted, wanted(record));
      if (!is_wanted) continue;
    }
    if (page.checkpoints.size() == static_cast<size_t>(size) || bytes > kMaxPageBytes) {
      page.next_token = absl::StrFormat("%d", last);
      break;
    }
    Checkpoint& checkpoint = page.checkpoints.emplace_back(FromRecord(record));
    if (const auto found = tags.find(checkpoint.name); found != tags.end()) checkpoint.tags = found->second;
    bytes += checkpoint.facts.size() + checkpoint.provenance.size() + 256;
    last = record.id();
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(order->status(), "list checkpoints"));
  return page;
}

absl::StatusOr<std::vector<v1::StoredCheckpoint>> Catalog::OfRun(std::string_view run,
                                                                 const rocksdb::Snapshot* snapshot) const {
  std::vector<v1::StoredCheckpoint> records;
  const std::string prefix = absl::StrFormat("runs/%s/", run);
  const auto iterator = database_.NewIterator(Table::kCheckpoints, snapshot);
  for (iterator->Seek(prefix); iterator->Valid() && iterator->key().starts_with(prefix); iterator->Next()) {
    BDH_ASSIGN_OR_RETURN(v1::StoredCheckpoint record, ParseRecord(ToView(iterator->value())));
    records.push_back(std::move(record));
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(iterator->status(), "list a run"));
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.id() < b.id(); });
  return records;
}

absl::StatusOr<std::vector<Tag>> Catalog::Tags(const rocksdb::Snapshot* snapshot) const {
  std::vector<Tag> tags;
  const auto iterator = database_.NewIterator(Table::kTags, snapshot);
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
    BDH_ASSIGN_OR_RETURN(Tag tag, ParseTag(ToView(iterator->key()), ToView(iterator->value())));
    tags.push_back(std::move(tag));
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(iterator->status(), "list tags"));
  return tags;
}

absl::StatusOr<std::vector<std::string>> Catalog::TagsOf(std::string_view checkpoint,
                                                         const rocksdb::Snapshot* snapshot) const {
  BDH_ASSIGN_OR_RETURN(const std::vector<Tag> tags, Tags(snapshot));
  std::vector<std::string> names;
  for (const Tag& tag : tags) {
    if (tag.checkpoint == checkpoint) names.push_back(tag.name);
  }
  return names;
}

absl::StatusOr<std::vector<uint64_t>> Catalog::OwnersOf(const Digest& digest,
                                                        const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.prefix_same_as_start = true;
  options.snapshot = snapshot;
  const std::unique_ptr<rocksdb::Iterator> iterator(
      database_.db().NewIterator(options, database_[Table::kReferences]));
  std::vector<uint64_t> owners;
  for (iterator->Seek(ToSlice(digest.view()));
       iterator->Valid() && iterator->key().starts_with(ToSlice(digest.view())); iterator->Next()) {
    const std::string_view key = ToView(iterator->key()).substr(Digest::kBytes);
    if (key.size() == sizeof(uint64_t)) owners.push_back(ParseIdKey(key));
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(iterator->status(), "look for owners"));
  return owners;
}

absl::StatusOr<Catalog::Holders> Catalog::HoldersOf(std::string_view digest, std::string_view own_key) const {
  rocksdb::ReadOptions options;
  options.prefix_same_as_start = true;
  const std::unique_ptr<rocksdb::Iterator> iterator(
      database_.db().NewIterator(options, database_[Table::kReferences]));
  Holders holders;
  for (iterator->Seek(ToSlice(digest)); iterator->Valid() && iterator->key().starts_with(ToSlice(digest));
       iterator->Next()) {
    const std::string_view key = ToView(iterator->key());
    if (key == own_key) continue;
    if (key.size() == Digest::kBytes + sizeof(uint64_t)) {
      holders.owned = true;
      break;
    }
    holders.based = true;
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(iterator->status(), "look for references"));
  return holders;
}

}  // namespace bdh::store
