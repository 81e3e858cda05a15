// Names: checkpoints appear, tags move, checkpoints go.
#include "ledger.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "manifest.h"

namespace bdh::store {

Ledger::Ledger(const Store::Options& options, Database& database, const Catalog& catalog,
               v1::StoredState state, HighWater high_water)
    : options_(options),
      database_(database),
      catalog_(catalog),
      state_(std::move(state)),
      high_water_(std::move(high_water)) {}

absl::Status Ledger::Apply(rocksdb::WriteBatch& batch, v1::StoredState next) {
  next.set_sequence(state_.sequence() + 1);
  batch.Put(database_[Table::kState], kStateKey, next.SerializeAsString());
  BDH_RETURN_IF_ERROR(database_.WriteDurably(batch));
  state_ = std::move(next);
  high_water_.Raise(state_.sequence());
  return absl::OkStatus();
}

absl::Status Ledger::BeginUpload() {
  const MutexLock lock(mutex_);
  if (uploads_ >= options_.max_uploads) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%d uploads are in flight, as many as checkpoint_store.max_uploads allows; try again "
                        "when one has ended",
                        uploads_));
  }
  ++uploads_;
  return absl::OkStatus();
}

void Ledger::EndUpload() {
  const MutexLock lock(mutex_);
  --uploads_;
}

// Sets `same` if the name holds this content already.
absl::Status Ledger::CheckName(const Checkpoint& checkpoint, const Digest& digest,
                               std::optional<v1::StoredCheckpoint>& same) const {
  auto existing = catalog_.Find(checkpoint.name);
  if (absl::IsNotFound(existing.status())) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(existing.status());
  if (existing->digest() != digest.view()) {
    return absl::AlreadyExistsError(absl::StrFormat(
        "%s exists with other content (digest %s, not %s); delete it first or use another name",
        checkpoint.name, Digest::FromBytes(existing->digest()).Hex().substr(0, 12),
        digest.Hex().substr(0, 12)));
  }
  same = *std::move(existing);
  return absl::OkStatus();
}

absl::StatusOr<Ledger::Committed> Ledger::Commit(const Checkpoint& checkpoint,
                                                 const v1::StoredManifest& manifest,
                                                 const ChunkSizes& chunks) {
  const Digest digest = ContentDigest(manifest, checkpoint.facts);
  // First the chunks, then the batch that makes them count. The batch's own sync would cover them too, but it
  // happens under the lock, and now little is left for it to wait for.
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  Committed committed;
  std::optional<v1::StoredCheckpoint> same;
  {
    const MutexLock lock(mutex_);
    BDH_RETURN_IF_ERROR(CheckName(checkpoint, digest, same));
    if (!same.has_value()) {
      committed.record = NewRecord(checkpoint, digest, state_.sequence() + 1, options_.clock());
      BDH_ASSIGN_OR_RETURN(committed.new_bytes, CommitNew(committed.record, manifest, chunks));
      return committed;
    }
  }
  Release(chunks);
  committed.record = *std::move(same);
  return committed;
}

absl::Status Ledger::Unlist(std::string_view name, v1::StoredCheckpoint& record) {
  const MutexLock lock(mutex_);
  BDH_ASSIGN_OR_RETURN(record, catalog_.Find(name));
  BDH_ASSIGN_OR_RETURN(const std::vector<std::string> tags, catalog_.TagsOf(name));
  if (!tags.empty()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("tag \"%s\" points to %s; move or delete the tag first", tags.front(), name));
  }
  const std::string id_key = IdKey(record.id());
  rocksdb::WriteBatch batch;
  batch.Delete(database_[Table::kCheckpoints], ToSlice(name));
  batch.Delete(database_[Table::kOrder], id_key);
  batch.Put(database_[Table::kPending], PendingManifest(id_key), "");
  v1::StoredState next = state_;
  next.set_checkpoints(state_.checkpoints() - 1);
  return Apply(batch, std::move(next));
}

absl::StatusOr<int64_t> Ledger::Delete(std::string_view name) {
  BDH_RETURN_IF_ERROR(CheckCheckpointName(name));
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  v1::StoredCheckpoint record;
  BDH_RETURN_IF_ERROR(Unlist(name, record));
  auto freed = Collect(record.id());
  if (!freed.ok()) {
    // The checkpoint is gone, as was asked; the rest of the work is written down and done by the next start.
    BDH_LOG(WARNING) << "deleted " << name
                     << " but its chunks stay until the next start: " << freed.status().message();
    return 0;
  }
  return freed;
}

absl::Status Ledger::CheckExpected(std::string_view tag, const std::optional<std::string>& expected,
                                   const std::string& current) const {
  const std::string now = current.empty() ? "-" : current;
  if (!expected.has_value() || *expected == now) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrFormat("tag \"%s\" %s, not %s", tag,
                      current.empty() ? "does not exist" : absl::StrFormat("points to %s", current),
                      *expected == "-" ? "absent" : *expected));
}

absl::StatusOr<Tag> Ledger::SetTag(std::string_view tag, std::string_view reference,
                                   const std::optional<std::string>& expected) {
  BDH_RETURN_IF_ERROR(CheckTagName(tag));
  if (expected.has_value() && *expected != "-") {
    BDH_RETURN_IF_ERROR(Annotate(CheckCheckpointName(*expected), "expected_checkpoint"));
  }
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  const MutexLock lock(mutex_);
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(reference));
  const auto bytes = database_.Get(Table::kTags, tag);
  if (!bytes.ok() && !absl::IsNotFound(bytes.status())) return bytes.status();
  v1::StoredTag stored;
  if (bytes.ok() && !stored.ParseFromString(*bytes)) {
    return absl::DataLossError(absl::StrFormat("the record of tag \"%s\" is damaged", tag));
  }
  BDH_RETURN_IF_ERROR(CheckExpected(tag, expected, stored.checkpoint()));
  v1::StoredState next = state_;
  if (!bytes.ok()) {
    if (state_.tags() >= static_cast<uint64_t>(options_.max_tags)) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("there are %d tags, as many as the store keeps; delete one", state_.tags()));
    }
    next.set_tags(state_.tags() + 1);
  }
  const absl::Time now = options_.clock();
  stored.set_checkpoint(record.name());
  stored.set_update_time_us(absl::ToUnixMicros(now));
  rocksdb::WriteBatch batch;
  batch.Put(database_[Table::kTags], ToSlice(tag), stored.SerializeAsString());
  BDH_RETURN_IF_ERROR(Apply(batch, std::move(next)));
  return Tag{.name = std::string(tag),
             .checkpoint = record.name(),
             .update_time = absl::FromUnixMicros(absl::ToUnixMicros(now))};
}

absl::Status Ledger::DeleteTag(std::string_view tag) {
  BDH_RETURN_IF_ERROR(CheckTagName(tag));
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  const MutexLock lock(mutex_);
  const absl::Status present = database_.Get(Table::kTags, tag).status();
  if (absl::IsNotFound(present)) {
    return absl::NotFoundError(absl::StrFormat("there is no tag \"%s\"", tag));
  }
  BDH_RETURN_IF_ERROR(present);
  rocksdb::WriteBatch batch;
  batch.Delete(database_[Table::kTags], ToSlice(tag));
  v1::StoredState next = state_;
  next.set_tags(state_.tags() - 1);
  return Apply(batch, std::move(next));
}

void Ledger::MarkDamaged(const Digest& digest) {
  const MutexLock lock(mutex_);
  damaged_.insert(digest);
  // Uploads in flight that trust it would commit the damage: their commit is refused, the next try writes it.
  if (const auto held = held_.find(digest); held != held_.end()) held->second.stored = false;
}

Store::Totals Ledger::totals() const {
  const MutexLock lock(mutex_);
  return {.checkpoints = static_cast<int64_t>(state_.checkpoints()),
          .tags = static_cast<int64_t>(state_.tags()),
          .stored_bytes = static_cast<int64_t>(state_.stored_bytes()),
          .uploads = uploads_};
}

}  // namespace bdh::store
