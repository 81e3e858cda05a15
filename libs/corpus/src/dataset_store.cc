#include "bdh/corpus/dataset_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh::corpus {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultValidationFraction = 0.1;
constexpr double kMaxValidationFraction = 0.5;

absl::Status CheckSpec(const DatasetSpec& spec, double validation_fraction) {
  if (!IsResourceName(spec.name)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "'%s' cannot name a data set; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit",
        spec.name));
  }
  if (!(validation_fraction >= 0 && validation_fraction <= kMaxValidationFraction)) {
    return absl::InvalidArgumentError(absl::StrFormat("validation_fraction is %g; want 0 to %g",
                                                      validation_fraction, kMaxValidationFraction));
  }
  return absl::OkStatus();
}

absl::Status OtherContent(const std::string& name, std::string_view there, std::string_view given) {
  return absl::AlreadyExistsError(absl::StrFormat(
      "data set '%s' exists and holds other content (hash %s, not %s); give this one another name, or "
      "delete that one first",
      name, there.substr(0, 12), given.substr(0, 12)));
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("rename %s to %s", from, to));
  }
  return absl::OkStatus();
}

void RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) BDH_LOG(WARNING) << "cannot remove path=" << path << " error=" << error.message();
}

absl::StatusOr<std::vector<std::string>> EntriesOf(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder));
  return names;
}

absl::StatusOr<std::shared_ptr<const Dataset>> OpenAs(const std::string& name, const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(auto dataset, Dataset::Open(folder));
  if (dataset->info().name != name) {
    return absl::DataLossError(
        absl::StrFormat("%s holds data set '%s'; rename the folder to that", folder, dataset->info().name));
  }
  return dataset;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetStore>> DatasetStore::Open(Options options) {
  const std::string folder = options.folder;
  const auto cannot_write = [&](const absl::Status& status) {
    return Annotate(
        status, absl::StrFormat("data_loader.data_dir %s cannot be used; give this user the right to write "
                                "there, or set another folder",
                                folder));
  };
  if (absl::Status made = MakeDirectories(folder); !made.ok()) return cannot_write(made);
  auto lock = FileLock::Acquire(
      absl::StrFormat("%s/LOCK", folder),
      absl::StrFormat("another bdh-data-loader uses %s; stop that one or set another data_loader.data_dir",
                      folder));
  if (absl::IsFailedPrecondition(lock.status())) return lock.status();
  if (!lock.ok()) return cannot_write(lock.status());
  auto store = std::unique_ptr<DatasetStore>(new DatasetStore(std::move(options), *std::move(lock)));
  if (absl::Status loaded = store->Load(); !loaded.ok()) return cannot_write(loaded);
  return store;
}

absl::Status DatasetStore::Load() {
  const std::string staging = absl::StrFormat("%s/staging", options_.folder);
  const std::string datasets = absl::StrFormat("%s/datasets", options_.folder);
  BDH_RETURN_IF_ERROR(MakeDirectories(staging));
  BDH_RETURN_IF_ERROR(MakeDirectories(datasets));
  BDH_RETURN_IF_ERROR(SyncDirectory(options_.folder));

  BDH_ASSIGN_OR_RETURN(const auto leftovers, EntriesOf(staging));
  for (const std::string& name : leftovers) RemoveAll(absl::StrFormat("%s/%s", staging, name));
  if (!leftovers.empty()) BDH_LOG(INFO) << "removed unfinished data sets count=" << leftovers.size();

  BDH_ASSIGN_OR_RETURN(const auto names, EntriesOf(datasets));
  MutexLock lock(mutex_);
  for (const std::string& name : names) {
    if (!IsResourceName(name)) continue;  // Not ours: ".DS_Store", "lost+found" of another case.
    Entry entry = OpenAs(name, FolderOf(name));
    if (!entry.ok()) BDH_LOG(ERROR) << "data set is damaged name=" << name << " error=" << entry.status();
    datasets_.emplace(name, std::move(entry));
  }
  return absl::OkStatus();
}

std::string DatasetStore::FolderOf(std::string_view name) const {
  return absl::StrFormat("%s/datasets/%s", options_.folder, name);
}

std::string DatasetStore::NewStagingFolder() const {
  return absl::StrFormat("%s/staging/%s", options_.folder, RandomHex(8));
}

bool DatasetStore::Contains(std::string_view name) const {
  MutexLock lock(mutex_);
  return datasets_.contains(name);
}

std::vector<std::shared_ptr<const Dataset>> DatasetStore::List() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const Dataset>> out;
  for (const auto& [name, entry] : datasets_) {
    if (entry.ok()) out.push_back(*entry);
  }
  return out;
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Get(std::string_view name) const {
  MutexLock lock(mutex_);
  if (const auto found = datasets_.find(name); found != datasets_.end()) return found->second;
  if (datasets_.empty()) {
    return absl::NotFoundError(
        absl::StrFormat("there is no data set '%s', nor any other yet; create one first", name));
  }
  std::vector<std::string> known;
  for (const auto& [other, entry] : datasets_) {
    if (known.size() == 10) {
      known.push_back("...");
      break;
    }
    known.push_back(other);
  }
  return absl::NotFoundError(
      absl::StrFormat("there is no data set '%s'; there are: %s", name, absl::StrJoin(known, ", ")));
}

absl::Status DatasetStore::Delete(std::string_view name) {
  const std::string away = NewStagingFolder();
  {
    MutexLock lock(mutex_);
    const auto found = datasets_.find(name);
    if (found == datasets_.end())
      return absl::NotFoundError(absl::StrFormat("there is no data set '%s'", name));
    BDH_RETURN_IF_ERROR(Rename(FolderOf(name), away));
    datasets_.erase(found);
    BDH_RETURN_IF_ERROR(SyncDirectory(absl::StrFormat("%s/datasets", options_.folder)));
  }
  RemoveAll(away);  // Outside the lock: unlinking many shards takes a while.
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Publish(const DatasetInfo& info,
                                                                     const std::string& folder) {
  MutexLock lock(mutex_);
  if (const auto found = datasets_.find(info.name); found != datasets_.end()) {
    RemoveAll(folder);  // Another import of this name was faster.
    if (!found->second.ok()) return found->second.status();
    if ((*found->second)->info().hash == info.hash) return found->second;
    return OtherContent(info.name, (*found->second)->info().hash, info.hash);
  }
  absl::Status status = Rename(folder, FolderOf(info.name));
  if (!status.ok()) {
    RemoveAll(folder);
    return status;
  }
  BDH_RETURN_IF_ERROR(SyncDirectory(absl::StrFormat("%s/datasets", options_.folder)));
  Entry entry = OpenAs(info.name, FolderOf(info.name));
  datasets_.emplace(info.name, entry);
  return entry;
}

absl::StatusOr<std::unique_ptr<DatasetImport>> DatasetStore::Import(const DatasetSpec& spec) {
  const double fraction = spec.validation_fraction.value_or(kDefaultValidationFraction);
  BDH_RETURN_IF_ERROR(CheckSpec(spec, fraction));
  BDH_ASSIGN_OR_RETURN(const auto tokenizer,
                       tokenizer::Find(spec.tokenizer.empty() ? std::string_view("byte") : spec.tokenizer));
  auto import =
      std::unique_ptr<DatasetImport>(new DatasetImport(*this, spec.name, tokenizer->name(), fraction));
  if (Contains(spec.name)) {
    // A damaged one is said at once, before the caller sends everything.
    BDH_RETURN_IF_ERROR(Get(spec.name).status());
    return import;
  }
  import->folder_ = NewStagingFolder();
  BDH_ASSIGN_OR_RETURN(import->builder_, DatasetBuilder::Create({.folder = import->folder_,
                                                                 .name = spec.name,
                                                                 .tokenizer = tokenizer,
                                                                 .validation_fraction = fraction,
                                                                 .shard_tokens = options_.shard_tokens}));
  return import;
}

absl::Status DatasetImport::BeginDocument() {
  ++progress_.documents;
  if (builder_ != nullptr) return builder_->BeginDocument();
  hash_.BeginDocument();
  return absl::OkStatus();
}

absl::Status DatasetImport::Append(std::string_view text) {
  const int64_t limit = store_.options_.max_dataset_bytes;
  if (static_cast<int64_t>(text.size()) > limit - progress_.bytes_in) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "data set '%s' is larger than data_loader.max_dataset_bytes, which is %d; raise it or give less "
        "text",
        name_, limit));
  }
  progress_.bytes_in += static_cast<int64_t>(text.size());
  if (builder_ != nullptr) return builder_->Append(text);
  hash_.Append(text);
  return absl::OkStatus();
}

DatasetImport::Progress DatasetImport::progress() const {
  Progress progress = progress_;
  if (builder_ != nullptr) progress.tokens = builder_->tokens();
  return progress;
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetImport::Commit() {
  if (builder_ != nullptr) {
    BDH_ASSIGN_OR_RETURN(const DatasetInfo info, builder_->Finish());
    return store_.Publish(info, folder_);
  }
  BDH_ASSIGN_OR_RETURN(auto there, store_.Get(name_));  // NotFound: deleted meanwhile.
  const std::string hash = hash_.Finish();
  if (there->info().hash != hash) return OtherContent(name_, there->info().hash, hash);
  return there;
}

}  // namespace bdh::corpus
