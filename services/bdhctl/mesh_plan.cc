#include "services/bdhctl/mesh_plan.h"

#include <filesystem>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/config.h"

namespace bdh::bdhctl {
namespace {

// One port of a daemon.
struct Port {
  const char* purpose;
  std::string* listen;
  // Where the others find it; null for admin ports.
  std::string* client_target;
  const char* client_prefix;
  // 7011 taken: 7111 is next, so that the daemons keep their last digits. 8000 taken: 8001 is.
  int stride;
};

template <class Section>
std::vector<Port> TwoPorts(Section* section, std::string* client_target) {
  return {{"gRPC", section->mutable_listen(), client_target, "", 100},
          {"admin", section->mutable_admin_listen(), nullptr, "", 100}};
}

std::vector<Port> PortsOf(std::string_view daemon, v1::Config& config) {
  v1::MeshConfig& mesh = *config.mutable_mesh();
  if (daemon == "bdh-checkpoint-store") {
    return TwoPorts(config.mutable_checkpoint_store(), mesh.mutable_checkpoint_store());
  }
  if (daemon == "bdh-data-loader") return TwoPorts(config.mutable_data_loader(), mesh.mutable_data_loader());
  if (daemon == "bdh-trainer-worker") {
    return TwoPorts(config.mutable_trainer_worker(), mesh.mutable_trainer_worker());
  }
  if (daemon == "bdh-inference") return TwoPorts(config.mutable_inference(), mesh.mutable_inference());
  BDH_CHECK(daemon == "bdh-gateway") << daemon;
  std::vector<Port> ports = TwoPorts(config.mutable_gateway(), mesh.mutable_gateway());
  ports.push_back(
      {"HTTP", config.mutable_gateway()->mutable_http_listen(), mesh.mutable_gateway_url(), "http://", 1});
  return ports;
}

void Place(std::string* path, const std::string& default_path, const std::string& place) {
  std::error_code ignored;
  *path = *path == default_path ? place : std::filesystem::absolute(*path, ignored).string();
}

}  // namespace

absl::StatusOr<std::string_view> FindDaemon(std::string_view text) {
  for (const std::string_view daemon : kDaemons) {
    const std::string_view name = daemon.substr(4);  // Without "bdh-".
    const size_t dash = name.find('-');
    const bool one_word = dash == std::string_view::npos;
    if (text == daemon || text == name || (!one_word && text == name.substr(dash + 1))) return daemon;
    if (text == "trainer" && name.starts_with(text)) return daemon;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "no daemon '%s'; there are %s", text,
      absl::StrJoin(kDaemons, ", ", [](auto* out, auto name) { out->append(name.data(), name.size()); })));
}

std::string PortChange::ToString() const {
  return absl::StrFormat("%s: %s, so its %s port is %s", daemon, reason, purpose, given);
}

void PlaceUnder(const MeshFolder& folder, v1::Config& config) {
  v1::Config defaults;
  config::FillDefaults(defaults);
  Place(config.mutable_data_loader()->mutable_data_dir(), defaults.data_loader().data_dir(),
        folder.Path("data-loader"));
  Place(config.mutable_trainer_worker()->mutable_data_dir(), defaults.trainer_worker().data_dir(),
        folder.Path("trainer-worker"));
  Place(config.mutable_checkpoint_store()->mutable_data_dir(), defaults.checkpoint_store().data_dir(),
        folder.Path("checkpoint-store"));
  Place(config.mutable_inference()->mutable_data_dir(), defaults.inference().data_dir(),
        folder.Path("inference"));
  Place(config.mutable_mesh()->mutable_token_file(), "", folder.TokenFile());
  if (!config.mesh().has_tls()) return;
  v1::TlsConfig& tls = *config.mutable_mesh()->mutable_tls();
  for (std::string* file : {tls.mutable_ca_file(), tls.mutable_cert_file(), tls.mutable_key_file()}) {
    if (!file->empty()) Place(file, "", "");
  }
}

absl::StatusOr<std::vector<PortChange>> ChoosePorts(std::string_view daemon, PortChooser& chooser,
                                                    v1::Config& config) {
  std::vector<PortChange> changes;
  for (const Port& port : PortsOf(daemon, config)) {
    BDH_ASSIGN_OR_RETURN(const HostPort wanted, ParseHostPort(*port.listen));
    BDH_ASSIGN_OR_RETURN(const HostPort given, chooser.Choose(wanted, port.stride));
    if (wanted.port != 0 && given.port != wanted.port) {
      changes.push_back(
          {std::string(daemon), port.purpose, wanted.ToString(), given.ToString(), WhyNot(wanted)});
    }
    *port.listen = given.ToString();
    if (port.client_target != nullptr)
      *port.client_target = port.client_prefix + given.ForClients().ToString();
  }
  return changes;
}

absl::Status CheckPorts(std::string_view daemon, const v1::Config& config) {
  v1::Config copy = config;
  for (const Port& port : PortsOf(daemon, copy)) {
    BDH_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(*port.listen));
    BDH_RETURN_IF_ERROR(CanListen(address));
  }
  return absl::OkStatus();
}

DaemonState PlannedState(std::string_view daemon, const v1::Config& config, const MeshFolder& folder) {
  v1::Config copy = config;
  const std::vector<Port> ports = PortsOf(daemon, copy);
  DaemonState state;
  state.name = std::string(daemon);
  state.address = *ports[0].client_target;
  state.admin_address = *ports[1].listen;
  if (ports.size() > 2) state.public_address = *ports[2].client_target;
  state.log = folder.LogFile(daemon);
  return state;
}

}  // namespace bdh::bdhctl
