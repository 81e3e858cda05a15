#include "services/bdhctl/mesh_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kTokenBytes = 32;

Json ProcessJson(const ProcessId& process) {
  return {{"pid", process.pid}, {"start_ticks", process.start_ticks}};
}

ProcessId ProcessFromJson(const Json& json) {
  return {json.at("pid").get<pid_t>(), json.at("start_ticks").get<uint64_t>()};
}

Json DaemonJson(const DaemonState& daemon) {
  return {{"name", daemon.name},
          {"state", daemon.state},
          {"process", ProcessJson(daemon.process)},
          {"address", daemon.address},
          {"admin_address", daemon.admin_address},
          {"public_address", daemon.public_address},
          {"log", daemon.log},
          {"restarts", daemon.restarts},
          {"last_exit", daemon.last_exit}};
}

DaemonState DaemonFromJson(const Json& json) {
  DaemonState daemon;
  json.at("name").get_to(daemon.name);
  json.at("state").get_to(daemon.state);
  daemon.process = ProcessFromJson(json.at("process"));
  json.at("address").get_to(daemon.address);
  json.at("admin_address").get_to(daemon.admin_address);
  json.at("public_address").get_to(daemon.public_address);
  json.at("log").get_to(daemon.log);
  json.at("restarts").get_to(daemon.restarts);
  json.at("last_exit").get_to(daemon.last_exit);
  return daemon;
}

MeshState StateFromJson(const Json& json) {
  MeshState state;
  json.at("data").get_to(state.data);
  json.at("state").get_to(state.state);
  json.at("version").get_to(state.version);
  state.supervisor = ProcessFromJson(json.at("supervisor"));
  json.at("url").get_to(state.url);
  json.at("drain_timeout_seconds").get_to(state.drain_timeout_seconds);
  for (const Json& daemon : json.at("daemons")) state.daemons.push_back(DaemonFromJson(daemon));
  return state;
}

}  // namespace

std::vector<ProcessId> MeshState::LiveDaemons() const {
  std::vector<ProcessId> live;
  for (const DaemonState& daemon : daemons) {
    if (IsAlive(daemon.process)) live.push_back(daemon.process);
  }
  return live;
}

const DaemonState* MeshState::Find(std::string_view daemon) const {
  for (const DaemonState& one : daemons) {
    if (one.name == daemon) return &one;
  }
  return nullptr;
}

std::string ToJson(const MeshState& state) {
  Json daemons = Json::array();
  for (const DaemonState& daemon : state.daemons) daemons.push_back(DaemonJson(daemon));
  const Json json = {{"data", state.data},       {"state", state.state},
                     {"version", state.version}, {"supervisor", ProcessJson(state.supervisor)},
                     {"url", state.url},         {"drain_timeout_seconds", state.drain_timeout_seconds},
                     {"daemons", daemons}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<MeshState> MeshStateFromJson(std::string_view json) {
  try {
    return StateFromJson(Json::parse(json));
  } catch (const Json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

MeshFolder::MeshFolder(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal();
  // Symbolic links are followed, so that a folder has one name however it was reached.
  path_ = std::filesystem::weakly_canonical(absolute, error).string();
  if (error || path_.empty()) path_ = absolute.string();
  if (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

std::string MeshFolder::Path(std::string_view below) const {
  return absl::StrFormat("%s/%s", path_, below);
}

std::string MeshFolder::LogFile(std::string_view process) const {
  return Path(absl::StrFormat("logs/%s.log", process));
}

std::string MeshFolder::ReadyFile(std::string_view daemon) const {
  return Path(absl::StrFormat("run/%s.ready.json", daemon));
}

bool MeshFolder::HasLogs() const {
  return access(Path("logs").c_str(), R_OK | X_OK) == 0;
}

absl::Status MeshFolder::Create() const {
  absl::Status status = MakeDirectories(Path("logs"));
  if (status.ok()) status = MakeDirectories(Path("run"));
  if (status.ok() && access(path_.c_str(), W_OK | X_OK) != 0)
    status = ErrnoStatus(errno, "write to " + path_);
  if (status.ok()) return status;
  return absl::FailedPreconditionError(absl::StrFormat(
      "%s cannot be the mesh's data folder (%s); choose another with --data, or make this one writable",
      path_, std::string(status.message())));
}

absl::StatusOr<FileLock> MeshFolder::Lock() const {
  return FileLock::Acquire(
      Path("lock"), absl::StrFormat("a mesh is already up in %s; see: bdhctl status --data %s; end it with: "
                                    "bdhctl down --data %s",
                                    path_, path_, path_));
}

absl::Status MeshFolder::EnsureToken() const {
  if (access(TokenFile().c_str(), F_OK) == 0) return absl::OkStatus();
  return WriteFileAtomically(TokenFile(), RandomHex(kTokenBytes) + "\n", 0600);
}

absl::Status MeshFolder::WriteState(const MeshState& state) const {
  return WriteFileAtomically(StateFile(), ToJson(state));
}

absl::StatusOr<MeshState> MeshFolder::ReadState() const {
  BDH_ASSIGN_OR_RETURN(const std::string json, ReadFile(StateFile()));
  auto state = MeshStateFromJson(json);
  if (!state.ok()) return Annotate(state.status(), StateFile());
  return state;
}

absl::StatusOr<MeshState> MeshFolder::ReadRunningState() const {
  auto state = ReadState();
  if (state.ok() && IsAlive(state->supervisor)) return state;
  return absl::NotFoundError(
      absl::StrFormat("no mesh is up in %s; start one with: bdhctl up --detach --data %s", path_, path_));
}

void MeshFolder::RemoveState(const FileLock& /*held*/) const {
  unlink(StateFile().c_str());
  std::error_code ignored;
  std::filesystem::remove_all(Path("run"), ignored);
}

}  // namespace bdh::bdhctl
