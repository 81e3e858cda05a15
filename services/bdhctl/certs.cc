// bdhctl certs: an authority and certificates for tests and small sites.
#include "services/bdhctl/certs.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "bdh/certs/folder.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kAuthorityDays = 3650, kDays = 365, kDaysMax = 36500;
const std::vector<std::string> kLocalHosts{"localhost", "127.0.0.1", "::1"};

struct Flags {
  std::string data, dir;
  std::vector<std::string> hosts, names;
  int days = kDays;
  int warn_days = 30;
  bool json = false;
};

certs::Folder FolderOf(const Flags& flags) {
  if (!flags.dir.empty()) return certs::Folder(flags.dir);
  if (!flags.data.empty()) return certs::Folder(MeshFolder(flags.data).Path("tls"));
  const char* chosen = std::getenv("BDH_DATA");
  return certs::Folder(MeshFolder(chosen != nullptr && *chosen != '\0' ? chosen : kDefaultData).Path("tls"));
}

std::string Day(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone());
}

double DaysLeft(const certs::Description& certificate) {
  return absl::ToDoubleHours(certificate.validity.until - absl::Now()) / 24;
}

// "valid", "expires soon", or what is wrong.
std::string Verdict(const certs::FileEntry& entry, int warn_days) {
  if (!entry.certificate.ok()) return std::string(entry.certificate.status().message());
  if (!entry.key.ok()) return std::string(entry.key.message());
  if (DaysLeft(*entry.certificate) < 0) return "expired";
  return DaysLeft(*entry.certificate) < warn_days ? "expires soon" : "valid";
}

Json ToJson(const certs::FileEntry& entry, const std::string& verdict) {
  Json json = {{"name", entry.name},
               {"state", verdict},
               {"certificate_file", entry.certificate_file},
               {"key_file", entry.key_file}};
  if (!entry.certificate.ok()) return json;
  const certs::Description& certificate = *entry.certificate;
  json["issuer"] = certificate.issuer;
  json["hosts"] = certificate.hosts;
  json["valid_from"] = absl::FormatTime(absl::RFC3339_sec, certificate.validity.from, absl::UTCTimeZone());
  json["valid_until"] = absl::FormatTime(absl::RFC3339_sec, certificate.validity.until, absl::UTCTimeZone());
  json["days_left"] = static_cast<int>(DaysLeft(certificate));
  json["fingerprint_sha256"] = certificate.fingerprint;
  return json;
}

absl::StatusOr<int> Show(const Flags& flags) {
  const certs::Folder folder = FolderOf(flags);
  BDH_ASSIGN_OR_RETURN(const auto entries, folder.List());
  Table table({"NAME", "STATE", "UNTIL", ">DAYS", "ANSWERS TO"});
  Json listed = Json::array();
  bool all_valid = true;
  for (const certs::FileEntry& entry : entries) {
    const std::string verdict = Verdict(entry, flags.warn_days);
    all_valid = all_valid && verdict == "valid";
    listed.push_back(ToJson(entry, verdict));
    const bool readable = entry.certificate.ok();
    table.Add({entry.name, verdict, readable ? Day(entry.certificate->validity.until) : "-",
               readable ? absl::StrFormat("%d", static_cast<int>(DaysLeft(*entry.certificate))) : "-",
               readable ? absl::StrJoin(entry.certificate->hosts, " ") : "-"});
  }
  if (flags.json) {
    PrintJson({{"folder", folder.path()}, {"all_valid", all_valid}, {"certificates", listed}});
  } else {
    std::cout << table.ToString();
  }
  return all_valid ? kExitOk : kExitUnhealthy;
}

absl::StatusOr<int> Make(const Flags& flags) {
  const certs::Folder folder = FolderOf(flags);
  BDH_ASSIGN_OR_RETURN(const bool new_authority, folder.EnsureAuthority(kAuthorityDays));
  if (new_authority) std::cerr << "bdhctl: made an authority: " << folder.AuthorityFile() << std::endl;
  std::vector<std::string> hosts = kLocalHosts;
  hosts.insert(hosts.end(), flags.hosts.begin(), flags.hosts.end());
  for (const std::string& name : flags.names.empty() ? CertificateNames() : flags.names) {
    BDH_RETURN_IF_ERROR(folder.Issue({name, hosts}, flags.days));
  }
  return Show(flags);
}

// The same names again with new keys and dates.
absl::StatusOr<int> Renew(const Flags& flags) {
  const certs::Folder folder = FolderOf(flags);
  BDH_ASSIGN_OR_RETURN(const auto entries, folder.List());
  std::vector<std::string> unknown = flags.names;
  for (const certs::FileEntry& entry : entries) {
    std::erase(unknown, entry.name);
    const bool wanted = flags.names.empty() ||
                        std::find(flags.names.begin(), flags.names.end(), entry.name) != flags.names.end();
    if (!wanted || entry.name == certs::Folder::kAuthority) continue;
    BDH_RETURN_IF_ERROR(entry.certificate.status());
    BDH_RETURN_IF_ERROR(folder.Issue({entry.name, entry.certificate->hosts}, flags.days));
  }
  if (!unknown.empty()) {
    return absl::NotFoundError(
        absl::StrFormat("%s holds no certificate of %s; make it: bdhctl certs make --name %s", folder.path(),
                        unknown[0], unknown[0]));
  }
  return Show(flags);
}

void AddPlace(CLI::App& command, Flags& flags) {
  command.add_option("--dir", flags.dir, "Folder of the certificates (default: tls in the mesh's folder)")
      ->type_name("DIR");
  command.add_option("--data", flags.data, "Folder of the mesh (default: $BDH_DATA, ./bdh-data)")
      ->type_name("DIR");
  command.add_option("--warn-days", flags.warn_days, "Call it \"expires soon\" when fewer are left")
      ->capture_default_str()
      ->check(CLI::Range(0, kDaysMax));
  AddJsonFlag(command, flags.json);
}

void AddNames(CLI::App& command, Flags& flags) {
  command
      .add_option("--name", flags.names, "Only these; may be repeated (default: the five daemons and bdhctl)")
      ->type_name("NAME");
  command.add_option("--days", flags.days, "How long they are valid")
      ->capture_default_str()
      ->check(CLI::Range(1, kDaysMax));
}

}  // namespace

std::vector<std::string> CertificateNames() {
  std::vector<std::string> names(kDaemons.begin(), kDaemons.end());
  names.emplace_back("bdhctl");
  return names;
}

absl::Status UseCertificatesOf(const MeshFolder& folder, v1::Config& config) {
  if (!config.mesh().tls().ca_file().empty()) return absl::OkStatus();
  const certs::Folder certificates(folder.Path("tls"));
  BDH_RETURN_IF_ERROR(certificates.EnsureAuthority(kAuthorityDays).status());
  BDH_ASSIGN_OR_RETURN(const auto present, certificates.List());
  for (const std::string& name : CertificateNames()) {
    const bool there =
        std::any_of(present.begin(), present.end(), [&](const auto& entry) { return entry.name == name; });
    if (!there) BDH_RETURN_IF_ERROR(certificates.Issue({name, kLocalHosts}, kDays));
  }
  v1::TlsConfig& tls = *config.mutable_mesh()->mutable_tls();
  tls.set_ca_file(certificates.AuthorityFile());
  tls.set_cert_file(certificates.CertificateFile("{daemon}"));
  tls.set_key_file(certificates.KeyFile("{daemon}"));
  return absl::OkStatus();
}

void AddCertsCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group =
      app.add_subcommand("certs", "Certificates for tests and small sites: make, look at, renew");
  group->require_subcommand(1);
  AddCommand<Flags>(
      *group, invocation, "make", "Make an authority, unless there is one, and a certificate a daemon",
      [](CLI::App& command, Flags& flags) {
        AddPlace(command, flags);
        AddNames(command, flags);
        command
            .add_option("--host", flags.hosts, "Another host name or address they answer to; may be repeated")
            ->type_name("HOST");
        command.footer(
            "Keep ca.key away from the daemons: only `certs make` and `certs renew` read it.\n\n"
            "Example, for a mesh on two machines:\n"
            "  bdhctl certs make --dir tls --host gpu1.example.org --host gpu2.example.org");
      },
      Make);
  AddCommand<Flags>(
      *group, invocation, "show", "Show certificates and how long they are valid",
      [](CLI::App& command, Flags& flags) {
        AddPlace(command, flags);
        command.footer("Exit code 4 when one has expired, expires soon, or is not fit for use.");
      },
      Show);
  AddCommand<Flags>(
      *group, invocation, "renew", "Issue the certificates anew; running daemons take them without a restart",
      [](CLI::App& command, Flags& flags) {
        AddPlace(command, flags);
        AddNames(command, flags);
      },
      Renew);
}

}  // namespace bdh::bdhctl
