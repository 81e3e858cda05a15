#include "services/trainer_worker/run_book.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::trainer_worker {
namespace {

constexpr size_t kEventsOfARun = 10'000;
constexpr size_t kEventsOfAnOlderRun = 100;
constexpr size_t kEventsAtOnce = 500;

google::protobuf::Timestamp Now() {
  const int64_t nanos = absl::GetCurrentTimeNanos();
  google::protobuf::Timestamp time;
  time.set_seconds(nanos / 1'000'000'000);
  time.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return time;
}

absl::Status NoSuchRun(const std::string& name) {
  return absl::NotFoundError(absl::StrFormat("no run '%s'; `bdhctl train ls` lists them", name));
}

bool Newer(const v1::Run& a, const v1::Run& b) {
  const auto& left = a.start_time();
  const auto& right = b.start_time();
  if (left.seconds() != right.seconds()) return left.seconds() > right.seconds();
  return left.nanos() > right.nanos();
}

}  // namespace

bool IsOver(v1::Run::State state) {
  return state == v1::Run::STATE_STOPPED || state == v1::Run::STATE_FINISHED ||
         state == v1::Run::STATE_FAILED;
}

absl::StatusOr<std::unique_ptr<RunBook>> RunBook::Open(const std::string& data_dir) {
  const std::string folder = data_dir + "/runs";
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(data_dir + "/lock",
                                                        absl::StrFormat("another bdh-trainer-worker uses %s; "
                                                                        "stop it or choose another "
                                                                        "trainer_worker.data_dir",
                                                                        data_dir)));
  auto book = std::unique_ptr<RunBook>(new RunBook(folder, std::move(lock)));
  BDH_RETURN_IF_ERROR(book->Load());
  return book;
}

absl::Status RunBook::Load() {
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error)) {
    if (file.path().extension() == ".pb") BDH_RETURN_IF_ERROR(LoadRecord(file.path().string()));
  }
  if (error) return absl::InternalError(absl::StrFormat("read %s: %s", folder_, error.message()));
  return absl::OkStatus();
}

absl::Status RunBook::LoadRecord(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  Entry entry;
  if (!entry.run.ParseFromString(bytes) || !IsResourceName(entry.run.name())) {
    BDH_LOG(WARNING) << "run record is damaged and was left aside file=" << path;
    return absl::OkStatus();
  }
  // Above every sequence that a watcher of the process before can have seen.
  entry.last_sequence = absl::ToUnixMillis(absl::Now());
  MutexLock lock(mutex_);
  if (IsOver(entry.run.state())) {
    v1::RunEvent event;
    *event.mutable_run() = entry.run;
    Append(entry, std::move(event));
  }
  const std::string name = entry.run.name();
  entries_.insert_or_assign(name, std::move(entry));
  return absl::OkStatus();
}

std::string RunBook::PathOf(const std::string& name) const {
  return absl::StrFormat("%s/%s.pb", folder_, name);
}

absl::Status RunBook::Write(const v1::Run& run) const {
  return WriteFileAtomically(PathOf(run.name()), run.SerializeAsString());
}

absl::Status RunBook::Add(const v1::Run& run) {
  {
    MutexLock lock(mutex_);
    if (entries_.count(run.name()) > 0) {
      return absl::AlreadyExistsError(absl::StrFormat(
          "run '%s' exists; resume it (bdhctl train start --resume), or choose another name", run.name()));
    }
    Entry& entry = entries_[run.name()];
    entry.run = run;
    *entry.run.mutable_start_time() = Now();
    for (auto& [name, other] : entries_) {
      while (name != run.name() && other.events.size() > kEventsOfAnOlderRun) other.events.pop_front();
    }
  }
  BDH_ASSIGN_OR_RETURN(const v1::Run stored, Find(run.name()));
  const absl::Status written = Write(stored);
  if (!written.ok()) {
    MutexLock lock(mutex_);
    entries_.erase(run.name());
  }
  return written;
}

absl::Status RunBook::Reopen(const v1::Run& run) {
  v1::Run reopened = run;
  reopened.set_state(v1::Run::STATE_STARTING);
  reopened.clear_message();
  reopened.clear_end_time();
  reopened.clear_waits_for_store();
  BDH_RETURN_IF_ERROR(Write(reopened));
  MutexLock lock(mutex_);
  Entry& entry = entries_[run.name()];
  entry.run = reopened;
  std::erase_if(entry.events, [](const v1::RunEvent& event) { return event.has_run(); });
  return absl::OkStatus();
}

absl::StatusOr<v1::Run> RunBook::Find(const std::string& name) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return NoSuchRun(name);
  return found->second.run;
}

std::vector<v1::Run> RunBook::List(size_t limit) const {
  std::vector<v1::Run> runs;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, entry] : entries_) runs.push_back(entry.run);
  }
  std::sort(runs.begin(), runs.end(), Newer);
  if (runs.size() > limit) runs.resize(limit);
  return runs;
}

void RunBook::Update(const std::string& name, const std::function<void(v1::Run&)>& change) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(name);
  if (found != entries_.end()) change(found->second.run);
}

void RunBook::WriteChanged(const std::string& name, const std::function<void(v1::Run&)>& change) const {
  absl::StatusOr<v1::Run> run = Find(name);
  if (!run.ok()) return;
  change(*run);
  if (const absl::Status written = Write(*run); !written.ok()) {
    BDH_LOG(ERROR) << "run record was not written run=" << name << " error=" << written.message();
  }
}

void RunBook::UpdateDurably(const std::string& name, const std::function<void(v1::Run&)>& change) {
  WriteChanged(name, change);
  Update(name, change);
}

void RunBook::Finish(const std::string& name, const End& end) {
  const auto change = [&, now = Now()](v1::Run& run) {
    run.set_state(end.state);
    run.set_message(end.message);
    run.set_waits_for_store(end.waits_for_store);
    *run.mutable_end_time() = now;
  };
  WriteChanged(name, change);
  MutexLock lock(mutex_);
  Entry& entry = entries_[name];
  change(entry.run);
  v1::RunEvent event;
  *event.mutable_run() = entry.run;
  Append(entry, std::move(event));
}

void RunBook::Publish(const std::string& name, v1::RunEvent event) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(name);
  if (found != entries_.end()) Append(found->second, std::move(event));
}

void RunBook::Append(Entry& entry, v1::RunEvent event) {
  event.set_sequence(++entry.last_sequence);
  *event.mutable_time() = Now();
  entry.events.push_back(std::move(event));
  if (entry.events.size() > kEventsOfARun) entry.events.pop_front();
  changed_.NotifyAll();
}

absl::StatusOr<RunBook::News> RunBook::Wait(const std::string& name, int64_t sequence,
                                            absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  while (true) {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return NoSuchRun(name);
    const Entry& entry = found->second;
    News news{.events = {}, .over = IsOver(entry.run.state())};
    auto event = std::partition_point(entry.events.begin(), entry.events.end(),
                                      [&](const v1::RunEvent& e) { return e.sequence() <= sequence; });
    for (; event != entry.events.end() && news.events.size() < kEventsAtOnce; ++event) {
      news.events.push_back(*event);
    }
    news.over = news.over && event == entry.events.end();
    if (closed_ && news.events.empty() && !news.over) {
      return absl::UnavailableError("the trainer-worker is leaving; a restarted one goes on with this run");
    }
    const absl::Duration left = deadline - absl::Now();
    if (!news.events.empty() || news.over || left <= absl::ZeroDuration()) return news;
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(left));
  }
}

void RunBook::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

}  // namespace bdh::trainer_worker
