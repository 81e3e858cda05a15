// Which mesh a command means, and how to speak to it.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/config/config.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/config.pb.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/mesh_folder.h"

namespace bdh::bdhctl {

// A mesh that was found: addresses, credentials and limits.
struct Mesh {
  v1::Config config;  // Effective.
  mesh::Credentials credentials;
  std::optional<MeshFolder> folder;  // Of a mesh on this machine.

  mesh::Peer Peer(const std::string& daemon) const { return Peer(daemon, credentials); }
  mesh::Peer Peer(const std::string& daemon, const mesh::Credentials& other) const;
  mesh::Peer DataLoader() const { return Peer("bdh-data-loader"); }
  mesh::Peer Trainer() const { return Peer("bdh-trainer-worker"); }
  mesh::Peer Store() const { return Peer("bdh-checkpoint-store"); }
  mesh::Peer Inference() const { return Peer("bdh-inference"); }
  absl::Duration call_timeout() const;
};

// In this order: `data`; `config` if it has a mesh section; an address or a token among the variables
// BDH_MESH_*; $BDH_DATA; ./bdh-data if one is up there; the last one this user started. UnavailableError:
// none is up there, or nowhere.
absl::StatusOr<Mesh> FindMesh(const MeshFlags& flags);

// config::Load for files that a person named: whatever is wrong is an InvalidArgumentError.
absl::StatusOr<v1::Config> LoadConfig(const config::LoadOptions& options);

// The folder part of the above. UnavailableError: no mesh is up there, or nowhere.
absl::StatusOr<MeshFolder> FindRunningFolder(const std::string& data);

// The one that is meant whether or not a mesh is up there: as above, else `data`, $BDH_DATA or ./bdh-data.
MeshFolder FindFolder(const std::string& data);

inline constexpr char kDefaultData[] = "bdh-data";

}  // namespace bdh::bdhctl
