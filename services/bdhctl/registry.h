// Which meshes this user has started, so that commands typed in another folder find the last one.
// One small file a mesh under ${BDH_STATE_DIR:-${XDG_STATE_HOME:-~/.local/state}/bdh}/meshes.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "services/bdhctl/mesh_folder.h"

namespace bdh::bdhctl {

class Registry {
 public:
  // Keeps its files under `folder`.
  explicit Registry(std::string folder) : folder_(std::move(folder)) {}
  // This user's.
  static Registry OfUser();

  absl::Status Remember(const MeshFolder& mesh) const;
  void Forget(const MeshFolder& mesh) const;
  // The one that is up and was started last. Forgets those that have no folder any more.
  std::optional<MeshFolder> LastUp() const;

 private:
  std::string EntryFile(const std::string& data) const;

  std::string folder_;
};

}  // namespace bdh::bdhctl
