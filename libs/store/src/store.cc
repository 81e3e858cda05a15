#include "bdh/store/store.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "audit.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "catalog.h"
#include "database.h"
#include "high_water.h"
#include "ledger.h"
#include "manifest.h"
#include "reader.h"
#include "reclaimer.h"
#include "upload.h"

namespace bdh::store {
namespace {

constexpr uint32_t kFormat = 1;

absl::StatusOr<FileLock> LockFolder(const std::string& folder) {
  BDH_RETURN_IF_ERROR(Annotate(MakeDirectories(folder), "the store's data folder cannot be made"));
  auto lock = FileLock::Acquire(
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
absl::Status Inspect(const std::string& folder, const HighWater& high_water) {
  auto database = Database::Open(folder, Database::Mode::kReadOnly, false);
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

absl::StatusOr<std::unique_ptr<Database>> OpenDatabase(const std::string& folder,
                                                       const HighWater& high_water) {
  BDH_ASSIGN_OR_RETURN(const bool exists, Database::Exists(folder));
  if (!exists && high_water.value() > 0) return absl::DataLossError("its database is gone");
  // A store with no change yet may have been cut off while it was made: then making it goes on.
  if (exists && high_water.value() > 0) BDH_RETURN_IF_ERROR(Inspect(folder, high_water));
  return Database::Open(folder, Database::Mode::kReadWrite, /*create=*/high_water.value() == 0);
}

}  // namespace

class Store::Impl {
 public:
  Impl(Options given, FileLock lock, std::unique_ptr<Database> database, v1::StoredState state,
       HighWater high_water)
      : options(std::move(given)),
        lock_(std::move(lock)),
        database_(std::move(database)),
        catalog(*database_),
        ledger(options, *database_, catalog, std::move(state), std::move(high_water)),
        reclaimer(*database_) {}

  Database& database() { return *database_; }

  // Declared in the order they are built; destroyed in reverse.
  const Options options;

 private:
  const FileLock lock_;
  const std::unique_ptr<Database> database_;

 public:
  const Catalog catalog;
  Ledger ledger;
  Reclaimer reclaimer;
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(Options options) {
  const std::string folder = options.folder;
  BDH_ASSIGN_OR_RETURN(FileLock lock, LockFolder(folder));
  BDH_ASSIGN_OR_RETURN(HighWater high_water, HighWater::Open(folder + "/high_water"));
  auto database = OpenDatabase(folder + "/db", high_water);
  BDH_RETURN_IF_ERROR(InWords(database.status(), folder));
  auto state = ReadState(**database, high_water);
  BDH_RETURN_IF_ERROR(InWords(state.status(), folder));
  BDH_RETURN_IF_ERROR(InWords(CheckState(**database, *state, high_water), folder));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lock), *std::move(database),
                                     *std::move(state), std::move(high_water));
  const auto recovered = impl->ledger.Recover();
  BDH_RETURN_IF_ERROR(InWords(recovered.status(), folder));
  if (*recovered > 0) impl->reclaimer.Request();
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<Upload>> Store::Begin(Checkpoint checkpoint) {
  BDH_RETURN_IF_ERROR(CheckDescription(impl_->options, checkpoint));
  BDH_RETURN_IF_ERROR(impl_->ledger.BeginUpload());
  return std::make_unique<LedgerUpload>(impl_->options, impl_->ledger, std::move(checkpoint));
}

absl::StatusOr<std::unique_ptr<Reader>> Store::Read(std::string_view reference, Selection selection) {
  return DatabaseReader::Open(impl_->database(), impl_->catalog, impl_->ledger, reference, selection);
}

absl::StatusOr<Checkpoint> Store::Describe(std::string_view reference) const {
  const Snapshot snapshot(impl_->database());
  return impl_->catalog.Describe(reference, snapshot.get());
}

absl::StatusOr<Store::Page> Store::List(std::string_view run, int size, std::string_view token) const {
  return impl_->catalog.List(run, size, token);
}

absl::StatusOr<int64_t> Store::Delete(std::string_view name) {
  BDH_ASSIGN_OR_RETURN(const int64_t freed, impl_->ledger.Delete(name));
  impl_->reclaimer.Request();
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

Store::Totals Store::totals() const {
  return impl_->ledger.totals();
}

absl::StatusOr<Store::Audit> Store::Check() const {
  return CheckEverything(impl_->database(), impl_->catalog);
}

absl::Status Store::Flush() {
  return impl_->database().Flush();
}

void Store::Reclaim() {
  impl_->reclaimer.Request();
  impl_->reclaimer.Wait();
}

}  // namespace bdh::store
