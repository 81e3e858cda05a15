#include "bdh/store/store.h"

#include <atomic>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "audit.h"
#include "backup.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "blob.h"
#include "catalog.h"
#include "chunks.h"
#include "compactor.h"
#include "database.h"
#include "high_water.h"
#include "intake.h"
#include "integrity.h"
#include "ledger.h"
#include "manifest.h"
#include "named_uploads.h"
#include "notes.h"
#include "packs.h"
#include "reader.h"
#include "retention.h"
#include "scrubber.h"
#include "upload.h"
#include "usage.h"

namespace bdh::store {
namespace {

constexpr uint32_t kFormat = 2;
constexpr size_t kMaxBlobLabel = 256;
constexpr size_t kSweepSlice = 64;  // Few, so that uploads are not kept waiting.

absl::StatusOr<std::shared_ptr<void>> LockFolder(Files& files, const std::string& folder) {
  BDH_RETURN_IF_ERROR(Annotate(files.MakeFolder(folder), "the store's data folder cannot be made"));
  auto lock = files.Lock(
      folder + "/lock",
      absl::StrFormat("data folder %s is in use by another bdh-checkpoint-store; stop that one or choose "
                      "another checkpoint_store.data_dir",
                      folder));
  if (lock.ok() || absl::IsFailedPrecondition(lock.status())) return lock;
  return Annotate(lock.status(), absl::StrFormat("data folder %s cannot be written", folder));
}

// The store's own record; a new one if there is none and nothing says that there should be.
absl::StatusOr<v1::StoredState> ReadState(const Database& database, const HighWater& high_water) {
  const auto bytes = database.Get(Table::kState, kStateKey);
  v1::StoredState state;
  if (bytes.ok()) {
    if (!state.ParseFromString(*bytes)) return absl::DataLossError("the record of the store is damaged");
    return state;
  }
  if (!absl::IsNotFound(bytes.status())) return bytes.status();
  if (high_water.value() > 0) return absl::DataLossError("the record of the store is gone");
  state.set_format(kFormat);
  return state;
}

absl::Status CheckCount(const Database& database, Table table, std::string_view what, uint64_t want) {
  BDH_ASSIGN_OR_RETURN(const uint64_t count, database.CountKeys(table));
  if (count == want) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("there are %d %s where %d were committed", count, what, want));
}

// Whether all that was ever acknowledged is there.
absl::Status CheckState(const Database& database, const v1::StoredState& state, const HighWater& high_water) {
  if (state.format() > kFormat) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "it was written in format %d by a newer version; this one knows %d: use the newer one",
        state.format(), kFormat));
  }
  if (state.format() == kFormat && database.lacked_tables()) {
    return absl::DataLossError("one of its tables is gone");
  }
  if (state.sequence() < high_water.value()) {
    return absl::DataLossError(
        absl::StrFormat("its last %d changes are lost: the log is damaged or a file was replaced",
                        high_water.value() - state.sequence()));
  }
  BDH_RETURN_IF_ERROR(CheckCount(database, Table::kCheckpoints, "checkpoints", state.checkpoints()));
  BDH_RETURN_IF_ERROR(CheckCount(database, Table::kOrder, "listed checkpoints", state.checkpoints()));
  return CheckCount(database, Table::kTags, "tags", state.tags());
}

// Looks before anything is written: opening for writing would make what a damaged log has lost final.
absl::Status Inspect(const Store::Options& options, const std::string& folder, const HighWater& high_water) {
  auto database = Database::Open(*options.files, folder, Database::Mode::kReadOnly, false, options.env);
  BDH_RETURN_IF_ERROR(database.status());
  BDH_ASSIGN_OR_RETURN(const v1::StoredState state, ReadState(**database, high_water));
  return CheckState(**database, state, high_water);
}

absl::Status InWords(const absl::Status& status, const std::string& folder) {
  if (!absl::IsDataLoss(status)) return Annotate(status, absl::StrFormat("checkpoint store in %s", folder));
  return absl::DataLossError(
      absl::StrFormat("checkpoint store in %s is damaged: %s. Nothing was changed; restore the folder from a "
                      "backup (libs/store/README.md)",
                      folder, status.message()));
}

absl::StatusOr<std::unique_ptr<Database>> OpenDatabase(const Store::Options& options,
                                                       const HighWater& high_water) {
  const std::string folder = options.folder + "/db";
  BDH_ASSIGN_OR_RETURN(const bool exists, Database::Exists(*options.files, folder));
  if (!exists && high_water.value() > 0) return absl::DataLossError("its database is gone");
  // A store with no change yet may have been cut off while it was made: then making it goes on.
  if (exists && high_water.value() > 0) BDH_RETURN_IF_ERROR(Inspect(options, folder, high_water));
  return Database::Open(*options.files, folder, Database::Mode::kReadWrite,
                        /*create=*/high_water.value() == 0, options.env);
}

// A folder of an older format becomes one of this format with the first change, which is this one.
absl::Status RaiseFormat(const Database& database, Ledger& ledger) {
  if (ledger.format() == kFormat) return absl::OkStatus();
  const auto raise = [&](Draft& draft) {
    uint64_t bytes = 0;
    const auto records = database.NewIterator(Table::kCheckpoints);
    for (records->SeekToFirst(); records->Valid(); records->Next()) {
      const auto record = ParseRecord(ToView(records->value()));
      if (record.ok()) bytes += record->size_bytes();
    }
    draft.state.set_logical_bytes(bytes);
    draft.state.set_format(kFormat);
    return database.ToStatus(records->status(), "walk the checkpoints");
  };
  BDH_LOG(INFO) << "the store is taken over from format " << ledger.format();
  return ledger.Apply(raise).status();
}

}  // namespace

class Store::Impl {
 public:
  Impl(Options given, std::shared_ptr<void> lock, std::unique_ptr<Database> database,
       std::unique_ptr<Packs> packs, v1::StoredState state, HighWater high_water)
      : options(std::move(given)),
        lock_(std::move(lock)),
        database_(std::move(database)),
        packs_(std::move(packs)),
        catalog(*database_),
        chunks(options, *database_, *packs_),
        ledger(options, *database_, catalog, chunks, std::move(state), std::move(high_water)),
        helpers(options.helper_threads),
        notes(options, *database_, catalog, ledger),
        retention(*database_, catalog, chunks, ledger),
        integrity(*database_, catalog, chunks, ledger),
        compactor(options, *database_, chunks, ledger) {}

  Database& database() { return *database_; }

  absl::Status Recover() {
    BDH_RETURN_IF_ERROR(RaiseFormat(*database_, ledger));
    BDH_RETURN_IF_ERROR(chunks.WalkIndex(nullptr, "", [&](const Digest&, const v1::StoredChunk& where) {
      packs_->AddLive(where);
      return true;
    }));
    BDH_ASSIGN_OR_RETURN(Ledger::Recovered recovered, ledger.Recover());
    named_uploads.emplace(options, ledger, std::move(recovered.uploads));
    if (packs_->FinishAccounting()) BDH_RETURN_IF_ERROR(NameLosses());
    scrubber.emplace(options, *database_, chunks, ledger, integrity);
    compactor.Request();  // Packs that a crash left without an owner go, and old chunks are taken over.
    return absl::OkStatus();
  }

  void AfterCommit(const std::string& checkpoint) { retention.AfterCommit(checkpoint); }

  absl::StatusOr<GarbageProgress> Collect(bool dry_run,
                                          const std::function<bool(const GarbageProgress&)>& progress) {
    if (!dry_run) named_uploads->Expire();
    GarbageProgress done;
    std::vector<std::pair<Digest, int64_t>> slice;
    absl::Status status;
    const auto sweep = [&] {
      const auto freed = ledger.FreeUnheld(slice, dry_run);
      status = freed.status();
      if (freed.ok()) {
        done.chunks_seen += static_cast<int64_t>(slice.size());
        done.chunks_freed += freed->chunks;
        done.freed_bytes += freed->bytes;
      }
      slice.clear();
      if (status.ok() && progress && !progress(done)) {
        status = absl::CancelledError("the collection was broken off");
      }
      return status.ok();
    };
    const Snapshot snapshot(*database_);
    BDH_RETURN_IF_ERROR(chunks.Walk(snapshot.get(), "", [&](const Digest& digest, int64_t size) {
      slice.emplace_back(digest, size);
      return slice.size() < kSweepSlice || sweep();
    }));
    if (status.ok()) sweep();
    BDH_RETURN_IF_ERROR(status);
    return done;
  }

  // Says which packs lack chunks. Those of unfinished uploads, which a power cut may have cut off, are no
  // longer in the index.
  absl::Status NameLosses() const {
    std::map<uint64_t, int64_t> lost;
    BDH_RETURN_IF_ERROR(chunks.WalkIndex(nullptr, "", [&](const Digest&, const v1::StoredChunk& where) {
      if (!packs_->MayHave(where)) ++lost[where.pack()];
      return true;
    }));
    for (const auto& [pack, count] : lost) {
      BDH_LOG(ERROR) << absl::StrFormat(
          "damaged: pack %016x is missing or too short: %d chunks of it are not served; run a verify", pack,
          count);
    }
    return absl::OkStatus();
  }

  // Declared in the order they are built; destroyed in reverse.
  const Options options;

 private:
  const std::shared_ptr<void> lock_;
  const std::unique_ptr<Database> database_;
  const std::unique_ptr<Packs> packs_;

 public:
  const Catalog catalog;
  Chunks chunks;
  Ledger ledger;
  Helpers helpers;
  Notes notes;
  Retention retention;
  Integrity integrity;
  std::optional<NamedUploads> named_uploads;  // Made of what recovery finds.
  std::atomic<bool> collecting{false};
  Compactor compactor;
  std::optional<Scrubber> scrubber;  // After recovery.
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(Options options) {
  const std::string folder = options.folder;
  Files& files = *options.files;
  BDH_ASSIGN_OR_RETURN(std::shared_ptr<void> lock, LockFolder(files, folder));
  BDH_ASSIGN_OR_RETURN(HighWater high_water, HighWater::Open(files, folder + "/high_water"));
  auto database = OpenDatabase(options, high_water);
  BDH_RETURN_IF_ERROR(InWords(database.status(), folder));
  auto state = ReadState(**database, high_water);
  BDH_RETURN_IF_ERROR(InWords(state.status(), folder));
  BDH_RETURN_IF_ERROR(InWords(CheckState(**database, *state, high_water), folder));
  auto packs = Packs::Open(files, folder + "/packs", options.pack_bytes);
  BDH_RETURN_IF_ERROR(InWords(packs.status(), folder));
  BDH_RETURN_IF_ERROR(InWords(files.SyncFolder(folder), folder));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lock), *std::move(database),
                                     *std::move(packs), *std::move(state), std::move(high_water));
  BDH_RETURN_IF_ERROR(InWords(impl->Recover(), folder));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<Upload>> Store::Begin(Checkpoint checkpoint) {
  BDH_RETURN_IF_ERROR(CheckDescription(impl_->options, checkpoint));
  BDH_RETURN_IF_ERROR(impl_->ledger.BeginUpload());
  v1::StoredManifest parent;
  if (impl_->options.compression == Compression::kDelta && !checkpoint.parent.empty()) {
    // A parent that is not there, or is damaged, is only a chance missed.
    const auto record = impl_->catalog.Find(checkpoint.parent);
    if (record.ok()) {
      auto manifest = impl_->catalog.ManifestOf(*record);
      if (manifest.ok()) parent = *std::move(manifest);
    }
  }
  return std::make_unique<LedgerUpload>(impl_->options, impl_->ledger, impl_->helpers, std::move(checkpoint),
                                        std::move(parent),
                                        [this](const std::string& name) { impl_->AfterCommit(name); });
}

absl::StatusOr<std::unique_ptr<Reader>> Store::Read(std::string_view reference, Selection selection) {
  return DatabaseReader::Open(impl_->database(), impl_->catalog, impl_->chunks, impl_->ledger, reference,
                              selection);
}

absl::StatusOr<Checkpoint> Store::Describe(std::string_view reference) const {
  const Snapshot snapshot(impl_->database());
  return impl_->catalog.Describe(reference, snapshot.get());
}

absl::StatusOr<Store::Page> Store::List(std::string_view run, int size, std::string_view token) const {
  const Snapshot snapshot(impl_->database());
  return impl_->catalog.List(run, size, token, snapshot.get());
}

absl::StatusOr<int64_t> Store::Delete(std::string_view name) {
  BDH_ASSIGN_OR_RETURN(const int64_t freed, impl_->ledger.Delete(name));
  impl_->compactor.Request();
  return freed;
}

absl::StatusOr<Tag> Store::SetTag(std::string_view tag, std::string_view reference,
                                  const std::optional<std::string>& expected) {
  return impl_->ledger.SetTag(tag, reference, expected);
}

absl::Status Store::DeleteTag(std::string_view tag) {
  return impl_->ledger.DeleteTag(tag);
}

absl::StatusOr<std::vector<Tag>> Store::ListTags() const {
  return impl_->catalog.Tags();
}

int64_t Store::chunk_bytes() const {
  return impl_->options.chunk_bytes;
}

absl::StatusOr<std::vector<int>> Store::FindMissingChunks(std::string_view upload,
                                                          const std::vector<std::string>& digests) {
  return impl_->named_uploads->FindMissing(upload, digests);
}

absl::StatusOr<int64_t> Store::PutChunk(std::string_view upload, std::string_view digest,
                                        std::string_view bytes) {
  return impl_->named_uploads->PutChunk(upload, digest, bytes);
}

absl::Status Store::SyncChunks() {
  BDH_RETURN_IF_ERROR(impl_->chunks.Sync());
  return impl_->database().SyncLog();
}

absl::StatusOr<Upload::Result> Store::CommitUpload(std::string_view upload, Checkpoint checkpoint,
                                                   const std::vector<TensorDigests>& chunks,
                                                   const Change& also) {
  BDH_RETURN_IF_ERROR(CheckDescription(impl_->options, checkpoint));
  auto result = impl_->named_uploads->Commit(upload, checkpoint, chunks, also);
  if (result.ok()) impl_->AfterCommit(result->checkpoint.name);
  return result;
}

absl::StatusOr<Store::ChunkList> Store::ListChunks(std::string_view reference) const {
  const Snapshot snapshot(impl_->database());
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, impl_->catalog.Find(reference, snapshot.get()));
  BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, impl_->catalog.ManifestOf(record, snapshot.get()));
  ChunkList list;
  BDH_ASSIGN_OR_RETURN(list.checkpoint, impl_->catalog.Describe(record.name(), snapshot.get()));
  list.chunk_bytes = static_cast<int64_t>(manifest.chunk_bytes());
  for (const v1::StoredTensor& tensor : manifest.tensors()) {
    TensorDigests& digests = list.chunks.emplace_back();
    digests.tensor = tensor.info().name();
    for (int64_t i = 0; i < ChunkCount(tensor.info().size_bytes(), list.chunk_bytes); ++i) {
      digests.digests.emplace_back(DigestAt(tensor, i).view());
    }
  }
  return list;
}

absl::StatusOr<std::vector<TagChange>> Store::TagHistory(std::string_view tag, int limit) const {
  return impl_->notes.TagHistory(tag, limit);
}

absl::Status Store::Annotate(std::string_view reference, const Note& note) {
  return impl_->notes.Annotate(reference, note);
}

absl::StatusOr<Note> Store::GetNote(std::string_view reference) const {
  return impl_->notes.Get(reference);
}

absl::StatusOr<Store::FoundPage> Store::Search(const std::map<std::string, std::string>& labels,
                                               std::string_view run, int size, std::string_view token) const {
  return impl_->notes.Search(labels, run, size, token);
}

absl::StatusOr<Pin> Store::PinCheckpoint(std::string_view reference, std::string_view holder,
                                         absl::Duration duration) {
  return impl_->notes.PinCheckpoint(reference, holder, duration);
}

absl::Status Store::Unpin(std::string_view checkpoint, std::string_view holder) {
  return impl_->notes.Unpin(checkpoint, holder);
}

absl::StatusOr<std::vector<Pin>> Store::ListPins() const {
  return impl_->notes.ListPins();
}

absl::Status Store::SetRetention(std::string_view run, const std::optional<RetentionPolicy>& policy) {
  return impl_->retention.Set(run, policy);
}

absl::StatusOr<RetentionRule> Store::GetRetention(std::string_view run) const {
  return impl_->retention.Get(run);
}

absl::StatusOr<RetentionResult> Store::ApplyRetention(std::string_view run, bool dry_run) {
  auto result = impl_->retention.Apply(run, dry_run);
  if (result.ok() && !dry_run && !result->deleted.empty()) impl_->compactor.Request();
  return result;
}

absl::Status Store::Write(const Change& change) {
  return impl_->ledger.Apply([&](Draft& draft) { return draft.Run(change); }).status();
}

absl::StatusOr<std::optional<std::string>> Store::GetRecord(std::string_view table,
                                                            std::string_view key) const {
  return store::GetRecord(impl_->database(), table, key);
}

absl::StatusOr<std::vector<Record>> Store::ScanRecords(std::string_view table, std::string_view prefix,
                                                       std::string_view after, size_t limit) const {
  return store::ScanRecords(impl_->database(), table, prefix, after, limit);
}

absl::StatusOr<std::unique_ptr<BlobUpload>> Store::BeginBlob(std::string label, int64_t max_bytes) {
  if (label.empty() || label.size() > kMaxBlobLabel) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the label of a blob has %d bytes; want 1 to %d", label.size(), kMaxBlobLabel));
  }
  BDH_RETURN_IF_ERROR(impl_->ledger.BeginUpload());
  return std::make_unique<LedgerBlobUpload>(impl_->options, impl_->ledger, impl_->helpers, std::move(label),
                                            max_bytes);
}

absl::StatusOr<std::unique_ptr<BlobReader>> Store::ReadBlob(uint64_t id) {
  return DatabaseBlobReader::Open(impl_->database(), impl_->chunks, impl_->ledger, id);
}

absl::StatusOr<int64_t> Store::DeleteBlob(uint64_t id, const Change& also) {
  const auto remove = [&](Draft& draft) -> absl::Status {
    BDH_RETURN_IF_ERROR(draft.DeleteBlob(id));
    return draft.Run(also);
  };
  BDH_ASSIGN_OR_RETURN(const int64_t freed, impl_->ledger.Apply(remove));
  if (freed > 0) impl_->compactor.Request();
  return freed;
}

absl::StatusOr<std::vector<Blob>> Store::ListBlobs(uint64_t after_id, size_t limit) const {
  BDH_ASSIGN_OR_RETURN(const auto records, store::ScanRecords(impl_->database(), own::kBlobs, "",
                                                              after_id == 0 ? "" : IdKey(after_id), limit));
  std::vector<Blob> blobs;
  for (const Record& record : records) {
    v1::StoredBlob stored;
    BDH_RETURN_IF_ERROR(ParseRecordInto(record.value, "a blob", stored));
    blobs.push_back(FromStoredBlob(stored));
  }
  return blobs;
}

absl::StatusOr<VerifyResult> Store::Verify(const VerifyOptions& options) {
  return impl_->integrity.Verify(options);
}

absl::StatusOr<std::vector<Damage>> Store::ListDamage(size_t limit) const {
  return impl_->integrity.ListDamage(limit);
}

absl::Status Store::Heal(std::string_view digest, std::string_view bytes) {
  Sha256 sha;
  const Digest real = sha.Of(bytes);
  if (real.view() != digest)
    return absl::InvalidArgumentError("the bytes do not have the digest they came with");
  return impl_->ledger.Heal(real, bytes);
}

absl::StatusOr<GarbageProgress> Store::CollectGarbage(
    bool dry_run, const std::function<bool(const GarbageProgress&)>& progress) {
  if (impl_->collecting.exchange(true)) return absl::AbortedError("a collection is running already");
  const auto result = impl_->Collect(dry_run, progress);
  impl_->collecting = false;
  if (result.ok() && !dry_run) Reclaim();
  return result;
}

absl::StatusOr<Usage> Store::GetUsage() const {
  return MeasureUsage(impl_->database(), impl_->catalog, impl_->chunks, impl_->options.folder,
                      *impl_->options.files);
}

absl::Status Store::BackUp(const std::string& folder,
                           const std::function<bool(const BackUpProgress&)>& progress) {
  return BackUpInto(impl_->options.folder, impl_->database(), impl_->chunks.packs(), impl_->ledger.sequence(),
                    folder, progress);
}

Store::Totals Store::totals() const {
  Totals totals = impl_->ledger.totals();
  totals.named_uploads = impl_->named_uploads->count();
  return totals;
}

Store::Stats Store::stats() const {
  Stats stats = impl_->ledger.stats();
  const Packs::Totals packs = impl_->chunks.packs().totals();
  stats.packs = packs.packs;
  stats.pack_bytes = packs.bytes;
  stats.live_bytes = packs.live_bytes;
  stats.syncs = packs.syncs;
  stats.sync_seconds = packs.sync_seconds;
  stats.disk_free_bytes = impl_->options.files->FreeBytes(impl_->options.folder);
  const Scrubber::State scrub = impl_->scrubber->state();
  stats.scrub_running = scrub.running;
  stats.scrub_part_done = scrub.part_done;
  stats.scrub_rounds = scrub.rounds;
  stats.scrub_bytes = scrub.bytes;
  stats.scrub_last_end = scrub.last_round_end;
  return stats;
}

absl::StatusOr<Store::Audit> Store::Check() const {
  return CheckEverything(impl_->database(), impl_->catalog, impl_->chunks);
}

absl::Status Store::Flush() {
  return impl_->database().Flush();
}

void Store::Reclaim() {
  impl_->compactor.Request();
  impl_->compactor.Wait();
}

}  // namespace bdh::store
