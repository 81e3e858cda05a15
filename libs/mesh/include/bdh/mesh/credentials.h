// What a process of the mesh shows to the others, what it demands of them, and what it lets them do.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bdh/v1/config.pb.h"

namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace bdh::mesh {

// A value that is cheap to copy; copies share what they watch. Thread-safe.
class Credentials {
 public:
  // Without TLS. `token` is what calls carry and must carry; an empty one is neither sent nor asked for.
  Credentials(std::string token = "");  // NOLINT: a token is the simplest kind of credentials.
  Credentials(const char* token) : Credentials(std::string(token)) {}

  // From mesh.tls, mesh.token_file and mesh.permissions, for the daemon or tool of that name
  // ("bdh-inference", "bdhctl"). Reads and checks the files, and starts nothing. InvalidArgumentError: keys
  // contradict one another, or a certificate is not what it must be. FailedPreconditionError: a secret is
  // readable by others. Other codes: a file cannot be read.
  static absl::StatusOr<Credentials> Load(const v1::MeshConfig& mesh, std::string_view name);

  // What calls carry now, or "": the file is read again when it changes.
  std::string token() const;
  // The same with one fixed token.
  Credentials WithToken(std::string token) const;
  // Whose token this is: a name, or "" for one that all share. UnauthenticatedError: nobody's. Any text
  // passes when no token is demanded.
  absl::StatusOr<std::string> NameOfToken(std::string_view token) const;
  // Whether a caller of that name may call `method`. PermissionDeniedError: no.
  absl::Status CheckMay(std::string_view caller, std::string_view method) const;

  bool demands_token() const;
  bool has_tls() const;
  // Whether a stranger who can reach the port is kept out.
  bool demands_proof() const;

  // For gRPC. Certificates are watched from the first call on: new connections use what the files hold then.
  // InvalidArgumentError: TLS without a certificate to show, or with one for another name.
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ForServer() const;
  std::shared_ptr<grpc::ChannelCredentials> ForChannel() const;
  // What the certificate of `daemon` must be for when it is called; "": the host it is reached under.
  std::string ExpectedName(std::string_view daemon) const;

 private:
  struct State;
  explicit Credentials(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// `path` with {daemon} replaced by `name`.
std::string PathFor(std::string_view name, const std::string& path);

}  // namespace bdh::mesh
