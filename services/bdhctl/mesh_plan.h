// What a mesh on one machine looks like before it starts: the five daemons, where each listens, where it
// keeps its data.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/v1/config.pb.h"
#include "services/bdhctl/mesh_folder.h"
#include "services/bdhctl/ports.h"

namespace bdh::bdhctl {

// In the order they start: each needs only those before it.
inline constexpr std::array<std::string_view, 5> kDaemons{
    "bdh-checkpoint-store", "bdh-data-loader", "bdh-trainer-worker", "bdh-inference", "bdh-gateway"};

// They end in three waves, each when the one before has gone. The gateway first, while those it asks still
// answer; store and loader last, because a run that stops saves its checkpoint there.
inline constexpr std::array<std::array<std::string_view, 2>, 3> kStopWaves{
    {{"bdh-gateway", ""},
     {"bdh-trainer-worker", "bdh-inference"},
     {"bdh-checkpoint-store", "bdh-data-loader"}}};

// The name of the daemon that a person means: with or without "bdh-", or by its last word (store, loader,
// worker) or its first (trainer). InvalidArgumentError lists them.
absl::StatusOr<std::string_view> FindDaemon(std::string_view text);

struct PortChange {
  std::string daemon;
  std::string purpose;  // "gRPC", "admin", "HTTP".
  std::string wanted, given;
  std::string reason;

  std::string ToString() const;
};

// Puts what has its default, data folders and the token, below `folder`; makes every path absolute.
void PlaceUnder(const MeshFolder& folder, v1::Config& config);

// Gives `daemon` addresses that are free now and tells the others of them. Returns what differs from what the
// configuration wanted.
absl::StatusOr<std::vector<PortChange>> ChoosePorts(std::string_view daemon, PortChooser& chooser,
                                                    v1::Config& config);

// OK when all addresses of `daemon` are free.
absl::Status CheckPorts(std::string_view daemon, const v1::Config& config);

// Addresses of `daemon` in `config`, ready to be filled with what happens to it.
DaemonState PlannedState(std::string_view daemon, const v1::Config& config, const MeshFolder& folder);

}  // namespace bdh::bdhctl
