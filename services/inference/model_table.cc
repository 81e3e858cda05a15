#include "services/inference/model_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/exceptions.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"

namespace bdh::inference {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);

// Errors that pass by themselves: the store starts, or the tag will be set by a run that is not that far.
bool MayPass(absl::StatusCode code) {
  return code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDeadlineExceeded ||
         code == absl::StatusCode::kNotFound || code == absl::StatusCode::kCancelled ||
         code == absl::StatusCode::kUnknown || code == absl::StatusCode::kResourceExhausted;
}

}  // namespace

ModelTable::ModelTable(Options options, const ModelLoader& loader, FileLock lock)
    : options_(std::move(options)), loader_(loader), lock_(std::move(lock)) {}

absl::StatusOr<std::unique_ptr<ModelTable>> ModelTable::Open(Options options, const ModelLoader& loader) {
  BDH_RETURN_IF_ERROR(MakeDirectories(options.data_dir));
  BDH_ASSIGN_OR_RETURN(
      FileLock lock,
      FileLock::Acquire(options.data_dir + "/LOCK",
                        absl::StrFormat("inference.data_dir %s is in use by another bdh-inference; give this "
                                        "one a folder of its own",
                                        options.data_dir)));
  auto table = std::unique_ptr<ModelTable>(new ModelTable(std::move(options), loader, std::move(lock)));
  BDH_RETURN_IF_ERROR(table->ReadList());
  table->restorer_ = std::jthread([raw = table.get()] { raw->Restore(); });
  return table;
}

ModelTable::~ModelTable() {
  Stop();
}

void ModelTable::Stop() {
  stop_.request_stop();
  MutexLock lock(mutex_);
  stopped_.NotifyAll();
}

std::string ModelTable::ListPath() const {
  return options_.data_dir + "/models.json";
}

// {"models":[{"id":"shakespeare","reference":"shakespeare/best"}]}
absl::Status ModelTable::ReadList() {
  MutexLock lock(mutex_);
  for (const std::string& reference : options_.models) {
    wanted_[reference] = {.reference = reference, .from_config = true, .problem = "", .given_up = false};
  }
  const auto text = ReadFile(ListPath());
  if (text.status().code() == absl::StatusCode::kNotFound) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(text.status());
  try {
    const Json list = Json::parse(*text);
    for (const Json& entry : list.at("models")) {
      wanted_[entry.at("id").get<std::string>()] = {.reference = entry.at("reference").get<std::string>(),
                                                    .from_config = false,
                                                    .problem = "",
                                                    .given_up = false};
    }
  } catch (const Json::exception& error) {
    return absl::DataLossError(absl::StrFormat(
        "%s is not a list of models (%s); delete it and load your models again", ListPath(), error.what()));
  }
  return absl::OkStatus();
}

absl::Status ModelTable::WriteList() {
  MutexLock write_lock(write_mutex_);
  std::map<std::string, std::string> remembered;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, wanted] : wanted_) {
      if (!wanted.from_config) remembered[id] = wanted.reference;
    }
    for (const auto& [id, loaded] : models_) {
      if (!loaded->from_config) remembered[id] = loaded->info.reference();
    }
  }
  Json list = {{"models", Json::array()}};
  for (const auto& [id, reference] : remembered) {
    list["models"].push_back({{"id", id}, {"reference", reference}});
  }
  return WriteFileAtomically(ListPath(), list.dump(2) + "\n");
}

// The models serve; that a restart would not know of them is worth a warning, not a refusal.
void ModelTable::Remember() {
  const absl::Status written = WriteList();
  if (written.ok()) return;
  BDH_LOG(WARNING) << "loaded models cannot be remembered error=" << written.message();
}

std::shared_ptr<const LoadedModel> ModelTable::Put(std::shared_ptr<LoadedModel> loaded) {
  const std::string id = loaded->info.id();
  std::shared_ptr<const LoadedModel> replaced = std::exchange(models_[id], std::move(loaded));
  options_.on_count(static_cast<int>(models_.size()));
  return replaced;
}

absl::StatusOr<v1::Model> ModelTable::Load(const std::string& id, const std::string& reference,
                                           const std::function<bool()>& cancelled) {
  BDH_ASSIGN_OR_RETURN(auto loaded, loader_.Load(id, reference, stop_.get_token(), cancelled));
  const v1::Model info = loaded->info;
  std::shared_ptr<const LoadedModel> replaced;
  {
    MutexLock lock(mutex_);
    wanted_.erase(id);
    replaced = Put(std::move(loaded));
  }
  Remember();
  return info;
}

absl::Status ModelTable::Unload(const std::string& id) {
  std::shared_ptr<const LoadedModel> unloaded;  // Freed outside the lock.
  {
    MutexLock lock(mutex_);
    const bool was_wanted = wanted_.erase(id) > 0;
    const auto found = models_.find(id);
    if (found == models_.end() && !was_wanted) {
      return absl::NotFoundError(absl::StrFormat("model '%s' is not loaded", id));
    }
    if (found != models_.end()) {
      unloaded = std::move(found->second);
      models_.erase(found);
    }
    options_.on_count(static_cast<int>(models_.size()));
  }
  BDH_LOG(INFO) << "model unloaded id=" << id;
  Remember();
  return absl::OkStatus();
}

std::vector<v1::Model> ModelTable::List() const {
  MutexLock lock(mutex_);
  std::vector<v1::Model> models;
  for (const auto& [id, loaded] : models_) models.push_back(loaded->info);
  return models;
}

int ModelTable::size() const {
  MutexLock lock(mutex_);
  return static_cast<int>(models_.size());
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelTable::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  if (const auto found = models_.find(id); found != models_.end()) return found->second;
  if (const auto wanted = wanted_.find(id); wanted != wanted_.end()) {
    const auto& [reference, from_config, problem, given_up] = wanted->second;
    const std::string why =
        absl::StrFormat("model '%s' is not loaded: %s", id, problem.empty() ? "it is on its way" : problem);
    // One that is on its way, after a restart for instance, is worth asking for again.
    return given_up ? absl::NotFoundError(why) : absl::UnavailableError(why);
  }
  std::vector<std::string> ids;
  for (const auto& [known, loaded] : models_) ids.push_back(known);
  return absl::NotFoundError(
      absl::StrFormat("model '%s' is not loaded; %s", id,
                      ids.empty() ? std::string("no model is: bdhctl models load REFERENCE loads one")
                                  : absl::StrFormat("loaded are: %s", absl::StrJoin(ids, ", "))));
}

std::vector<std::string> ModelTable::Missing() const {
  MutexLock lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, wanted] : wanted_) {
    if (!wanted.given_up) ids.push_back(id);
  }
  return ids;
}

// Until everything that is wanted is loaded, or refused for good.
void ModelTable::Restore() {
  absl::Duration pause = kFirstPause;
  while (true) {
    const std::vector<std::string> ids = Missing();
    if (ids.empty()) return;
    bool progress = false;
    for (const std::string& id : ids) progress = RestoreOne(id) || progress;
    pause = progress ? kFirstPause : std::min(2 * pause, kLongestPause);
    if (!Pause(pause)) return;
  }
}

// True: it is settled, one way or the other.
bool ModelTable::RestoreOne(const std::string& id) {
  Wanted wanted;
  {
    MutexLock lock(mutex_);
    const auto found = wanted_.find(id);
    if (found == wanted_.end()) return true;  // Loaded or unloaded by request meanwhile.
    wanted = found->second;
  }
  auto loaded = CatchExceptions(
      [&] { return loader_.Load(id, wanted.reference, stop_.get_token(), [] { return false; }); });
  if (stop_.stop_requested()) return false;
  const std::string problem(loaded.status().message());
  if (!loaded.ok() && problem != wanted.problem) {
    BDH_LOG(WARNING) << "model cannot be loaded id=" << id << " status=" << loaded.status().ToString();
  }
  MutexLock lock(mutex_);
  const auto found = wanted_.find(id);
  if (found == wanted_.end()) return true;
  if (!loaded.ok()) {
    found->second.problem = problem;
    found->second.given_up = !MayPass(loaded.status().code());
    return found->second.given_up;
  }
  (*loaded)->from_config = wanted.from_config;
  wanted_.erase(found);
  const auto replaced = Put(*std::move(loaded));  // Nothing: what is wanted is not loaded.
  return true;
}

// False: Stop was called.
bool ModelTable::Pause(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  MutexLock lock(mutex_);
  while (!stop_.stop_requested()) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return true;
    stopped_.WaitFor(mutex_, absl::ToChronoNanoseconds(left));
  }
  return false;
}

}  // namespace bdh::inference
