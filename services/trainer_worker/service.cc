#include "services/trainer_worker/service.h"

#include <google/protobuf/text_format.h>

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/config/config.h"
#include "bdh/config/model_config.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(250);  // How soon a cancelled call is noticed.
constexpr int kWatchersMax = 128;
constexpr size_t kRunsListed = 1000;

absl::Status CheckRunName(const std::string& name) {
  if (IsResourceName(name) && name != "runs") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "name is '%s'; want 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, and not "
      "'runs'",
      name.substr(0, 80)));
}

absl::Status CheckTag(const std::string& tag) {
  if (tag.empty()) return absl::OkStatus();
  constexpr char kAllowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._/-";
  const bool good = tag.size() <= 128 && tag.find_first_not_of(kAllowed) == std::string::npos &&
                    !absl::StartsWith(tag, "runs/");
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "tag is '%s'; want 1 to 128 of a-z, 0-9, '.', '_', '/' and '-', not beginning with 'runs/'",
      tag.substr(0, 160)));
}

std::string ValueOf(const google::protobuf::Message& message,
                    const google::protobuf::FieldDescriptor& field) {
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(message, &field, -1, &text);
  return text;
}

// A resumed run keeps its recipe: what `asked` sets must be what `have` holds. vocab_size 0 asks for nothing.
absl::Status CheckUnchanged(const google::protobuf::Message& asked, const google::protobuf::Message& have,
                            std::string_view path, std::string_view except) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  asked.GetReflection()->ListFields(asked, &fields);
  for (const auto* field : fields) {
    const std::string want = ValueOf(asked, *field), has = ValueOf(have, *field);
    const bool nothing = field->name() == "vocab_size" && want == "0";
    if (want == has || nothing || field->name() == except) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.%s is %s, and the run to resume was started with %s; leave it out, or start a "
                        "new run",
                        path, field->name(), want, has));
  }
  return absl::OkStatus();
}

}  // namespace

Trainer::Trainer(Options options, const mesh::Gate& gate, RunBook& book, Runner& runner,
                 const mesh::Peer& data_loader, const mesh::Peer& checkpoint_store)
    : options_(options),
      gate_(gate),
      book_(book),
      runner_(runner),
      data_loader_(data_loader),
      checkpoint_store_(checkpoint_store) {}

void Trainer::ResumeAfterRestart() {
  for (const v1::Run& run : book_.List(SIZE_MAX)) {
    if (IsOver(run.state())) continue;
    auto place = runner_.Reserve(run.name());
    if (place.ok()) {
      BDH_LOG(INFO) << "going on with the run of before run=" << run.name()
                    << " step=" << run.progress().step();
      runner_.Launch(*std::move(place), run, Runner::Start::kAfterRestart);
    } else {
      book_.Finish(run.name(), {.state = v1::Run::STATE_STOPPED,
                                .message = "the worker was restarted and went on with another run"});
    }
  }
}

std::string Trainer::KeyFigure() const {
  const std::string name = runner_.busy_with();
  const auto run = book_.Find(name);
  if (name.empty() || !run.ok()) return "idle";
  return absl::StrFormat("%s step %d/%d loss %.2f", name, run->progress().step(), run->train().max_steps(),
                         run->progress().train_loss());
}

std::string Trainer::ChooseName() const {
  const std::string base = absl::FormatTime("run-%Y%m%d-%H%M%S", absl::Now(), absl::UTCTimeZone());
  std::string name = base;
  for (int i = 2; book_.Find(name).ok(); ++i) name = absl::StrFormat("%s-%d", base, i);
  return name;
}

grpc::Status Trainer::StartRun(grpc::ServerContext* context, const v1::StartRunRequest* request,
                               v1::StartRunResponse* response) {
  return gate_.Run(*context, "StartRun", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(*response->mutable_run(), Start(*request));
    return absl::OkStatus();
  });
}

absl::StatusOr<v1::Run> Trainer::Start(const v1::StartRunRequest& request) {
  const bool resume = request.resume();
  BDH_RETURN_IF_ERROR(CheckTag(request.tag()));
  if (resume || !request.name().empty()) BDH_RETURN_IF_ERROR(CheckRunName(request.name()));
  BDH_ASSIGN_OR_RETURN(v1::Run run, resume ? OldRun(request) : NewRun(request));
  BDH_ASSIGN_OR_RETURN(Runner::Reservation place, runner_.Reserve(run.name()));
  BDH_RETURN_IF_ERROR(FitToDataLoader(run, resume));
  BDH_RETURN_IF_ERROR(CheckMemory(run.model(), run.train(), options_.max_model_bytes));
  run.set_parameter_count(spec::ParameterCount(config::ToSpec(run.model())));
  run.set_state(v1::Run::STATE_STARTING);
  run.mutable_progress()->set_max_steps(run.train().max_steps());
  if (!resume) BDH_RETURN_IF_ERROR(CheckStoreHasNone(run.name()));
  BDH_RETURN_IF_ERROR(resume ? book_.Reopen(run) : book_.Add(run));
  runner_.Launch(std::move(place), run, resume ? Runner::Start::kResume : Runner::Start::kFresh);
  return book_.Find(run.name());
}

absl::StatusOr<v1::Run> Trainer::NewRun(const v1::StartRunRequest& request) const {
  v1::Run run;
  run.set_name(request.name().empty() ? ChooseName() : request.name());
  if (book_.Find(run.name()).ok()) {
    return absl::AlreadyExistsError(absl::StrFormat(
        "run '%s' exists; resume it (bdhctl train start --resume), or choose another name", run.name()));
  }
  if (request.dataset().empty()) {
    return absl::InvalidArgumentError("dataset is empty; `bdhctl data ls` lists what there is");
  }
  run.set_dataset(request.dataset());
  run.set_tag(request.tag());
  *run.mutable_model() = request.model();
  *run.mutable_train() = request.train();
  BDH_RETURN_IF_ERROR(Complete(*run.mutable_model(), *run.mutable_train()));
  return run;
}

absl::StatusOr<v1::Run> Trainer::OldRun(const v1::StartRunRequest& request) {
  absl::StatusOr<v1::Run> found = book_.Find(request.name());
  if (absl::IsNotFound(found.status())) found = RunFromStore(request.name());
  BDH_ASSIGN_OR_RETURN(v1::Run run, std::move(found));
  if (!request.dataset().empty() && request.dataset() != run.dataset()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("dataset is '%s', and run '%s' learns from '%s'; leave it out, or start a new run",
                        request.dataset(), run.name(), run.dataset()));
  }
  BDH_RETURN_IF_ERROR(CheckUnchanged(request.model(), run.model(), "model", ""));
  BDH_RETURN_IF_ERROR(CheckUnchanged(request.train(), run.train(), "train", "max_steps"));
  if (request.train().has_max_steps()) run.mutable_train()->set_max_steps(request.train().max_steps());
  if (!request.tag().empty()) run.set_tag(request.tag());
  BDH_RETURN_IF_ERROR(Complete(*run.mutable_model(), *run.mutable_train()));
  return run;
}

absl::StatusOr<v1::Run> Trainer::RunFromStore(const std::string& name) {
  StoreClient store(checkpoint_store_, {.call_timeout = options_.call_timeout, .patience = {}});
  BDH_ASSIGN_OR_RETURN(const auto newest, store.Newest(name));
  if (!newest) {
    return absl::NotFoundError(
        absl::StrFormat("no run '%s' on this worker, and no checkpoint of it in the store", name));
  }
  v1::Config config;
  BDH_RETURN_IF_ERROR(
      Annotate(config::ReadYaml(newest->config_yaml(), newest->name(), config), "configuration of the run"));
  v1::Run run;
  run.set_name(name);
  run.set_dataset(newest->cursor().dataset());
  run.set_dataset_hash(newest->cursor().dataset_hash());
  run.set_tokenizer(newest->tokenizer());
  run.set_checkpoint(newest->name());
  *run.mutable_model() = config.model();
  *run.mutable_train() = config.train();
  return run;
}

absl::Status Trainer::FitToDataLoader(v1::Run& run, bool resume) {
  const auto stub = v1::DataLoaderService::NewStub(data_loader_.channel());
  v1::DescribeDatasetRequest request;
  request.set_name(run.dataset());
  const auto response =
      data_loader_.Call(*stub, &v1::DataLoaderService::Stub::DescribeDataset, request, options_.call_timeout);
  if (absl::IsNotFound(response.status())) {
    return absl::NotFoundError(absl::StrFormat(
        "no data set '%s'; add one (bdhctl data add %s FILE), or see which there are (bdhctl data ls)",
        run.dataset(), run.dataset()));
  }
  BDH_RETURN_IF_ERROR(response.status());
  const v1::Dataset& dataset = response->dataset();
  if (resume && run.dataset_hash() != dataset.hash()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("data set '%s' has other content now than when run '%s' began; start a new run",
                        run.dataset(), run.name()));
  }
  run.set_dataset_hash(dataset.hash());
  run.set_tokenizer(dataset.tokenizer());
  return FitToDataset(dataset, run.train(), *run.mutable_model());
}

absl::Status Trainer::CheckStoreHasNone(const std::string& name) {
  StoreClient store(checkpoint_store_, {.call_timeout = options_.call_timeout, .patience = {}});
  BDH_ASSIGN_OR_RETURN(const auto newest, store.Newest(name));
  if (!newest) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrFormat("the store holds checkpoints of a run '%s' already (%s); resume it (bdhctl train start "
                      "--resume), or choose another name",
                      name, newest->name()));
}

grpc::Status Trainer::StopRun(grpc::ServerContext* context, const v1::StopRunRequest* request,
                              v1::StopRunResponse* response) {
  return gate_.Run(*context, "StopRun", [&]() -> absl::Status {
    BDH_RETURN_IF_ERROR(Stop(*context, request->name()));
    BDH_ASSIGN_OR_RETURN(*response->mutable_run(), book_.Find(request->name()));
    return absl::OkStatus();
  });
}

absl::Status Trainer::Stop(const grpc::ServerContext& context, const std::string& name) {
  BDH_ASSIGN_OR_RETURN(const v1::Run run, book_.Find(name));
  if (IsOver(run.state())) {
    return absl::FailedPreconditionError(
        absl::StrFormat("run '%s' is not running: its state is %s", name, v1::Run::State_Name(run.state())));
  }
  BDH_RETURN_IF_ERROR(runner_.RequestStop(name));
  while (!context.IsCancelled()) {
    BDH_ASSIGN_OR_RETURN(const RunBook::News news, book_.Wait(name, INT64_MAX, kPoll));
    if (news.over) return absl::OkStatus();
  }
  return absl::CancelledError("the run stops after its step all the same");
}

grpc::Status Trainer::GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                             v1::GetRunResponse* response) {
  return gate_.Run(*context, "GetRun", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(*response->mutable_run(), book_.Find(request->name()));
    return absl::OkStatus();
  });
}

grpc::Status Trainer::ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest*,
                               v1::ListRunsResponse* response) {
  return gate_.Run(*context, "ListRuns", [&] {
    for (v1::Run& run : book_.List(kRunsListed)) *response->add_runs() = std::move(run);
    return absl::OkStatus();
  });
}

grpc::Status Trainer::WatchRun(grpc::ServerContext* context, const v1::WatchRunRequest* request,
                               grpc::ServerWriter<v1::RunEvent>* writer) {
  return gate_.Run(*context, "WatchRun", [&]() -> absl::Status {
    const bool too_many = ++watchers_ > kWatchersMax;
    const absl::Status status =
        too_many ? absl::ResourceExhaustedError(absl::StrFormat("%d watchers are enough", kWatchersMax))
                 : Watch(*context, *request, *writer);
    --watchers_;
    return status;
  });
}

absl::Status Trainer::Watch(const grpc::ServerContext& context, const v1::WatchRunRequest& request,
                            grpc::ServerWriter<v1::RunEvent>& writer) {
  int64_t sequence = request.after_sequence();
  while (!context.IsCancelled()) {
    BDH_ASSIGN_OR_RETURN(const RunBook::News news, book_.Wait(request.name(), sequence, kPoll));
    for (const v1::RunEvent& event : news.events) {
      if (!writer.Write(event)) return absl::CancelledError("the watcher is gone");
      sequence = event.sequence();
    }
    if (news.over) return absl::OkStatus();
  }
  return absl::CancelledError("the watcher is gone");
}

}  // namespace bdh::trainer_worker
