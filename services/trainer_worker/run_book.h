// What a worker remembers of its runs: a record each on disk, and what happened lately in memory.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/file.h"
#include "bdh/base/mutex.h"
#include "bdh/v1/trainer.pb.h"

namespace bdh::trainer_worker {

// Whether a run in this state is over.
bool IsOver(v1::Run::State state);

// Thread-safe. No call waits for the disk of another.
class RunBook {
 public:
  // Reads the records under `data_dir`, which is made if it is not there. FailedPreconditionError: another
  // worker has the folder.
  static absl::StatusOr<std::unique_ptr<RunBook>> Open(const std::string& data_dir);

  // AlreadyExistsError.
  absl::Status Add(const v1::Run& run);
  absl::StatusOr<v1::Run> Find(const std::string& name) const;
  // Newest first, at most `limit`.
  std::vector<v1::Run> List(size_t limit) const;

  // Puts a run that is over back to STARTING: forgets its end, keeps its events.
  absl::Status Reopen(const v1::Run& run);
  // Changes a run in memory.
  void Update(const std::string& name, const std::function<void(v1::Run&)>& change);
  // Also on disk before anybody sees it. An error is logged: the run matters more than its record.
  void UpdateDurably(const std::string& name, const std::function<void(v1::Run&)>& change);
  struct End {
    v1::Run::State state = v1::Run::STATE_FINISHED;
    std::string message = "";
    bool waits_for_store = false;
  };
  // Ends a run, durably, and says so to its watchers.
  void Finish(const std::string& name, const End& end);

  // Appends an event; sequence and time are ours.
  void Publish(const std::string& name, v1::RunEvent event);

  struct News {
    std::vector<v1::RunEvent> events;
    bool over = false;  // No more will come.
  };
  // What happened after `sequence`; waits for it at most `timeout`. UnavailableError after Close.
  absl::StatusOr<News> Wait(const std::string& name, int64_t sequence, absl::Duration timeout);
  // Ends all waits: the worker drains.
  void Close();

 private:
  struct Entry {
    v1::Run run;
    std::deque<v1::RunEvent> events;
    int64_t last_sequence = 0;
  };

  RunBook(std::string folder, FileLock lock) : folder_(std::move(folder)), lock_(std::move(lock)) {}
  absl::Status Load();
  absl::Status LoadRecord(const std::string& path);
  std::string PathOf(const std::string& name) const;
  absl::Status Write(const v1::Run& run) const;
  void WriteChanged(const std::string& name, const std::function<void(v1::Run&)>& change) const;
  void Append(Entry& entry, v1::RunEvent event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string folder_;
  const FileLock lock_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace bdh::trainer_worker
