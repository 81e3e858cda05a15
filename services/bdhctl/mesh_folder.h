// The folder that is a mesh on one machine:
//
//   DIR/lock         held by the supervisor as long as it lives
//   DIR/token        what every call between the daemons carries (0600)
//   DIR/mesh.yaml    the effective configuration the daemons run with (0600: it may hold API keys)
//   DIR/mesh.json    who runs: supervisor, daemons, addresses; there only while the mesh is up
//   DIR/run/         ready files of the daemons
//   DIR/logs/        one log a daemon, and supervisor.log, each with its older ones
//   DIR/<daemon>/    what the daemon keeps
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/file.h"
#include "services/bdhctl/process.h"

namespace bdh::bdhctl {

struct DaemonState {
  std::string name;  // "bdh-inference"
  // "waiting", "starting", "running", "restarting", "given up", "stopped".
  std::string state = "waiting";
  ProcessId process;
  std::string address, admin_address, public_address;
  std::string log;
  int restarts = 0;
  std::string last_exit;  // How it ended last: "signal 9 (Killed)". Empty: it never has.
};

// What mesh.json holds.
struct MeshState {
  std::string data;   // Absolute.
  std::string state;  // "starting", "up", "stopping".
  std::string version;
  ProcessId supervisor;
  std::string url;  // Of the gateway.
  double drain_timeout_seconds = 0;
  std::vector<DaemonState> daemons;

  // Those of the daemons that are there now.
  std::vector<ProcessId> LiveDaemons() const;
  // Null: not one that this mesh runs.
  const DaemonState* Find(std::string_view daemon) const;
};

std::string ToJson(const MeshState& state);
absl::StatusOr<MeshState> MeshStateFromJson(std::string_view json);

// Paths and files of one such folder. Creating the object touches nothing.
class MeshFolder {
 public:
  explicit MeshFolder(const std::string& path);  // Made absolute.

  const std::string& path() const { return path_; }
  std::string Path(std::string_view below) const;
  std::string TokenFile() const { return Path("token"); }
  std::string ConfigFile() const { return Path("mesh.yaml"); }
  std::string StateFile() const { return Path("mesh.json"); }
  std::string LogFile(std::string_view process) const;
  std::string ReadyFile(std::string_view daemon) const;

  bool HasLogs() const;

  // Makes the folder and those below it. The error says what to do.
  absl::Status Create() const;
  // FailedPreconditionError: a mesh runs here.
  absl::StatusOr<FileLock> Lock() const;
  // Makes the token unless there is one.
  absl::Status EnsureToken() const;

  absl::Status WriteState(const MeshState& state) const;
  // NotFoundError: no mesh was left here.
  absl::StatusOr<MeshState> ReadState() const;
  // The state of a mesh whose supervisor lives; NotFoundError otherwise.
  absl::StatusOr<MeshState> ReadRunningState() const;
  // Removes what says that a mesh runs here. Only for who holds the lock: another may have begun meanwhile.
  void RemoveState(const FileLock& held) const;

 private:
  std::string path_;
};

}  // namespace bdh::bdhctl
