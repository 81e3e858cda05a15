// The models that can be asked for, and the memory of them across restarts.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/file.h"
#include "bdh/base/mutex.h"
#include "services/inference/loaded_model.h"
#include "services/inference/model_loader.h"

namespace bdh::inference {

// Thread-safe.
class ModelTable {
 public:
  struct Options {
    std::string data_dir;             // Made if it is not there.
    std::vector<std::string> models;  // References to load at start, each under itself as id.
    // Called when the number of loaded models changes.
    std::function<void(int)> on_count = [](int) {};
  };

  // Reads what was loaded before and begins to load it in the background, again and again while the store is
  // away. FailedPreconditionError: another daemon has the folder. DataLossError: its file is not ours.
  static absl::StatusOr<std::unique_ptr<ModelTable>> Open(Options options, const ModelLoader& loader);
  ~ModelTable();  // Stop.

  // Loads under `id`, replacing what has it, and remembers that. On an error nothing has changed.
  absl::StatusOr<v1::Model> Load(const std::string& id, const std::string& reference,
                                 const std::function<bool()>& cancelled);
  absl::Status Unload(const std::string& id);
  // Sorted by id.
  std::vector<v1::Model> List() const;
  int size() const;

  // NotFoundError says what is loaded. UnavailableError: the model is on its way; the message says what it
  // waits for.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Find(const std::string& id) const;

  // Ends loads that are under way.
  void Stop();

 private:
  // To be loaded in the background.
  struct Wanted {
    std::string reference;
    bool from_config = false;
    std::string problem;    // Of the last attempt.
    bool given_up = false;  // It will not pass by itself; the next start tries again.
  };

  ModelTable(Options options, const ModelLoader& loader, FileLock lock);
  absl::Status ReadList();
  absl::Status WriteList();
  void Remember();
  // Returns what it replaced, to be freed outside the lock.
  [[nodiscard]] std::shared_ptr<const LoadedModel> Put(std::shared_ptr<LoadedModel> loaded)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Restore();
  bool RestoreOne(const std::string& id);
  bool Pause(absl::Duration duration);
  std::vector<std::string> Missing() const;
  std::string ListPath() const;

  const Options options_;
  const ModelLoader& loader_;
  const FileLock lock_;
  std::stop_source stop_;
  Mutex write_mutex_;  // One writer of the list at a time, the newest content last.
  mutable Mutex mutex_;
  CondVar stopped_;
  std::map<std::string, std::shared_ptr<const LoadedModel>> models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Wanted> wanted_ ABSL_GUARDED_BY(mutex_);
  std::jthread restorer_;
};

}  // namespace bdh::inference
