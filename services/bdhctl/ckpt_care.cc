// bdhctl ckpt verify, gc, retention, rm, df: care for what the store keeps.
#include <algorithm>
#include <iostream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "services/bdhctl/ckpt_commands.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

struct VerifyFlags {
  MeshFlags mesh;
  std::string reference;
  int64_t rate = 0;
};

struct CollectFlags {
  MeshFlags mesh;
  bool dry_run = false;
};

struct RetentionFlags {
  MeshFlags mesh;
  std::string run;
  int keep_last = 0, keep_best = 0;
  int64_t keep_every_steps = 0;
  bool dry_run = false;
};

struct RemoveFlags {
  MeshFlags mesh;
  std::vector<std::string> names;
  bool dry_run = false;
};

void PrintDamage(const v1::VerifyResult& result) {
  Table table({"CHUNK", "WHAT", "CHECKPOINT", "TENSOR"});
  for (const v1::Damage& damage : result.damage()) {
    const std::string chunk = absl::BytesToHexString(damage.digest()).substr(0, 12);
    for (int i = 0; i < damage.checkpoints_size(); ++i) {
      table.Add(
          {i == 0 ? chunk : "", i == 0 ? damage.message() : "", damage.checkpoints(i), damage.tensors(i)});
    }
    if (damage.checkpoints().empty()) table.Add({chunk, damage.message(), "-", "-"});
  }
  std::cout << table.ToString()
            << "Repair it from a second store: bdhctl ckpt repair HOST:PORT; or from an "
               "exported directory: bdhctl ckpt repair --from DIR\n";
}

absl::StatusOr<int> RunVerify(const VerifyFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::VerifyRequest request;
  request.set_reference(flags.reference);
  request.set_bytes_per_second(flags.rate);
  ProgressLine progress(stderr);
  BDH_ASSIGN_OR_RETURN(
      const auto done,
      StoreClient(mesh).Follow(&AdminStub::Verify, request, [&](const v1::VerifyResponse& now) {
        if (now.has_progress()) {
          progress.Show(BytesOf(now.progress().bytes_done(), now.progress().bytes_total()));
        }
      }));
  const v1::VerifyResult& result = done.result();
  if (flags.mesh.json) {
    PrintJson(ToJson(result));
  } else {
    std::cout << absl::StrFormat("Read %s in %d chunks: %s\n", FormatBytes(result.bytes()), result.chunks(),
                                 result.damaged_chunks() == 0
                                     ? "all as they were put"
                                     : absl::StrFormat("%d damaged", result.damaged_chunks()));
    if (result.damaged_chunks() > 0) PrintDamage(result);
  }
  return result.damaged_chunks() == 0 ? kExitOk : kExitFailed;
}

absl::StatusOr<int> RunCollect(const CollectFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::CollectGarbageRequest request;
  request.set_dry_run(flags.dry_run);
  BDH_ASSIGN_OR_RETURN(const auto done, StoreClient(mesh).Follow(&AdminStub::CollectGarbage, request,
                                                                 [](const v1::CollectGarbageResponse&) {}));
  if (flags.mesh.json) {
    PrintJson(ToJson(done));
  } else {
    std::cout << absl::StrFormat("%s %s in %d of %d chunks\n", flags.dry_run ? "Would free" : "Freed",
                                 FormatBytes(done.freed_bytes()), done.chunks_freed(), done.chunks_seen());
  }
  return kExitOk;
}

std::string InWords(const v1::RetentionPolicy& policy) {
  std::string text;
  const auto add = [&](const std::string& rule) { text += (text.empty() ? "" : ", ") + rule; };
  if (policy.keep_last() > 0) add(absl::StrFormat("the last %d", policy.keep_last()));
  if (policy.keep_every_steps() > 0) add(absl::StrFormat("every %d steps", policy.keep_every_steps()));
  if (policy.keep_best() > 0) add(absl::StrFormat("the best %d by validation loss", policy.keep_best()));
  return text + "; and what is tagged, pinned or the newest";
}

absl::StatusOr<int> RunShowRetention(const RetentionFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::GetRetentionRequest request;
  request.set_run(flags.run);
  BDH_ASSIGN_OR_RETURN(const auto response, StoreClient(mesh).Call(&AdminStub::GetRetention, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
  } else {
    std::cout << absl::StrFormat("%s keeps %s%s\n", flags.run.empty() ? "The store" : "Run " + flags.run,
                                 InWords(response.policy()),
                                 response.inherited() ? " (the store's policy)" : "");
  }
  return kExitOk;
}

absl::StatusOr<int> RunSetRetention(const RetentionFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::SetRetentionRequest request;
  request.set_run(flags.run);
  request.mutable_policy()->set_keep_last(flags.keep_last);
  request.mutable_policy()->set_keep_every_steps(flags.keep_every_steps);
  request.mutable_policy()->set_keep_best(flags.keep_best);
  BDH_RETURN_IF_ERROR(StoreClient(mesh).Call(&AdminStub::SetRetention, request).status());
  return RunShowRetention(flags);
}

absl::StatusOr<int> RunClearRetention(const RetentionFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::SetRetentionRequest request;
  request.set_run(flags.run);
  BDH_RETURN_IF_ERROR(StoreClient(mesh).Call(&AdminStub::SetRetention, request).status());
  if (flags.mesh.json) {
    PrintJson({{"run", flags.run}});
  } else {
    std::cout << absl::StrFormat("%s has no policy of its own any more\n",
                                 flags.run.empty() ? "The store" : "Run " + flags.run);
  }
  return kExitOk;
}

absl::StatusOr<int> RunApplyRetention(const RetentionFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::ApplyRetentionRequest request;
  request.set_run(flags.run);
  request.set_dry_run(flags.dry_run);
  BDH_ASSIGN_OR_RETURN(
      const auto response,
      StoreClient(mesh.Store(), absl::Minutes(10)).Call(&AdminStub::ApplyRetention, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  for (const std::string& name : response.deleted()) std::cout << name << "\n";
  std::cout << absl::StrFormat("%s %d checkpoint%s and free%s %s\n",
                               flags.dry_run ? "Would delete" : "Deleted", response.deleted_size(),
                               response.deleted_size() == 1 ? "" : "s", flags.dry_run ? "" : "d",
                               FormatBytes(response.freed_bytes()));
  return kExitOk;
}

absl::StatusOr<int> RunRemove(const RemoveFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const StoreClient store(mesh);
  int64_t freed = 0, bytes = 0;
  for (const std::string& name : flags.names) {
    v1::DescribeCheckpointRequest describe;
    describe.set_reference(name);
    BDH_ASSIGN_OR_RETURN(const auto found, store.Call(&CheckpointStub::DescribeCheckpoint, describe));
    bytes += found.checkpoint().size_bytes();
    if (flags.dry_run) continue;
    v1::DeleteCheckpointRequest request;
    request.set_name(name);
    BDH_ASSIGN_OR_RETURN(const auto response, store.Call(&CheckpointStub::DeleteCheckpoint, request));
    freed += response.freed_bytes();
  }
  if (flags.mesh.json) {
    PrintJson({{"names", flags.names}, {"dry_run", flags.dry_run}, {"bytes", bytes}, {"freed_bytes", freed}});
  } else if (flags.dry_run) {
    std::cout << absl::StrFormat("Would delete %d of %s; what others hold as well stays\n",
                                 flags.names.size(), FormatBytes(bytes));
  } else {
    std::cout << absl::StrFormat("Deleted %d and freed %s\n", flags.names.size(), FormatBytes(freed));
  }
  return kExitOk;
}

absl::StatusOr<int> RunUsage(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  BDH_ASSIGN_OR_RETURN(
      const auto usage,
      StoreClient(mesh.Store(), absl::Minutes(10)).Call(&AdminStub::GetUsage, v1::GetUsageRequest()));
  if (flags.json) {
    PrintJson(ToJson(usage));
    return kExitOk;
  }
  int64_t logical = 0, largest = 1;
  for (const v1::RunUsage& run : usage.runs()) {
    logical += run.logical_bytes();
    largest = std::max(largest, run.logical_bytes());
  }
  Table table({"RUN", ">CHECKPOINTS", ">SIZE", ">ITS OWN", ""});
  for (const v1::RunUsage& run : usage.runs()) {
    table.Add({run.run(), std::to_string(run.checkpoints()), FormatBytes(run.logical_bytes()),
               FormatBytes(run.unshared_bytes()),
               Bar(static_cast<double>(run.logical_bytes()) / static_cast<double>(largest), 24)});
  }
  const auto disk = static_cast<double>(usage.disk_bytes());
  std::cout << table.ToString()
            << absl::StrFormat("\nchunks   %s, each once, for %s of checkpoints\n",
                               FormatBytes(usage.stored_bytes()), FormatBytes(logical))
            << absl::StrFormat("uploads  %s not committed yet\n", FormatBytes(usage.unreferenced_bytes()))
            << absl::StrFormat(
                   "disk     %s used, %s free  %s\n", FormatBytes(usage.disk_bytes()),
                   FormatBytes(usage.disk_free_bytes()),
                   Bar(disk / std::max(disk + static_cast<double>(usage.disk_free_bytes()), 1.0), 24));
  return kExitOk;
}

void DefineVerify(CLI::App& command, VerifyFlags& flags) {
  command.add_option("reference", flags.reference, "Checkpoint or tag (default: all that the store holds)")
      ->type_name("REF");
  command.add_option("--rate", flags.rate, "Read at most this fast (default: as fast as it goes)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("BYTES/S");
  AddMeshFlags(command, flags.mesh);
  command.footer("Reads everything and compares it with its SHA-256. Damage is never served; exit code 1.");
}

void DefineCollect(CLI::App& command, CollectFlags& flags) {
  command.add_flag("--dry-run", flags.dry_run, "Only say what would go");
  AddMeshFlags(command, flags.mesh);
  command.footer("Frees chunks that no checkpoint, snapshot or living upload holds.");
}

void DefineRun(CLI::App& command, RetentionFlags& flags) {
  command.add_option("--run", flags.run, "Of this run (default: of all that have no policy of their own)")
      ->type_name("RUN");
  AddMeshFlags(command, flags.mesh);
}

void DefineSetRetention(CLI::App& command, RetentionFlags& flags) {
  DefineRun(command, flags);
  command.add_option("--keep-last", flags.keep_last, "The newest so many")->type_name("N");
  command.add_option("--keep-every", flags.keep_every_steps, "Those whose step is a multiple")
      ->type_name("STEPS");
  command.add_option("--keep-best", flags.keep_best, "So many with the lowest validation loss")
      ->type_name("N");
  command.footer(
      "A checkpoint stays if any rule keeps it; what is tagged, pinned or its run's newest always stays. "
      "Applied\n"
      "after each put.\n\nExample:\n  bdhctl ckpt retention set --keep-last 3 --keep-every 1000");
}

void DefineApplyRetention(CLI::App& command, RetentionFlags& flags) {
  DefineRun(command, flags);
  command.add_flag("--dry-run", flags.dry_run, "Only say what would go");
}

void DefineRemove(CLI::App& command, RemoveFlags& flags) {
  command.add_option("names", flags.names, "Checkpoints, by name")->required()->type_name("NAME");
  command.add_flag("--dry-run", flags.dry_run, "Only say what would go");
  AddMeshFlags(command, flags.mesh);
}

void AddRetentionCommands(CLI::App& group, Invocation& invocation) {
  CLI::App* retention = group.add_subcommand("retention", "Which checkpoints are kept");
  retention->require_subcommand(1);
  AddCommand<RetentionFlags>(*retention, invocation, "show", "Show the policy", DefineRun, RunShowRetention);
  AddCommand<RetentionFlags>(*retention, invocation, "set", "Set the policy", DefineSetRetention,
                             RunSetRetention);
  AddCommand<RetentionFlags>(*retention, invocation, "clear", "Remove the policy", DefineRun,
                             RunClearRetention);
  AddCommand<RetentionFlags>(*retention, invocation, "apply", "Delete what the policies do not keep",
                             DefineApplyRetention, RunApplyRetention);
}

}  // namespace

std::string BytesOf(int64_t done, int64_t total) {
  const double fraction = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  return absl::StrFormat("%s %3.0f%%  %s of %s", Bar(fraction, 24), 100 * fraction,
                         FormatBytes(static_cast<uint64_t>(done)), FormatBytes(static_cast<uint64_t>(total)));
}

void AddCareCommands(CLI::App& group, Invocation& invocation) {
  AddCommand<VerifyFlags>(group, invocation, "verify", "Read all and compare it with its digests",
                          DefineVerify, RunVerify);
  AddCommand<CollectFlags>(group, invocation, "gc", "Free what nothing holds", DefineCollect, RunCollect);
  AddRetentionCommands(group, invocation);
  AddCommand<RemoveFlags>(group, invocation, "rm", "Delete checkpoints", DefineRemove, RunRemove);
  AddCommand<MeshFlags>(group, invocation, "df", "Show where the bytes are", AddMeshFlags, RunUsage);
}

}  // namespace bdh::bdhctl
