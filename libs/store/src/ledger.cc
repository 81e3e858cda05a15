// Names: checkpoints appear, tags move, checkpoints go.
#include "ledger.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "blob.h"
#include "manifest.h"
#include "notes.h"

namespace bdh::store {

Ledger::Ledger(const Store::Options& options, Database& database, const Catalog& catalog, Chunks& chunks,
               v1::StoredState state, HighWater high_water)
    : options_(options),
      database_(database),
      catalog_(catalog),
      chunks_(chunks),
      state_(std::move(state)),
      high_water_(std::move(high_water)) {}

absl::Status Ledger::Finish(Draft& draft) {
  draft.state.set_sequence(state_.sequence() + 1);
  draft.batch.Put(database_[Table::kState], kStateKey, draft.state.SerializeAsString());
  BDH_RETURN_IF_ERROR(database_.WriteDurably(draft.batch));
  state_ = draft.state;
  high_water_.Raise(state_.sequence());
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Ledger::Apply(const std::function<absl::Status(Draft&)>& change) {
  // Most of what stands in the log is synced before the lock is taken, so that others wait less.
  BDH_RETURN_IF_ERROR(database_.SyncLog());
  std::optional<Draft> draft;
  {
    const MutexLock lock(mutex_);
    draft.emplace(database_, state_);
    BDH_RETURN_IF_ERROR(change(*draft));
    BDH_RETURN_IF_ERROR(Finish(*draft));
  }
  return CollectUnlisted(*draft);
}

int64_t Ledger::CollectUnlisted(const Draft& draft) {
  int64_t bytes = 0;
  for (const uint64_t id : draft.unlisted()) {
    const auto freed = Collect(id);
    if (freed.ok()) {
      bytes += *freed;
    } else {
      // It is gone, as was asked; the rest of the work is written down and done by the next start.
      BDH_LOG(WARNING) << "chunks of what was deleted stay until the next start: "
                       << freed.status().message();
    }
  }
  return bytes;
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
                                                 const v1::StoredManifest& manifest, const ChunkSizes& chunks,
                                                 const Change& also) {
  const Digest digest = ContentDigest(manifest, checkpoint.facts);
  // First the chunks, then the batch that makes them count.
  BDH_RETURN_IF_ERROR(chunks_.Sync());
  Committed committed;
  std::optional<v1::StoredCheckpoint> same;
  std::optional<Draft> draft;
  {
    const MutexLock lock(mutex_);
    BDH_RETURN_IF_ERROR(CheckName(checkpoint, digest, same));
    draft.emplace(database_, state_);
    if (!same.has_value()) {
      committed.record = NewRecord(checkpoint, digest, state_.sequence() + 1, options_.clock());
      const v1::StoredCheckpoint& record = committed.record;
      draft->batch.Put(database_[Table::kCheckpoints], record.name(), record.SerializeAsString());
      draft->batch.Put(database_[Table::kOrder], IdKey(record.id()), record.name());
      draft->state.set_checkpoints(state_.checkpoints() + 1);
      draft->state.set_logical_bytes(state_.logical_bytes() + record.size_bytes());
      BDH_ASSIGN_OR_RETURN(committed.new_bytes,
                           ClaimChunks(record.id(), record.name(), manifest, chunks, *draft));
    }
    BDH_RETURN_IF_ERROR(draft->Run(also));
    if (!same.has_value() || also) {
      BDH_RETURN_IF_ERROR(Finish(*draft));
    }
    if (!same.has_value()) ReleaseCommitted(chunks);
  }
  CollectUnlisted(*draft);
  if (same.has_value()) {
    Release(chunks);
    committed.record = *std::move(same);
  }
  return committed;
}

absl::StatusOr<Ledger::CommittedBlob> Ledger::CommitBlob(v1::StoredBlob blob,
                                                         const v1::StoredManifest& manifest,
                                                         const ChunkSizes& chunks,
                                                         const BlobUpload::Owner& also) {
  BDH_RETURN_IF_ERROR(chunks_.Sync());
  CommittedBlob committed;
  std::optional<Draft> draft;
  {
    const MutexLock lock(mutex_);
    draft.emplace(database_, state_);
    const absl::Time now = options_.clock();
    blob.set_id(state_.sequence() + 1);
    blob.set_create_time_us(absl::ToUnixMicros(now));
    draft->Put(own::kBlobs, IdKey(blob.id()), blob.SerializeAsString());
    draft->state.set_blobs(state_.blobs() + 1);
    draft->state.set_logical_bytes(state_.logical_bytes() + blob.size_bytes());
    BDH_ASSIGN_OR_RETURN(committed.new_bytes, ClaimChunks(blob.id(), blob.label(), manifest, chunks, *draft));
    const Blob made = FromStoredBlob(blob);
    BDH_RETURN_IF_ERROR(draft->Run([&](Transaction& transaction) { return also(transaction, made); }));
    BDH_RETURN_IF_ERROR(Finish(*draft));
    ReleaseCommitted(chunks);
  }
  CollectUnlisted(*draft);
  committed.record = std::move(blob);
  return committed;
}

absl::Status Ledger::Unlist(std::string_view name, Draft& draft) {
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(name));
  BDH_ASSIGN_OR_RETURN(const std::vector<std::string> tags, catalog_.TagsOf(name));
  if (!tags.empty()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("tag \"%s\" points to %s; move or delete the tag first", tags.front(), name));
  }
  BDH_RETURN_IF_ERROR(CheckUnpinned(database_, name, options_.clock(), &draft));
  const std::string id_key = IdKey(record.id());
  draft.batch.Delete(database_[Table::kCheckpoints], ToSlice(name));
  draft.batch.Delete(database_[Table::kOrder], id_key);
  draft.Delete(own::kNotes, id_key);
  draft.state.set_checkpoints(draft.state.checkpoints() - 1);
  draft.state.set_logical_bytes(draft.state.logical_bytes() - record.size_bytes());
  draft.Unlist(record.id());
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Ledger::Delete(std::string_view name) {
  BDH_RETURN_IF_ERROR(CheckCheckpointName(name));
  return Apply([&](Draft& draft) { return Unlist(name, draft); });
}

absl::StatusOr<bool> Ledger::IsPinned(std::string_view name) const {
  const absl::Status unpinned = CheckUnpinned(database_, name, options_.clock());
  if (unpinned.ok() || absl::IsFailedPrecondition(unpinned)) return !unpinned.ok();
  return unpinned;
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
  v1::StoredTag stored;
  const auto set = [&](Draft& draft) -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(reference));
    const auto bytes = database_.Get(Table::kTags, tag);
    if (!bytes.ok() && !absl::IsNotFound(bytes.status())) return bytes.status();
    if (bytes.ok()) {
      BDH_RETURN_IF_ERROR(ParseRecordInto(*bytes, absl::StrFormat("tag \"%s\"", tag), stored));
    }
    BDH_RETURN_IF_ERROR(CheckExpected(tag, expected, stored.checkpoint()));
    if (!bytes.ok()) {
      if (draft.state.tags() >= static_cast<uint64_t>(options_.max_tags)) {
        return absl::ResourceExhaustedError(
            absl::StrFormat("there are %d tags, as many as the store keeps; delete one", draft.state.tags()));
      }
      draft.state.set_tags(draft.state.tags() + 1);
    }
    stored.set_checkpoint(record.name());
    stored.set_update_time_us(absl::ToUnixMicros(options_.clock()));
    draft.batch.Put(database_[Table::kTags], ToSlice(tag), stored.SerializeAsString());
    return NoteTagChange(tag, stored, draft);
  };
  BDH_RETURN_IF_ERROR(Apply(set).status());
  return Tag{.name = std::string(tag),
             .checkpoint = stored.checkpoint(),
             .update_time = absl::FromUnixMicros(stored.update_time_us())};
}

absl::Status Ledger::DeleteTag(std::string_view tag) {
  BDH_RETURN_IF_ERROR(CheckTagName(tag));
  const auto remove = [&](Draft& draft) -> absl::Status {
    const absl::Status present = database_.Get(Table::kTags, tag).status();
    if (absl::IsNotFound(present)) {
      return absl::NotFoundError(absl::StrFormat("there is no tag \"%s\"", tag));
    }
    BDH_RETURN_IF_ERROR(present);
    draft.batch.Delete(database_[Table::kTags], ToSlice(tag));
    draft.state.set_tags(draft.state.tags() - 1);
    v1::StoredTag gone;
    gone.set_update_time_us(absl::ToUnixMicros(options_.clock()));
    return NoteTagChange(tag, gone, draft);
  };
  return Apply(remove).status();
}

Store::Totals Ledger::totals() const {
  const MutexLock lock(mutex_);
  return {.checkpoints = static_cast<int64_t>(state_.checkpoints()),
          .tags = static_cast<int64_t>(state_.tags()),
          .blobs = static_cast<int64_t>(state_.blobs()),
          .stored_bytes = static_cast<int64_t>(state_.stored_bytes()),
          .uploads = uploads_};
}

Store::Stats Ledger::stats() const {
  Store::Stats stats;
  stats.received_bytes = received_bytes_;
  stats.written_bytes = written_bytes_;
  const MutexLock lock(mutex_);
  stats.logical_bytes = static_cast<int64_t>(state_.logical_bytes());
  stats.damaged_chunks = static_cast<int64_t>(damaged_.size());
  return stats;
}

uint64_t Ledger::sequence() const {
  const MutexLock lock(mutex_);
  return state_.sequence();
}

uint32_t Ledger::format() const {
  const MutexLock lock(mutex_);
  return state_.format();
}

}  // namespace bdh::store
