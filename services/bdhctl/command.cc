#include "services/bdhctl/command.h"

namespace bdh::bdhctl {

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnauthenticated:
      return kExitNoMesh;
    default:
      return kExitFailed;
  }
}

void AddDataFlag(CLI::App& command, std::string& data) {
  command
      .add_option("--data", data,
                  "Folder of the mesh (default: $BDH_DATA, ./bdh-data, or the last one started)")
      ->type_name("DIR");
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON");
}

void AddSetFlag(CLI::App& command, std::vector<std::string>& sets) {
  command.add_option("--set", sets, "Override one key of the configuration; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void AddMeshFlags(CLI::App& command, MeshFlags& flags) {
  AddDataFlag(command, flags.data);
  command
      .add_option("--config", flags.config,
                  "For a mesh elsewhere: configuration whose mesh section holds its addresses and token_file")
      ->type_name("FILE");
  AddJsonFlag(command, flags.json);
}

}  // namespace bdh::bdhctl
