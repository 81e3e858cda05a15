// bdhctl train: runs.
#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/trainer.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"
#include "services/bdhctl/train_watch.h"

namespace bdh::bdhctl {
namespace {

using Stub = v1::TrainerService::Stub;

// Building a model and finding its data takes the worker longer than other calls do.
constexpr absl::Duration kStartTimeout = absl::Seconds(60);
// A run that stops finishes its step and saves a checkpoint first.
constexpr absl::Duration kStopTimeout = absl::Minutes(10);

struct StartFlags {
  MeshFlags mesh;
  std::string dataset, name, tag;
  std::vector<std::string> sets;
  bool resume = false, watch = false;
};

struct RunFlags {
  MeshFlags mesh;
  std::string name;
};

// What the run is to be. A new run gets every key, defaults included; one that resumes only what was given,
// because the worker knows the rest.
absl::StatusOr<v1::Config> RunConfig(const StartFlags& flags, const Mesh& mesh) {
  const std::string fallback = mesh.folder.has_value() && !flags.resume ? mesh.folder->ConfigFile() : "";
  const config::LoadOptions options{.file = flags.mesh.config.empty() ? fallback : flags.mesh.config,
                                    .sets = flags.sets,
                                    .environment = config::Environment()};
  BDH_ASSIGN_OR_RETURN(v1::Config checked, LoadConfig(options));
  if (!flags.resume) return checked;
  v1::Config given;
  if (!options.file.empty()) BDH_RETURN_IF_ERROR(config::ReadFileInto(options.file, given));
  for (const std::string& set : flags.sets) BDH_RETURN_IF_ERROR(config::Set(set, "--set", given));
  return given;
}

absl::StatusOr<v1::StartRunRequest> StartRequest(const StartFlags& flags, const Mesh& mesh) {
  BDH_ASSIGN_OR_RETURN(v1::Config config, RunConfig(flags, mesh));
  v1::StartRunRequest request;
  request.set_name(flags.name);
  request.set_dataset(flags.dataset);
  request.set_tag(flags.tag);
  request.set_resume(flags.resume);
  if (config.has_model()) *request.mutable_model() = std::move(*config.mutable_model());
  if (config.has_train()) *request.mutable_train() = std::move(*config.mutable_train());
  return request;
}

std::string StateText(const v1::Run& run) {
  return ToJson(run).at("state").get<std::string>();
}

// How a watched run ended, for a person; its exit code.
int PrintEnd(const v1::Run& run, bool json) {
  const bool failed = run.state() == v1::Run::STATE_FAILED;
  if (json) {
    PrintJsonLine({{"run", ToJson(run)}});
  } else if (!failed) {
    std::cout << absl::StrFormat("Run %s %s: %s\n", run.name(), StateText(run), ProgressText(run.progress()));
    if (!run.checkpoint().empty()) {
      std::cout << "Newest checkpoint: " << run.checkpoint() << "; serve it: bdhctl models load "
                << run.checkpoint() << std::endl;
    }
  }
  if (failed) std::cerr << absl::StrFormat("bdhctl: run %s failed: %s\n", run.name(), run.message());
  if (!failed && !run.message().empty()) {
    std::cerr << absl::StrFormat("bdhctl: run %s did not end by itself: %s\n", run.name(), run.message());
  }
  return failed || run.waits_for_store() ? kExitFailed : kExitOk;
}

absl::StatusOr<int> Watch(const Mesh& mesh, const std::string& name, bool json) {
  BDH_ASSIGN_OR_RETURN(const v1::Run run, WatchRun(mesh, name, json));
  return PrintEnd(run, json);
}

absl::StatusOr<int> RunStart(const StartFlags& flags) {
  if (flags.resume && flags.name.empty()) return absl::InvalidArgumentError("--resume wants --name RUN");
  if (!flags.resume && flags.dataset.empty()) {
    return absl::InvalidArgumentError("--dataset is missing; `bdhctl data ls` lists what is there");
  }
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  BDH_ASSIGN_OR_RETURN(const v1::StartRunRequest request, StartRequest(flags, mesh));
  const mesh::Peer trainer = mesh.Trainer();
  const auto stub = v1::TrainerService::NewStub(trainer.channel());
  BDH_ASSIGN_OR_RETURN(const auto response, trainer.Call(*stub, &Stub::StartRun, request, kStartTimeout));
  const v1::Run& run = response.run();
  if (!flags.mesh.json) {
    std::cout << absl::StrFormat("Run %s: %s parameters on data set %s, %d steps\n", run.name(),
                                 FormatCount(run.parameter_count()), run.dataset(), run.train().max_steps());
  } else if (!flags.watch) {
    PrintJson(ToJson(run));
  }
  if (flags.watch) {
    if (!flags.mesh.json) std::cout << "Ctrl-C ends the watching, not the run." << std::endl;
    return Watch(mesh, run.name(), flags.mesh.json);
  }
  if (!flags.mesh.json) std::cout << "Watch it: bdhctl train watch " << run.name() << std::endl;
  return kExitOk;
}

absl::StatusOr<int> RunWatch(const RunFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  return Watch(mesh, flags.name, flags.mesh.json);
}

absl::StatusOr<int> RunStop(const RunFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer trainer = mesh.Trainer();
  const auto stub = v1::TrainerService::NewStub(trainer.channel());
  v1::StopRunRequest request;
  request.set_name(flags.name);
  BDH_ASSIGN_OR_RETURN(const auto response, trainer.Call(*stub, &Stub::StopRun, request, kStopTimeout));
  const v1::Run& run = response.run();
  if (flags.mesh.json) {
    PrintJson(ToJson(run));
  } else {
    std::cout << absl::StrFormat(
        "Run %s %s at step %d; checkpoint %s. Go on with: bdhctl train start --name %s "
        "--resume\n",
        run.name(), StateText(run), run.progress().step(), run.checkpoint(), run.name());
  }
  return kExitOk;
}

absl::StatusOr<int> RunList(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const mesh::Peer trainer = mesh.Trainer();
  const auto stub = v1::TrainerService::NewStub(trainer.channel());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       trainer.Call(*stub, &Stub::ListRuns, v1::ListRunsRequest(), mesh.call_timeout()));
  if (flags.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"RUN", "STATE", "DATA SET", ">PARAMETERS", ">STEP", ">LOSS", ">VALIDATION", "CHECKPOINT"});
  for (const v1::Run& run : response.runs()) {
    const v1::Progress& progress = run.progress();
    table.Add({run.name(), StateText(run), run.dataset(), FormatCount(run.parameter_count()),
               absl::StrFormat("%d/%d", progress.step(), progress.max_steps()),
               progress.step() > 0 ? absl::StrFormat("%.3f", progress.train_loss()) : "-",
               progress.has_validation_loss() ? absl::StrFormat("%.3f", progress.validation_loss()) : "-",
               run.checkpoint().empty() ? "-" : run.checkpoint()});
  }
  std::cout << table.ToString();
  if (response.runs().empty()) std::cout << "None yet: bdhctl train start --dataset NAME" << std::endl;
  return kExitOk;
}

void DefineStart(CLI::App& command, StartFlags& flags) {
  command.add_option("--dataset", flags.dataset, "Data set to train on")->type_name("NAME");
  command.add_option("--name", flags.name, "Name of the run (default: the worker chooses)")->type_name("RUN");
  command.add_option("--tag", flags.tag, "Tag to move to each new best checkpoint, beside RUN/best")
      ->type_name("TAG");
  command.add_flag("--resume", flags.resume, "Go on with a run that ended, from its newest checkpoint");
  command.add_flag("--watch", flags.watch, "Show progress until the run ends; 1 if it failed");
  AddMeshFlags(command, flags.mesh);
  command.get_option("--config")
      ->description(
          "Sections model and train say what to train and how (default: those `up` was given); a mesh "
          "section says where "
          "the mesh is");
  AddSetFlag(command, flags.sets);
  command.footer(
      "Examples:\n"
      "  bdhctl train start --dataset kjv --config configs/quickstart.yaml --name small --tag small --watch\n"
      "  bdhctl train start --dataset kjv --set model.n_embd=128 --set train.max_steps=500\n"
      "  bdhctl train start --name small --resume --set train.max_steps=2000 --watch");
}

void DefineRun(CLI::App& command, RunFlags& flags) {
  command.add_option("run", flags.name, "Name of the run")->required()->type_name("RUN");
  AddMeshFlags(command, flags.mesh);
}

}  // namespace

void AddTrainCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("train", "Training runs");
  group->require_subcommand(1);
  AddCommand<StartFlags>(*group, invocation, "start", "Start a run, or go on with one", DefineStart,
                         RunStart);
  AddCommand<RunFlags>(*group, invocation, "watch", "Show progress until the run ends; 1 if it failed",
                       DefineRun, RunWatch);
  AddCommand<MeshFlags>(*group, invocation, "ls", "List runs, newest first", AddMeshFlags, RunList);
  AddCommand<RunFlags>(*group, invocation, "stop", "Save a checkpoint and end a run", DefineRun, RunStop);
}

}  // namespace bdh::bdhctl
