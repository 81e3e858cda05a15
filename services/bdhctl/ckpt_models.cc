// bdhctl ckpt average and diff: operations that the store does on models.
#include <algorithm>
#include <iostream>
#include <optional>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "services/bdhctl/ckpt_commands.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

struct AverageFlags {
  MeshFlags mesh;
  std::vector<std::string> references;
  std::vector<double> weights;
  std::string name, run;
  int last = 0;
  std::optional<double> decay;
};

struct DiffFlags {
  MeshFlags mesh;
  std::string left, right;
};

// Those that were named, or a run's last ones, the oldest first.
absl::StatusOr<std::vector<std::string>> References(const AverageFlags& flags, const StoreClient& store) {
  if (flags.references.empty() == flags.run.empty()) {
    return absl::InvalidArgumentError("name the checkpoints, or a run with --run RUN --last N");
  }
  if (flags.run.empty()) return flags.references;
  BDH_ASSIGN_OR_RETURN(const auto all, ListAllCheckpoints(store, flags.run));
  if (flags.last < 2 || all.size() < static_cast<size_t>(flags.last)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--last is %d; run %s has %d checkpoints, and 2 are the least", flags.last, flags.run, all.size()));
  }
  std::vector<std::string> names;
  for (int i = flags.last - 1; i >= 0; --i) names.push_back(all[static_cast<size_t>(i)].name());
  return names;
}

absl::StatusOr<int> RunAverage(const AverageFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const StoreClient store(mesh);
  BDH_ASSIGN_OR_RETURN(const std::vector<std::string> references, References(flags, store));
  v1::AverageCheckpointsRequest request;
  request.mutable_references()->Assign(references.begin(), references.end());
  request.mutable_weights()->Assign(flags.weights.begin(), flags.weights.end());
  if (flags.decay) request.set_decay(*flags.decay);
  request.set_name(flags.name);
  ProgressLine progress(stderr);
  BDH_ASSIGN_OR_RETURN(
      const auto done,
      store.Follow(&AdminStub::AverageCheckpoints, request, [&](const v1::AverageCheckpointsResponse& now) {
        progress.Show(BytesOf(now.bytes_done(), now.bytes_total()));
      }));
  if (flags.mesh.json) {
    PrintJson(ToJson(done.checkpoint()));
  } else {
    std::cout << absl::StrFormat("%s is the average of %d checkpoints: %d tensors, %s\n",
                                 done.checkpoint().name(), references.size(),
                                 done.checkpoint().tensors_size(),
                                 FormatBytes(done.checkpoint().size_bytes()))
              << "Serve it: bdhctl models load " << done.checkpoint().name() << std::endl;
  }
  return kExitOk;
}

std::string Share(const v1::TensorDiff& diff) {
  if (diff.left_norm() == 0) return "-";
  return absl::StrFormat("%.3f%%", 100 * diff.difference_norm() / diff.left_norm());
}

std::vector<std::string> Row(const v1::TensorDiff& diff) {
  if (!diff.has_right()) return {diff.tensor(), "-", "-", "-", "only in LEFT"};
  if (!diff.has_left()) return {diff.tensor(), "-", "-", "-", "only in RIGHT"};
  if (diff.equal()) return {diff.tensor(), "-", "-", "-", "equal"};
  if (!std::equal(diff.left().shape().begin(), diff.left().shape().end(), diff.right().shape().begin(),
                  diff.right().shape().end())) {
    return {diff.tensor(), "-", "-", "-", "another shape"};
  }
  return {diff.tensor(), absl::StrFormat("%.4g", diff.left_norm()),
          absl::StrFormat("%.4g", diff.difference_norm()), absl::StrFormat("%.4g", diff.difference_max()),
          Share(diff)};
}

absl::StatusOr<int> RunDiff(const DiffFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::DiffCheckpointsRequest request;
  request.set_left(flags.left);
  request.set_right(flags.right);
  // Reads both: as long as it takes.
  BDH_ASSIGN_OR_RETURN(const auto response,
                       StoreClient(mesh.Store(), absl::Hours(1)).Call(&AdminStub::DiffCheckpoints, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"TENSOR", ">NORM", ">DIFFERENCE", ">LARGEST", ">CHANGED"});
  for (const v1::TensorDiff& diff : response.tensors()) table.Add(Row(diff));
  std::cout << table.ToString();
  return kExitOk;
}

void DefineAverage(CLI::App& command, AverageFlags& flags) {
  command.add_option("references", flags.references, "2 to 64 checkpoints or tags")->type_name("REF");
  command.add_option("--name", flags.name, "Of the new one: runs/RUN/steps/STEP")
      ->required()
      ->type_name("NAME");
  command.add_option("--weights", flags.weights, "One a checkpoint (default: all alike)")
      ->delimiter(',')
      ->type_name("W,W...");
  command.add_option("--ema", flags.decay, "Instead: an exponential moving average, in the order given")
      ->type_name("DECAY");
  command.add_option("--run", flags.run, "Instead of REF: of this run ...")->type_name("RUN");
  command.add_option("--last", flags.last, "... the newest so many, the oldest of them first")
      ->type_name("N");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Averages the weights; what belongs to optimiser and trainer is left out. The sums are kept in double\n"
      "precision. The new checkpoint can be served and exported, and no run goes on from it.\n\n"
      "Examples:\n"
      "  bdhctl ckpt average runs/a/steps/500 runs/a/steps/600 --name runs/a-mean/steps/600\n"
      "  bdhctl ckpt average --run a --last 5 --ema 0.8 --name runs/a-ema/steps/600");
}

void DefineDiff(CLI::App& command, DiffFlags& flags) {
  command.add_option("left", flags.left, "Checkpoint or tag")->required()->type_name("LEFT");
  command.add_option("right", flags.right, "Checkpoint or tag")->required()->type_name("RIGHT");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "NORM is of LEFT, DIFFERENCE of RIGHT - LEFT, LARGEST of a single number. Tensors of the same chunks "
      "are not\n"
      "read.\n\nExample:\n  bdhctl ckpt diff runs/a/steps/500 a/best");
}

}  // namespace

void AddModelOpCommands(CLI::App& group, Invocation& invocation) {
  AddCommand<AverageFlags>(group, invocation, "average", "Average checkpoints into a new one", DefineAverage,
                           RunAverage);
  AddCommand<DiffFlags>(group, invocation, "diff", "Compare two checkpoints tensor by tensor", DefineDiff,
                        RunDiff);
}

}  // namespace bdh::bdhctl
