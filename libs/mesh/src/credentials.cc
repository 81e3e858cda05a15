#include "bdh/mesh/credentials.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/crypto.h>

#include <mutex>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/certs/certificate.h"
#include "permissions.h"
#include "private_file.h"
#include "token_source.h"

namespace bdh::mesh {
namespace {

using Provider = grpc::experimental::FileWatcherCertificateProvider;

// The TLS section with its paths filled in; empty without TLS.
struct Tls {
  std::string ca_file, cert_file, key_file;
  grpc_ssl_client_certificate_request_type ask_clients = GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  bool verify_daemon_name = true;
  unsigned int reload_seconds = 10;

  bool on() const { return !ca_file.empty(); }
};

grpc_ssl_client_certificate_request_type AskClients(const std::string& client_certificates) {
  if (client_certificates == "none") return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  if (client_certificates == "optional") return GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
  return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
}

Tls FromConfig(const v1::TlsConfig& config, std::string_view name) {
  Tls tls;
  tls.ca_file = PathFor(name, config.ca_file());
  tls.cert_file = PathFor(name, config.cert_file());
  tls.key_file = PathFor(name, config.key_file());
  tls.ask_clients = AskClients(config.client_certificates());
  tls.verify_daemon_name = config.verify() != "host";
  if (config.reload_seconds() >= 1) tls.reload_seconds = static_cast<unsigned int>(config.reload_seconds());
  return tls;
}

absl::Status CheckTogether(const Tls& tls) {
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    const bool no_key = tls.key_file.empty();
    return absl::InvalidArgumentError(
        absl::StrFormat("mesh.tls.%s is set and mesh.tls.%s is not; a certificate and its key go together",
                        no_key ? "cert_file" : "key_file", no_key ? "key_file" : "cert_file"));
  }
  if (!tls.on() && !tls.cert_file.empty()) {
    return absl::InvalidArgumentError(
        "mesh.tls.cert_file is set and mesh.tls.ca_file is not; whom would this daemon trust? Set ca_file to "
        "the "
        "authority that issued the mesh's certificates");
  }
  return absl::OkStatus();
}

absl::Status CheckDates(const certs::Description& certificate, const std::string& file) {
  const absl::Time now = absl::Now();
  const auto day = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%d %H:%M UTC", time, absl::UTCTimeZone());
  };
  if (now > certificate.validity.until) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "mesh.tls.cert_file %s expired on %s, so nobody would accept it; renew it (bdhctl certs renew "
        "does that for certificates it made)",
        file, day(certificate.validity.until)));
  }
  if (now < certificate.validity.from) {
    return absl::InvalidArgumentError(
        absl::StrFormat("mesh.tls.cert_file %s is valid from %s on; is the clock right?", file,
                        day(certificate.validity.from)));
  }
  return absl::OkStatus();
}

// What gRPC would only say by refusing every connection.
absl::Status CheckFiles(const Tls& tls) {
  const auto authorities = ReadFile(tls.ca_file);
  BDH_RETURN_IF_ERROR(Annotate(authorities.status(), "mesh.tls.ca_file"));
  BDH_RETURN_IF_ERROR(Annotate(certs::Describe(*authorities).status(), "mesh.tls.ca_file " + tls.ca_file));
  if (tls.cert_file.empty()) return absl::OkStatus();
  const auto certificate = ReadFile(tls.cert_file);
  BDH_RETURN_IF_ERROR(Annotate(certificate.status(), "mesh.tls.cert_file"));
  const std::string cert_key = "mesh.tls.cert_file " + tls.cert_file;
  const auto described = certs::Describe(*certificate);
  BDH_RETURN_IF_ERROR(Annotate(described.status(), cert_key));
  BDH_RETURN_IF_ERROR(CheckPrivate("mesh.tls.key_file", tls.key_file));
  BDH_ASSIGN_OR_RETURN(const std::string key, ReadFile(tls.key_file));
  BDH_RETURN_IF_ERROR(Annotate(certs::CheckPair(*certificate, key), "mesh.tls.key_file " + tls.key_file));
  BDH_RETURN_IF_ERROR(CheckDates(*described, tls.cert_file));
  BDH_RETURN_IF_ERROR(Annotate(certs::CheckIssuedBy(*certificate, *authorities),
                               cert_key + ", compared to mesh.tls.ca_file,"));
  return absl::OkStatus();
}

// Who is called must show its own name; a caller may have any.
absl::Status CheckServerName(const Tls& tls, std::string_view name) {
  BDH_ASSIGN_OR_RETURN(const std::string certificate, ReadFile(tls.cert_file));
  BDH_ASSIGN_OR_RETURN(const certs::Description described, certs::Describe(certificate));
  if (!tls.verify_daemon_name || described.AnswersTo(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("mesh.tls.cert_file %s is not for %s: its alternative names lack DNS:%s, which the "
                      "other daemons look for; issue "
                      "it with that name, or set mesh.tls.verify=host to have host names looked for instead",
                      tls.cert_file, name, name));
}

// In constant time, so that a wrong token teaches nothing about the right one.
bool SameSecret(std::string_view given, std::string_view expected) {
  return given.size() == expected.size() && CRYPTO_memcmp(given.data(), expected.data(), given.size()) == 0;
}

}  // namespace

struct Credentials::State {
  std::string name;                     // Ours.
  std::unique_ptr<TokenSource> tokens;  // Null: none is demanded.
  Tls tls;
  Permissions permissions;

  // Reads the files again every reload_seconds, in a thread of its own.
  std::shared_ptr<Provider> Watch() {
    std::call_once(started_, [this] {
      watcher_ = std::make_shared<Provider>(tls.key_file, tls.cert_file, tls.ca_file, tls.reload_seconds);
    });
    return watcher_;
  }

 private:
  std::once_flag started_;
  std::shared_ptr<Provider> watcher_;
};

Credentials::Credentials(std::string token) : state_(std::make_shared<State>()) {
  if (!token.empty())
    state_->tokens = std::make_unique<TokenSource>(Tokens{{.name = "", .secret = std::move(token)}});
}

absl::StatusOr<Credentials> Credentials::Load(const v1::MeshConfig& mesh, std::string_view name) {
  auto state = std::make_shared<State>();
  state->tls = FromConfig(mesh.tls(), name);
  BDH_RETURN_IF_ERROR(CheckTogether(state->tls));
  if (state->tls.on()) BDH_RETURN_IF_ERROR(CheckFiles(state->tls));
  if (!mesh.token_file().empty()) {
    BDH_ASSIGN_OR_RETURN(state->tokens, TokenSource::Open(PathFor(name, mesh.token_file())));
  }
  BDH_ASSIGN_OR_RETURN(state->permissions, Permissions::FromConfig(mesh.permissions()));
  state->name = std::string(name);
  return Credentials(std::move(state));
}

std::string Credentials::token() const {
  return demands_token() ? TokenToShow(*state_->tokens->Get(), state_->name).secret : "";
}

Credentials Credentials::WithToken(std::string token) const {
  auto state = std::make_shared<State>();
  state->name = state_->name;
  state->tokens = std::make_unique<TokenSource>(Tokens{{.name = "", .secret = std::move(token)}});
  state->tls = state_->tls;
  state->permissions = state_->permissions;
  return Credentials(std::move(state));
}

absl::StatusOr<std::string> Credentials::NameOfToken(std::string_view token) const {
  if (!demands_token()) return "";
  const auto tokens = state_->tokens->Get();
  const Token* found = nullptr;
  for (const Token& one : *tokens) {  // All of them, whichever it is.
    if (SameSecret(token, one.secret)) found = &one;
  }
  if (found != nullptr) return found->name;
  return absl::UnauthenticatedError("nobody's token");
}

absl::Status Credentials::CheckMay(std::string_view caller, std::string_view method) const {
  return state_->permissions.Check(caller, method);
}

bool Credentials::demands_token() const {
  return state_->tokens != nullptr;
}

bool Credentials::has_tls() const {
  return state_->tls.on();
}

bool Credentials::demands_proof() const {
  const bool demands_certificate =
      has_tls() && state_->tls.ask_clients == GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  return demands_token() || demands_certificate;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials::ForServer() const {
  if (!has_tls()) return grpc::InsecureServerCredentials();
  if (state_->tls.cert_file.empty()) {
    return absl::InvalidArgumentError(
        "mesh.tls.ca_file is set and mesh.tls.cert_file is not; a daemon needs a certificate to show "
        "(cert_file and key_file; {daemon} in them stands for its name)");
  }
  BDH_RETURN_IF_ERROR(CheckServerName(state_->tls, state_->name));
  grpc::experimental::TlsServerCredentialsOptions options(state_->Watch());
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(state_->tls.ask_clients);
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> Credentials::ForChannel() const {
  if (!has_tls()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(state_->Watch());
  options.watch_root_certs();
  if (!state_->tls.cert_file.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

std::string Credentials::ExpectedName(std::string_view daemon) const {
  return has_tls() && state_->tls.verify_daemon_name ? std::string(daemon) : "";
}

std::string PathFor(std::string_view name, const std::string& path) {
  return absl::StrReplaceAll(path, {{"{daemon}", absl::string_view(name.data(), name.size())}});
}

}  // namespace bdh::mesh
