#include "services/bdhctl/registry.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::bdhctl {
namespace {

namespace fs = std::filesystem;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string UserStateFolder() {
  if (std::string own = Variable("BDH_STATE_DIR"); !own.empty()) return own;
  if (const std::string xdg = Variable("XDG_STATE_HOME"); !xdg.empty()) return xdg + "/bdh";
  if (const std::string home = Variable("HOME"); !home.empty()) return home + "/.local/state/bdh";
  const passwd* user = getpwuid(getuid());
  return std::string(user == nullptr ? "" : user->pw_dir) + "/.local/state/bdh";
}

// Newest first.
std::vector<fs::path> Entries(const std::string& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    std::error_code gone;
    const auto time = i->last_write_time(gone);
    if (!gone && i->path().extension() == ".mesh") found.emplace_back(time, i->path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  paths.reserve(found.size());
  for (const auto& [time, path] : found) paths.push_back(path);
  return paths;
}

}  // namespace

Registry Registry::OfUser() {
  return Registry(UserStateFolder() + "/meshes");
}

std::string Registry::EntryFile(const std::string& data) const {
  return absl::StrFormat("%s/%s.mesh", folder_, Sha256Hex(data).substr(0, 16));
}

absl::Status Registry::Remember(const MeshFolder& mesh) const {
  BDH_RETURN_IF_ERROR(MakeDirectories(folder_));
  return WriteFileAtomically(EntryFile(mesh.path()), mesh.path() + "\n", 0600);
}

void Registry::Forget(const MeshFolder& mesh) const {
  unlink(EntryFile(mesh.path()).c_str());
}

std::optional<MeshFolder> Registry::LastUp() const {
  for (const fs::path& entry : Entries(folder_)) {
    auto data = ReadFile(entry.string());
    if (!data.ok()) continue;
    absl::StripAsciiWhitespace(&*data);
    const MeshFolder mesh(*data);
    if (mesh.ReadRunningState().ok()) return mesh;
    if (!fs::exists(mesh.path())) unlink(entry.c_str());
  }
  return std::nullopt;
}

}  // namespace bdh::bdhctl
