#include "services/bdhctl/train_watch.h"

#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/text.h"
#include "bdh/v1/trainer.grpc.pb.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

constexpr absl::Duration kStreamTimeout = absl::Hours(24);
// A supervisor brings a worker back within seconds, Kubernetes within a minute.
constexpr absl::Duration kReconnectPatience = absl::Minutes(2);
constexpr absl::Duration kReconnectPause = absl::Seconds(1);
constexpr int kBarWidth = 20;

// Shows events, and remembers what matters of them.
class Watcher {
 public:
  Watcher(std::string name, bool json) : name_(std::move(name)), json_(json) {}

  void On(const v1::RunEvent& event) {
    sequence_ = std::max(sequence_, event.sequence());
    if (event.has_run()) run_ = event.run();
    if (json_) return PrintJsonLine(ToJson(event));
    if (event.has_progress()) {
      line_.Show(WithBar(event.progress()),
                 /*important=*/event.progress().step() == event.progress().max_steps());
    } else if (!event.checkpoint().empty()) {
      line_.Print("saved " + event.checkpoint());
    }
  }

  void OnLoss(const absl::Status& status) {
    if (!json_) line_.Print(absl::StrFormat("%s; waiting for it", status.message()));
  }

  int64_t sequence() const { return sequence_; }
  const v1::Run& run() const { return run_; }

 private:
  std::string WithBar(const v1::Progress& progress) const {
    const auto step = static_cast<double>(progress.step()), steps = static_cast<double>(progress.max_steps());
    const double fraction = steps > 0 ? step / steps : 0;
    return absl::StrFormat("%s %s %3.0f%%  %s", name_, Bar(fraction, kBarWidth), 100 * fraction,
                           ProgressText(progress));
  }

  const std::string name_;
  const bool json_;
  ProgressLine line_{stdout};
  int64_t sequence_ = 0;
  v1::Run run_;
};

bool IsOver(const v1::Run& run) {
  return run.state() == v1::Run::STATE_STOPPED || run.state() == v1::Run::STATE_FINISHED ||
         run.state() == v1::Run::STATE_FAILED;
}

// One stream, until it ends for whatever reason.
absl::Status Follow(const mesh::Peer& trainer, const std::string& name, Watcher& watcher) {
  const auto stub = v1::TrainerService::NewStub(trainer.channel());
  const auto context = trainer.NewContext(kStreamTimeout);
  v1::WatchRunRequest request;
  request.set_name(name);
  request.set_after_sequence(watcher.sequence());
  const auto stream = stub->WatchRun(context.get(), request);
  v1::RunEvent event;
  while (stream->Read(&event)) watcher.On(event);
  return trainer.Outcome(stream->Finish());
}

}  // namespace

std::string ProgressText(const v1::Progress& progress) {
  std::string text =
      absl::StrFormat("step %d/%d  loss %.3f", progress.step(), progress.max_steps(), progress.train_loss());
  if (progress.has_validation_loss()) text += absl::StrFormat("  val %.3f", progress.validation_loss());
  text += absl::StrFormat("  %s tok/s", FormatCount(static_cast<uint64_t>(progress.tokens_per_second())));
  if (progress.step() < progress.max_steps())
    text += absl::StrFormat("  %s left", FormatDuration(progress.seconds_left()));
  return text;
}

absl::StatusOr<v1::Run> WatchRun(const Mesh& mesh, const std::string& name, bool json) {
  const mesh::Peer trainer = mesh.Trainer();
  Watcher watcher(name, json);
  absl::Time last_heard = absl::Now();
  bool lost = false;
  while (true) {
    const int64_t heard_before = watcher.sequence();
    const absl::Status status = Follow(trainer, name, watcher);
    if (IsOver(watcher.run())) return watcher.run();
    if (!status.ok() && !absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
    if (watcher.sequence() != heard_before) {
      last_heard = absl::Now();
      lost = false;
    }
    if (absl::Now() - last_heard > kReconnectPatience)
      return status.ok() ? absl::UnavailableError("the worker ended the watch") : status;
    if (!lost && !status.ok()) watcher.OnLoss(status);
    lost = true;
    absl::SleepFor(kReconnectPause);
  }
}

}  // namespace bdh::bdhctl
