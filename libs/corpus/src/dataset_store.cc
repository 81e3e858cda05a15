#include "bdh/corpus/dataset_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "journal.h"
#include "manifest.h"
#include "order.h"
#include "shared_lock.h"
#include "stream_file.h"

namespace bdh::corpus {
namespace {

constexpr double kDefaultValidationFraction = 0.1;
constexpr double kMaxValidationFraction = 0.5;
constexpr size_t kPartsMax = 64;
constexpr absl::Duration kKeepUnfinished = absl::Hours(24 * 7);
// Below the folder of a data set that is served while it is made.
constexpr char kStreamData[] = "data";

absl::Status CheckName(const std::string& name) {
  if (IsResourceName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "'%s' cannot name a data set; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit", name));
}

absl::Status CheckSpec(const DatasetSpec& spec, double validation_fraction) {
  BDH_RETURN_IF_ERROR(CheckName(spec.name));
  if (!(validation_fraction >= 0 && validation_fraction <= kMaxValidationFraction)) {
    return absl::InvalidArgumentError(absl::StrFormat("validation_fraction is %g; want 0 to %g",
                                                      validation_fraction, kMaxValidationFraction));
  }
  if (spec.order == Order::kWindow) {
    return absl::InvalidArgumentError(
        "the order 'window' is that of streaming data sets and no other; leave it out, or set streaming");
  }
  if (spec.order == Order::kScore && !spec.scored) {
    return absl::InvalidArgumentError(
        "the order 'score' needs documents with a score: name the score column");
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

bool Exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

// Changes when another process replaces the folder. Empty: there is none.
std::string VersionOf(const std::string& folder) {
  struct stat status = {};
  if (stat(folder.c_str(), &status) != 0) return "";
  return absl::StrFormat("%d %d %d %d", status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                         Exists(absl::StrFormat("%s/%s/%s", folder, kStreamData, kManifestFile)));
}

// Whether what lies in staging is worth a second attempt.
bool CanGoOn(const std::string& folder) {
  struct stat status = {};
  return stat(absl::StrFormat("%s/%s", folder, kJournalFile).c_str(), &status) == 0 &&
         absl::TimeFromTimespec(status.st_mtim) > absl::Now() - kKeepUnfinished;
}

std::string LockOf(const std::string& store, std::string_view key) {
  return absl::StrFormat("%s/locks/%s", store, key);
}

absl::Status CheckParts(const std::vector<Dataset::Part>& parts) {
  double sum = 0;
  std::set<std::string> names;
  for (const auto& [dataset, weight] : parts) {
    const DatasetInfo& info = dataset->info();
    if (!(weight > 0 && std::isfinite(weight))) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the weight of part '%s' is %g; want a number over 0", info.name, weight));
    }
    if (!info.parts.empty() || info.streaming) {
      return absl::InvalidArgumentError(
          absl::StrFormat("part '%s' is %s; name data sets with tokens of their own", info.name,
                          info.streaming ? "streaming" : "made of parts itself"));
    }
    const DatasetInfo& first = parts[0].dataset->info();
    if (info.tokenizer != first.tokenizer || info.vocab_size != first.vocab_size ||
        (info.tokenizer != "byte" && info.tokenizer_hash != first.tokenizer_hash)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("part '%s' is of tokenizer %s, and '%s' of %s; all parts need the same one",
                          info.name, info.tokenizer, first.name, first.tokenizer));
    }
    if (!names.insert(info.name).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("part '%s' is named twice; give it a larger weight", info.name));
    }
    sum += weight;
  }
  for (const auto& [dataset, weight] : parts) {
    if (weight / sum >= 1.0 / Schedule::kSlots) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("the weight of part '%s' makes less than one sample in %d; raise it or leave it out",
                        dataset->info().name, Schedule::kSlots));
  }
  return absl::OkStatus();
}

DatasetInfo InfoOfParts(const DatasetSpec& spec, const std::vector<Dataset::Part>& parts) {
  DatasetInfo info = parts[0].dataset->info();
  info.name = spec.name;
  info.order = spec.order.value_or(Order::kRandom);
  info.documents = info.bytes_in = info.train_tokens = info.validation_tokens = 0;
  info.shards.clear();
  info.report = {};
  info.index_sha256 = info.scores_sha256 = "";
  std::string identity = absl::StrFormat("bdh-dataset-parts 1\norder %s\n", OrderName(info.order));
  for (const auto& [dataset, weight] : parts) {
    const DatasetInfo& part = dataset->info();
    info.parts.push_back({part.name, part.hash, weight});
    info.documents += part.documents;
    info.bytes_in += part.bytes_in;
    info.train_tokens += part.train_tokens;
    info.validation_tokens += part.validation_tokens;
    info.scored = info.scored && part.scored;
    identity += absl::StrFormat("%s %.17g\n", part.hash, weight);
  }
  info.hash = Sha256Hex(identity);
  info.create_time = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()));
  return info;
}

}  // namespace

DatasetStore::DatasetStore(Options options, std::unique_ptr<SharedLock> lock)
    : options_(std::move(options)), lock_(std::move(lock)) {}

DatasetStore::~DatasetStore() {
  std::map<std::string, std::unique_ptr<Growth>, std::less<>> growing;
  std::vector<std::unique_ptr<Growth>> grown;
  {
    MutexLock lock(mutex_);
    growing.swap(growing_);
    grown.swap(grown_);
  }
  for (auto& [name, growth] : growing) growth->thread.request_stop();
}

absl::StatusOr<std::unique_ptr<DatasetStore>> DatasetStore::Open(Options options) {
  const std::string folder = options.folder;
  const auto cannot_write = [&](const absl::Status& status) {
    return Annotate(
        status, absl::StrFormat("data_loader.data_dir %s cannot be used; give this user the right to write "
                                "there, or set another folder",
                                folder));
  };
  if (absl::Status made = MakeDirectories(folder); !made.ok()) return cannot_write(made);
  auto lock = SharedLock::Acquire(
      absl::StrFormat("%s/LOCK", folder),
      absl::StrFormat("a bdh-data-loader that shares with nobody uses %s; stop that one or set another "
                      "data_loader.data_dir",
                      folder));
  if (absl::IsFailedPrecondition(lock.status())) return lock.status();
  if (!lock.ok()) return cannot_write(lock.status());
  auto store = std::unique_ptr<DatasetStore>(new DatasetStore(std::move(options), *std::move(lock)));
  if (absl::Status loaded = store->Load(); !loaded.ok()) return cannot_write(loaded);
  return store;
}

absl::Status DatasetStore::Load() {
  const std::string staging = absl::StrFormat("%s/staging", options_.folder);
  BDH_RETURN_IF_ERROR(MakeDirectories(staging));
  BDH_RETURN_IF_ERROR(MakeDirectories(absl::StrFormat("%s/datasets", options_.folder)));
  BDH_RETURN_IF_ERROR(MakeDirectories(absl::StrFormat("%s/locks", options_.folder)));
  BDH_RETURN_IF_ERROR(SyncDirectory(options_.folder));
  ClearStaging(staging);
  MutexLock lock(mutex_);
  RefreshAll();
  for (const auto& [name, entry] : datasets_) {
    if (entry.dataset.ok() || absl::IsUnavailable(entry.dataset.status())) continue;
    BDH_LOG(ERROR) << "data set is damaged name=" << name << " error=" << entry.dataset.status();
  }
  return absl::OkStatus();
}

void DatasetStore::ClearStaging(const std::string& staging) {
  const auto leftovers = NamesIn(staging);
  int removed = 0;
  for (const std::string& key : leftovers.value_or(std::vector<std::string>())) {
    const std::string folder = absl::StrFormat("%s/%s", staging, key);
    const auto free = FileLock::Acquire(LockOf(options_.folder, key), "another process makes it");
    if (!free.ok()) continue;
    if (!CanGoOn(folder)) {
      RemoveAll(folder);
      ++removed;
    }
    unlink(LockOf(options_.folder, key).c_str());
  }
  if (removed > 0) BDH_LOG(INFO) << "removed unfinished data sets count=" << removed;
}

std::string DatasetStore::FolderOf(std::string_view name) const {
  return absl::StrFormat("%s/datasets/%s", options_.folder, name);
}

std::string DatasetStore::StagingFolder(const std::string& key) const {
  return absl::StrFormat("%s/staging/%s", options_.folder, key);
}

std::string DatasetStore::NewStagingFolder() const {
  return StagingFolder(RandomHex(8));
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::OpenAs(const std::string& name) const {
  const std::string folder = FolderOf(name);
  const bool streaming = Exists(absl::StrFormat("%s/%s", folder, kStreamFile));
  const std::string data = streaming ? absl::StrFormat("%s/%s", folder, kStreamData) : folder;
  if (streaming && !Exists(absl::StrFormat("%s/%s", data, kManifestFile))) {
    return absl::UnavailableError(absl::StrFormat(
        "data set '%s' is being tokenized by another data loader; ask that one, or wait until it is done",
        name));
  }
  BDH_ASSIGN_OR_RETURN(auto dataset, Dataset::Open(data));
  if (dataset->info().name != name) {
    return absl::DataLossError(
        absl::StrFormat("%s holds data set '%s'; rename the folder to that", folder, dataset->info().name));
  }
  return dataset;
}

void DatasetStore::Refresh(const std::string& name) const {
  if (growing_.contains(name)) return;
  const std::string version = VersionOf(FolderOf(name));
  const auto known = datasets_.find(name);
  if (version.empty()) {
    if (known != datasets_.end()) datasets_.erase(known);
    return;
  }
  if (known != datasets_.end() && known->second.version == version) return;
  Entry entry = {OpenAs(name), version};
  if (entry.dataset.ok() && !(*entry.dataset)->info().parts.empty()) {
    const DatasetInfo& info = (*entry.dataset)->info();
    std::vector<Dataset::Part> parts;
    for (const DatasetInfo::Part& part : info.parts) {
      auto found = Find(part.dataset);
      if (found.ok() && (*found)->info().hash != part.hash) {
        found = OtherContent(part.dataset, (*found)->info().hash, part.hash);
      }
      if (!found.ok()) {
        entry.dataset = absl::DataLossError(
            absl::StrFormat("part '%s' of data set '%s': %s", part.dataset, name, found.status().message()));
        break;
      }
      parts.push_back({*found, part.weight});
    }
    if (entry.dataset.ok()) entry.dataset = Dataset::WithParts(info, std::move(parts));
  }
  datasets_.insert_or_assign(name, std::move(entry));
}

void DatasetStore::RefreshAll() const {
  const auto names = NamesIn(absl::StrFormat("%s/datasets", options_.folder));
  std::set<std::string> all;
  for (const auto& [name, entry] : datasets_) all.insert(name);
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (IsResourceName(name)) all.insert(name);  // Not ours: ".DS_Store", "lost+found" of another case.
  }
  for (const std::string& name : all) Refresh(name);
}

bool DatasetStore::Contains(std::string_view name) const {
  MutexLock lock(mutex_);
  Refresh(std::string(name));
  return datasets_.contains(name);
}

std::vector<std::shared_ptr<const Dataset>> DatasetStore::List() const {
  MutexLock lock(mutex_);
  RefreshAll();
  std::vector<std::shared_ptr<const Dataset>> out;
  for (const auto& [name, entry] : datasets_) {
    if (entry.dataset.ok()) out.push_back(*entry.dataset);
  }
  return out;
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Get(std::string_view name) const {
  MutexLock lock(mutex_);
  return Find(name);
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Find(std::string_view name) const {
  if (IsResourceName(name)) Refresh(std::string(name));
  if (const auto found = datasets_.find(name); found != datasets_.end()) return found->second.dataset;
  RefreshAll();
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
  std::unique_ptr<Growth> growth;
  {
    MutexLock lock(mutex_);
    RefreshAll();
    const auto found = datasets_.find(name);
    if (found == datasets_.end())
      return absl::NotFoundError(absl::StrFormat("there is no data set '%s'", name));
    for (const auto& [other, entry] : datasets_) {
      if (!entry.dataset.ok()) continue;
      for (const DatasetInfo::Part& part : (*entry.dataset)->info().parts) {
        if (part.dataset != name) continue;
        return absl::FailedPreconditionError(
            absl::StrFormat("data set '%s' is a part of '%s'; delete that one first", name, other));
      }
    }
    if (const auto growing = growing_.find(name); growing != growing_.end()) {
      growth = std::move(growing->second);
      growing_.erase(growing);
    }
    BDH_RETURN_IF_ERROR(Rename(FolderOf(name), away));
    datasets_.erase(found);
    BDH_RETURN_IF_ERROR(SyncDirectory(absl::StrFormat("%s/datasets", options_.folder)));
  }
  if (growth != nullptr) {
    growth->dataset->EndGrowth(absl::NotFoundError(absl::StrFormat("data set '%s' was deleted", name)));
    growth->thread.request_stop();
    growth->thread.join();
  }
  RemoveAll(away);  // Outside the lock: unlinking many shards takes a while.
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Publish(const DatasetInfo& info,
                                                                     const std::string& folder) {
  MutexLock lock(mutex_);
  Refresh(info.name);
  absl::Status renamed = absl::OkStatus();
  if (!datasets_.contains(info.name)) {
    renamed = Rename(folder, FolderOf(info.name));
    if (renamed.ok()) BDH_RETURN_IF_ERROR(SyncDirectory(absl::StrFormat("%s/datasets", options_.folder)));
    Refresh(info.name);
  }
  const auto found = datasets_.find(info.name);
  if (Exists(folder)) RemoveAll(folder);  // Another import of this name was faster.
  if (found == datasets_.end()) return renamed;
  if (!found->second.dataset.ok()) return found->second.dataset.status();
  const std::string& there = (*found->second.dataset)->info().hash;
  if (there != info.hash) return OtherContent(info.name, there, info.hash);
  return found->second.dataset;
}

absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> DatasetStore::FindTokenizer(
    std::string_view name) const {
  const std::string_view wanted = name.empty() ? std::string_view("byte") : name;
  return options_.find_tokenizer != nullptr ? options_.find_tokenizer(wanted) : tokenizer::Find(wanted);
}

absl::StatusOr<DatasetBuilder::Options> DatasetStore::BuilderOptions(const DatasetSpec& spec) const {
  DatasetBuilder::Options options = {
      .name = spec.name,
      .validation_fraction = spec.validation_fraction.value_or(kDefaultValidationFraction),
      .split_rule = spec.split_rule,
      .order = spec.order.value_or(Order::kRandom),
      .scored = spec.scored,
      .shard_tokens = options_.shard_tokens,
      .threads = options_.threads,
      .checkpoint_tokens = std::min(options_.checkpoint_tokens, options_.shard_tokens)};
  BDH_RETURN_IF_ERROR(CheckSpec(spec, options.validation_fraction));
  BDH_ASSIGN_OR_RETURN(options.tokenizer, FindTokenizer(spec.tokenizer));
  const bool has_end = options.tokenizer->end_of_text().has_value();
  options.end_of_text = spec.end_of_text.value_or(has_end);
  if (options.end_of_text && !has_end) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "end_of_text is set, and tokenizer '%s' has no token for it; take another tokenizer, or unset it",
        options.tokenizer->name()));
  }
  return options;
}

// FailedPreconditionError: an import of this or of another process has it.
absl::Status DatasetStore::Claim(const std::string& key, DatasetImport& import) {
  MutexLock lock(mutex_);
  if (importing_.contains(key)) return absl::FailedPreconditionError("it is being made");
  auto alone = FileLock::Acquire(LockOf(options_.folder, key), "another process makes it");
  BDH_RETURN_IF_ERROR(alone.status());
  importing_.insert(key);
  import.key_ = key;
  import.folder_lock_.emplace(*std::move(alone));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DatasetImport>> DatasetStore::Import(const DatasetSpec& given) {
  DatasetSpec spec = given;
  BDH_RETURN_IF_ERROR(BuilderOptions(spec).status());
  const bool taken = Contains(spec.name);
  if (taken) {
    // A damaged one is said at once, before the caller sends everything. What the spec leaves open is as it
    // is.
    BDH_ASSIGN_OR_RETURN(const auto there, Get(spec.name));
    if (spec.split_rule == SplitRule::kAuto) spec.split_rule = there->info().split_rule;
    if (!spec.end_of_text.has_value()) spec.end_of_text = there->info().end_of_text;
    if (!spec.order.has_value() && there->info().order != Order::kWindow) spec.order = there->info().order;
  }
  BDH_ASSIGN_OR_RETURN(DatasetBuilder::Options options, BuilderOptions(spec));
  const bool bytes = options.tokenizer->kind() == tokenizer::Kind::kByte;
  const Identity identity = {.tokenizer = bytes ? "byte" : options.tokenizer->hash(),
                             .validation_fraction = options.validation_fraction,
                             .split_rule = options.split_rule,
                             .end_of_text = options.end_of_text,
                             .order = options.order,
                             .scored = options.scored};
  auto import = std::unique_ptr<DatasetImport>(new DatasetImport(*this, spec.name, identity));
  if (taken) return import;
  // The same spec after a crash finds what there is; the same spec at the same time has its own folder.
  std::string key =
      Sha256Hex(absl::StrFormat("%s\n%s\n%.17g\n%d %d %d %d", spec.name, identity.tokenizer,
                                identity.validation_fraction, static_cast<int>(identity.split_rule),
                                identity.end_of_text, static_cast<int>(identity.order), identity.scored))
          .substr(0, 16);
  if (!Claim(key, *import).ok()) BDH_RETURN_IF_ERROR(Claim(key = RandomHex(8), *import));
  import->folder_ = options.folder = StagingFolder(key);
  BDH_ASSIGN_OR_RETURN(import->builder_, DatasetBuilder::Create(std::move(options)));
  return import;
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Combine(const DatasetSpec& spec,
                                                                     std::vector<DatasetInfo::Part> wanted) {
  BDH_RETURN_IF_ERROR(CheckName(spec.name));
  if (wanted.empty() || wanted.size() > kPartsMax) {
    return absl::InvalidArgumentError(absl::StrFormat("%d parts; want 1 to %d", wanted.size(), kPartsMax));
  }
  std::vector<Dataset::Part> parts;
  for (const DatasetInfo::Part& part : wanted) {
    BDH_ASSIGN_OR_RETURN(auto dataset, Get(part.dataset));
    parts.push_back({std::move(dataset), part.weight});
  }
  BDH_RETURN_IF_ERROR(CheckParts(parts));
  const DatasetInfo info = InfoOfParts(spec, parts);
  if (info.order == Order::kWindow || (info.order == Order::kScore && !info.scored)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the order '%s' does not fit: %s", OrderName(info.order),
        info.order == Order::kWindow ? "it is that of streaming data sets" : "not all parts have scores"));
  }
  const std::string folder = NewStagingFolder();
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrFormat("%s/%s", folder, kManifestFile), ManifestToJson(info)));
  return Publish(info, folder);
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::Stream(const StreamSpec& given) {
  StreamSpec spec = given;
  BDH_RETURN_IF_ERROR(BuilderOptions(spec.dataset).status());
  if (spec.dataset.order.has_value() || spec.dataset.scored || spec.dataset.split_rule == SplitRule::kTail) {
    return absl::InvalidArgumentError(
        "a streaming data set is read in the order 'window' and split by document; leave order, score column "
        "and split rule out");
  }
  MutexLock lock(mutex_);
  Refresh(spec.dataset.name);
  if (const auto found = datasets_.find(spec.dataset.name); found != datasets_.end()) {
    if (!found->second.dataset.ok()) return found->second.dataset.status();
    const auto there = *found->second.dataset;
    BDH_ASSIGN_OR_RETURN(const DatasetBuilder::Options options, BuilderOptions(spec.dataset));
    const std::string hash = StreamHash(spec, options);
    if (there->info().hash != hash) return OtherContent(spec.dataset.name, there->info().hash, hash);
    if (there->complete() || growing_.contains(spec.dataset.name)) {
      // A making that failed is begun again where it ended.
      const auto growth = growing_.find(spec.dataset.name);
      if (growth == growing_.end() || !growth->second->ended) return there;
      growing_.erase(growth);
    }
    return BeginGrowth(spec);
  }
  const std::string folder = NewStagingFolder();
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_RETURN_IF_ERROR(WriteFileAtomically(absl::StrFormat("%s/%s", folder, kStreamFile), StreamToJson(spec)));
  BDH_RETURN_IF_ERROR(Rename(folder, FolderOf(spec.dataset.name)));
  BDH_RETURN_IF_ERROR(SyncDirectory(absl::StrFormat("%s/datasets", options_.folder)));
  return BeginGrowth(spec);
}

std::string DatasetStore::StreamHash(const StreamSpec& spec, const DatasetBuilder::Options& options) {
  const bool bytes = options.tokenizer->kind() == tokenizer::Kind::kByte;
  return Sha256Hex(absl::StrFormat("bdh-stream 1\n%s\n%s\n%.17g\n%d\n", spec.source_hash,
                                   bytes ? std::string("byte") : options.tokenizer->hash(),
                                   options.validation_fraction, options.end_of_text));
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetStore::BeginGrowth(const StreamSpec& spec) {
  const std::string& name = spec.dataset.name;
  if (feeder_ == nullptr) return absl::UnavailableError("the data loader is still starting; try again");
  auto alone =
      FileLock::Acquire(LockOf(options_.folder, name + ".stream"),
                        absl::StrFormat("data set '%s' is being tokenized by another data loader; ask "
                                        "that one, or wait until it is done",
                                        name));
  BDH_RETURN_IF_ERROR(alone.status());
  BDH_ASSIGN_OR_RETURN(DatasetBuilder::Options options, BuilderOptions(spec.dataset));
  options.split_rule = SplitRule::kDocument;
  options.order = Order::kWindow;
  options.streaming_hash = StreamHash(spec, options);
  options.folder = absl::StrFormat("%s/%s", FolderOf(name), kStreamData);
  DatasetInfo info;
  info.name = name;
  info.hash = options.streaming_hash;
  info.tokenizer = std::string(options.tokenizer->name());
  info.tokenizer_hash = options.tokenizer->hash();
  info.vocab_size = options.tokenizer->vocab_size();
  info.token_bytes = TokenBytes(info.vocab_size);
  info.validation_fraction = options.validation_fraction;
  info.split_rule = options.split_rule;
  info.end_of_text = options.end_of_text;
  info.order = Order::kWindow;
  info.streaming = true;
  info.create_time = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()));
  grown_.clear();
  auto growth = std::make_unique<Growth>();
  growth->dataset = Dataset::Growing(info, options.folder);
  growth->spec = spec;
  growth->lock.emplace(*std::move(alone));
  options.on_checkpoint = [dataset = growth->dataset](const DatasetInfo& so_far) {
    return dataset->Grow(so_far);
  };
  const std::shared_ptr<const Dataset> dataset = growth->dataset;
  datasets_.insert_or_assign(name, Entry{dataset, VersionOf(FolderOf(name))});
  Growth& mine = *growth;
  growing_.insert_or_assign(name, std::move(growth));
  mine.thread = std::jthread([this, &mine, options, feeder = feeder_](std::stop_token stop) {
    const absl::Status outcome = Feed(mine, options, feeder, stop);
    if (outcome.ok()) return EndGrowth(options.name);
    if (!stop.stop_requested()) {
      BDH_LOG(WARNING) << "streaming ended name=" << options.name << " error=" << outcome;
    }
    mine.dataset->EndGrowth(outcome);
    mine.ended = true;
  });
  return dataset;
}

absl::Status DatasetStore::Feed(Growth& growth, const DatasetBuilder::Options& options, const Feeder& feeder,
                                std::stop_token stop) {
  BDH_ASSIGN_OR_RETURN(const auto builder, DatasetBuilder::Create(options));
  BDH_ASSIGN_OR_RETURN(Report report, feeder(growth.spec.source, *builder, stop));
  BDH_ASSIGN_OR_RETURN(const DatasetInfo info, builder->Finish(std::move(report)));
  return growth.dataset->Grow(info);
}

// From here on it is a data set like any other.
void DatasetStore::EndGrowth(const std::string& name) {
  MutexLock lock(mutex_);
  const auto found = growing_.find(name);
  if (found == growing_.end()) return;  // Deleted, or the store closes.
  found->second->dataset->EndGrowth(absl::OkStatus());
  found->second->lock.reset();
  grown_.push_back(std::move(found->second));  // This is its thread: it cannot be joined here.
  growing_.erase(found);
  Refresh(name);
}

void DatasetStore::StartStreaming(Feeder feeder) {
  MutexLock lock(mutex_);
  feeder_ = std::move(feeder);
  RefreshAll();
  std::vector<std::string> names;
  for (const auto& [name, entry] : datasets_) {
    if (absl::IsUnavailable(entry.dataset.status())) names.push_back(name);
  }
  for (const std::string& name : names) {
    const std::string path = absl::StrFormat("%s/%s", FolderOf(name), kStreamFile);
    const auto json = ReadFile(path);
    const auto spec = json.ok() ? StreamFromJson(*json, path) : json.status();
    const absl::Status begun = spec.ok() ? BeginGrowth(*spec).status() : spec.status();
    if (begun.ok() || absl::IsFailedPrecondition(begun)) continue;  // Another process is at it.
    BDH_LOG(ERROR) << "cannot go on streaming name=" << name << " error=" << begun;
    datasets_.at(name).dataset = begun;
  }
}

DatasetImport::~DatasetImport() {
  builder_.reset();
  if (key_.empty()) return;
  if (folder_lock_.has_value()) unlink(LockOf(store_.options_.folder, key_).c_str());
  MutexLock lock(store_.mutex_);
  store_.importing_.erase(key_);
}

absl::Status DatasetImport::BeginDocument(std::optional<double> score) {
  ++progress_.documents;
  if (builder_ != nullptr) return builder_->BeginDocument(score);
  hash_.BeginDocument(score.value_or(std::numeric_limits<double>::infinity()));
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
  if (builder_ != nullptr) {
    progress.tokens = builder_->tokens();
    progress.resumed_tokens = builder_->resumed_tokens();
  }
  return progress;
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetImport::Commit(Report report) {
  if (builder_ != nullptr) {
    BDH_ASSIGN_OR_RETURN(const DatasetInfo info, builder_->Finish(std::move(report)));
    return store_.Publish(info, folder_);
  }
  BDH_ASSIGN_OR_RETURN(auto there, store_.Get(name_));  // NotFound: deleted meanwhile.
  const std::string hash = hash_.Finish();
  if (there->info().hash != hash) return OtherContent(name_, there->info().hash, hash);
  return there;
}

}  // namespace bdh::corpus
