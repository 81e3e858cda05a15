#include "services/bdhctl/client/context.h"

#include <cstdlib>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/bdhctl/registry.h"

namespace bdh::bdhctl {
namespace {

// Whether the file has a mesh section; a file for training needs none.
absl::StatusOr<bool> NamesMesh(const std::string& file) {
  v1::Config config;
  const absl::Status read = config::ReadFileInto(file, config);
  if (!read.ok()) return absl::InvalidArgumentError(absl::StrFormat("--config: %s", read.message()));
  return config.has_mesh();
}

// An address or a token names a mesh; a timeout alone does not.
bool EnvironmentNamesMesh() {
  for (const char* name : {"BDH_MESH_DATA_LOADER", "BDH_MESH_TRAINER_WORKER", "BDH_MESH_CHECKPOINT_STORE",
                           "BDH_MESH_INFERENCE", "BDH_MESH_GATEWAY", "BDH_MESH_TOKEN_FILE"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<Mesh> WithCredentials(v1::Config config, std::optional<MeshFolder> folder) {
  BDH_ASSIGN_OR_RETURN(auto credentials, mesh::Credentials::Load(config.mesh(), "bdhctl"));
  return Mesh{std::move(config), std::move(credentials), std::move(folder)};
}

absl::StatusOr<Mesh> Remote(const std::string& file) {
  BDH_ASSIGN_OR_RETURN(v1::Config config,
                       LoadConfig({.file = file, .sets = {}, .environment = config::Environment()}));
  return WithCredentials(std::move(config), std::nullopt);
}

absl::StatusOr<MeshFolder> IfUp(const MeshFolder& folder) {
  const auto state = folder.ReadRunningState();
  if (!state.ok()) return absl::UnavailableError(std::string(state.status().message()));
  return folder;
}

const std::string& Target(const v1::MeshConfig& mesh, const std::string& daemon) {
  if (daemon == "bdh-data-loader") return mesh.data_loader();
  if (daemon == "bdh-trainer-worker") return mesh.trainer_worker();
  if (daemon == "bdh-checkpoint-store") return mesh.checkpoint_store();
  if (daemon == "bdh-inference") return mesh.inference();
  BDH_CHECK(daemon == "bdh-gateway") << daemon;
  return mesh.gateway();
}

}  // namespace

mesh::Peer Mesh::Peer(const std::string& daemon, const mesh::Credentials& other) const {
  return mesh::Peer(daemon, Target(config.mesh(), daemon), other, config.mesh().max_message_bytes());
}

absl::Duration Mesh::call_timeout() const {
  return absl::Seconds(config.mesh().call_timeout_seconds());
}

absl::StatusOr<v1::Config> LoadConfig(const config::LoadOptions& options) {
  auto config = config::Load(options);
  if (!config.ok()) return absl::InvalidArgumentError(config.status().message());
  return config;
}

absl::StatusOr<MeshFolder> FindRunningFolder(const std::string& data) {
  if (!data.empty()) return IfUp(MeshFolder(data));
  if (const char* chosen = std::getenv("BDH_DATA"); chosen != nullptr && *chosen != '\0') {
    return IfUp(MeshFolder(chosen));
  }
  if (auto here = IfUp(MeshFolder(kDefaultData)); here.ok()) return here;
  if (auto last = Registry::OfUser().LastUp(); last.has_value()) return *std::move(last);
  return absl::UnavailableError(
      "no mesh is up; start one with: bdhctl up --detach, or name one elsewhere with --config FILE");
}

MeshFolder FindFolder(const std::string& data) {
  if (auto running = FindRunningFolder(data); running.ok()) return *std::move(running);
  if (!data.empty()) return MeshFolder(data);
  const char* chosen = std::getenv("BDH_DATA");
  return MeshFolder(chosen != nullptr && *chosen != '\0' ? chosen : kDefaultData);
}

absl::StatusOr<Mesh> FindMesh(const MeshFlags& flags) {
  if (!flags.config.empty()) {
    BDH_ASSIGN_OR_RETURN(const bool names_mesh, NamesMesh(flags.config));
    if (names_mesh && flags.data.empty()) return Remote(flags.config);
  }
  if (flags.data.empty() && EnvironmentNamesMesh()) return Remote("");
  BDH_ASSIGN_OR_RETURN(const MeshFolder folder, FindRunningFolder(flags.data));
  // What the daemons run with, so without the variables of this shell.
  BDH_ASSIGN_OR_RETURN(v1::Config config,
                       LoadConfig({.file = folder.ConfigFile(), .sets = {}, .environment = {}}));
  return WithCredentials(std::move(config), folder);
}

}  // namespace bdh::bdhctl
