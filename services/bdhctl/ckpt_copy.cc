// bdhctl ckpt push, pull, backup, restore: checkpoints to and from other stores and folders.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "services/bdhctl/ckpt_commands.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

namespace fs = std::filesystem;

struct PushFlags {
  MeshFlags mesh;
  std::string other;
  std::vector<std::string> references;
};

struct BackupFlags {
  MeshFlags mesh;
  std::string folder;
};

struct RestoreFlags {
  std::string backup, folder;
  bool json = false;
};

absl::StatusOr<int> Push(const StoreClient& from, const std::string& to, const PushFlags& flags) {
  v1::PushCheckpointsRequest request;
  request.set_target(to);
  request.mutable_references()->Assign(flags.references.begin(), flags.references.end());
  ProgressLine progress(stderr);
  BDH_ASSIGN_OR_RETURN(
      const auto done,
      from.Follow(&AdminStub::PushCheckpoints, request, [&](const v1::PushCheckpointsResponse& now) {
        progress.Show(BytesOf(now.bytes_done(), now.bytes_total()));
      }));
  if (flags.mesh.json) {
    PrintJson(ToJson(done));
  } else {
    std::cout << absl::StrFormat(
        "Copied %d checkpoint%s: %s, of which %s were sent and %s were there\n", flags.references.size(),
        flags.references.size() == 1 ? "" : "s", FormatBytes(done.bytes_total()),
        FormatBytes(done.bytes_total() - done.bytes_skipped()), FormatBytes(done.bytes_skipped()));
  }
  return kExitOk;
}

absl::StatusOr<int> RunPush(const PushFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  return Push(StoreClient(mesh), flags.other, flags);
}

// The other store sends: it knows best what ours lacks once it has asked it.
absl::StatusOr<int> RunPull(const PushFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer other("bdh-checkpoint-store", flags.other, mesh.credentials,
                         mesh.config.mesh().max_message_bytes());
  return Push(StoreClient(other, mesh.call_timeout()), mesh.config.mesh().checkpoint_store(), flags);
}

absl::StatusOr<int> RunBackup(const BackupFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::BackUpRequest request;
  // On this machine a path means what it means in this folder.
  request.set_folder(mesh.folder.has_value() ? fs::absolute(flags.folder).lexically_normal().string()
                                             : flags.folder);
  ProgressLine progress(stderr);
  BDH_ASSIGN_OR_RETURN(const auto done, StoreClient(mesh).Follow(
                                            &AdminStub::BackUp, request, [&](const v1::BackUpResponse& now) {
                                              progress.Show(BytesOf(now.bytes_done(), now.bytes_total()));
                                            }));
  if (flags.mesh.json) {
    PrintJson({{"folder", request.folder()}, {"bytes", done.bytes_total()}});
  } else {
    std::cout << "Backed up into " << flags.folder
              << "; again into the same folder copies only what is new\nRestore it: bdhctl ckpt restore "
              << flags.folder << " FOLDER" << std::endl;
  }
  return kExitOk;
}

// The name of the file that says "this is a backup": the store writes it.
constexpr char kBackupMark[] = "bdh-store-backup";

absl::Status CheckFolders(const RestoreFlags& flags) {
  std::error_code error;
  if (!fs::exists(flags.backup + "/" + kBackupMark, error)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is no backup of a store; `bdhctl ckpt backup DIR` makes one", flags.backup));
  }
  if (!fs::exists(flags.folder, error)) return absl::OkStatus();
  if (!fs::is_directory(flags.folder, error)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is no folder", flags.folder));
  }
  if (fs::exists(flags.folder + "/lock", error)) {
    BDH_RETURN_IF_ERROR(
        FileLock::Acquire(flags.folder + "/lock",
                          absl::StrFormat("%s is in use by a bdh-checkpoint-store; stop that one "
                                          "first",
                                          flags.folder))
            .status());
  }
  if (fs::is_empty(flags.folder, error)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%s holds something; restore into a new folder, or move that one away", flags.folder));
}

absl::Status CopyTree(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::copy(from, to, fs::copy_options::recursive, error);
  if (error) return absl::InternalError(absl::StrFormat("copy %s to %s: %s", from, to, error.message()));
  fs::remove(to + "/" + kBackupMark, error);
  // All of it at once: a restored store must survive a power cut.
  const int folder = open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", to));
  const int synced = syncfs(folder);
  const int error_number = errno;
  close(folder);
  return synced == 0 ? absl::OkStatus() : ErrnoStatus(error_number, absl::StrFormat("sync %s", to));
}

absl::StatusOr<int> RunRestore(const RestoreFlags& flags) {
  BDH_RETURN_IF_ERROR(CheckFolders(flags));
  // Under another name until it is whole: a copy that broke off is never taken for a store.
  const std::string whole = fs::absolute(flags.folder).lexically_normal().string();
  const std::string half = whole + ".restoring";
  std::error_code error;
  fs::remove_all(half, error);
  BDH_RETURN_IF_ERROR(MakeDirectories(half));
  BDH_RETURN_IF_ERROR(CopyTree(flags.backup, half));
  fs::remove(whole, error);  // An empty one.
  fs::rename(half, whole, error);
  if (error) return absl::InternalError(absl::StrFormat("rename to %s: %s", whole, error.message()));
  BDH_RETURN_IF_ERROR(SyncDirectory(fs::path(whole).parent_path()));
  if (flags.json) {
    PrintJson({{"backup", flags.backup}, {"folder", flags.folder}});
  } else {
    std::cout << "Restored into " << flags.folder
              << "\nServe it: a store whose checkpoint_store.data_dir is that folder; `bdhctl ckpt verify` "
                 "reads all "
                 "of it"
              << std::endl;
  }
  return kExitOk;
}

void DefinePush(CLI::App& command, PushFlags& flags) {
  command.add_option("target", flags.other, "Address of the other store, as ours reaches it")
      ->required()
      ->type_name("HOST:PORT");
  command.add_option("references", flags.references, "Checkpoints or tags")->required()->type_name("REF");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Sends only the chunks the other store lacks; a copy that broke off goes on where it was. Both stores "
      "take\n"
      "the same mesh token, or certificates of one authority.\n\n"
      "Example:\n  bdhctl ckpt push archive:7031 small/best");
}

void DefinePull(CLI::App& command, PushFlags& flags) {
  command.add_option("source", flags.other, "Address of the other store")->required()->type_name("HOST:PORT");
  command.add_option("references", flags.references, "Checkpoints or tags there")
      ->required()
      ->type_name("REF");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "The other store pushes to ours, under the address of the configuration (mesh.checkpoint_store): it "
      "must\n"
      "reach that.\n\nExample:\n  bdhctl ckpt pull archive:7031 runs/small/steps/600");
}

void DefineBackup(CLI::App& command, BackupFlags& flags) {
  command.add_option("folder", flags.folder, "Folder on the store's machine")->required()->type_name("DIR");
  AddMeshFlags(command, flags.mesh);
  command.footer("The store serves meanwhile.\n\nExample:\n  bdhctl ckpt backup /backup/bdh");
}

void DefineRestore(CLI::App& command, RestoreFlags& flags) {
  command.add_option("backup", flags.backup, "What `ckpt backup` made")->required()->type_name("DIR");
  command.add_option("folder", flags.folder, "Folder to make: a store's checkpoint_store.data_dir")
      ->required()
      ->type_name("FOLDER");
  AddJsonFlag(command, flags.json);
  command.footer(
      "Needs no mesh. A folder that is in use, or holds something, is refused.\n\n"
      "Example:\n  bdhctl ckpt restore /backup/bdh bdh-data/checkpoint-store");
}

}  // namespace

void AddCopyCommands(CLI::App& group, Invocation& invocation) {
  AddCommand<PushFlags>(group, invocation, "push", "Copy checkpoints to another store", DefinePush, RunPush);
  AddCommand<PushFlags>(group, invocation, "pull", "Copy checkpoints from another store", DefinePull,
                        RunPull);
  AddCommand<BackupFlags>(group, invocation, "backup", "Copy the whole store into a folder", DefineBackup,
                          RunBackup);
  AddCommand<RestoreFlags>(group, invocation, "restore", "Make a store's folder of a backup", DefineRestore,
                           RunRestore);
}

}  // namespace bdh::bdhctl
