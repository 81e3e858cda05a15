#include "grpc_log.h"

#include <grpc/support/log.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "bdh/base/log.h"
#include "faucet.h"

namespace bdh::mesh {
namespace {

constexpr int kLinesASecond = 2;

// A kind of refusal: how OpenSSL says it, what to do about it, and how often it is logged.
struct Kind {
  const char* said;
  const char* hint;
  Faucet faucet{kLinesASecond};
};

Kind& KindOf(std::string_view message) {
  static Kind* const kinds = new Kind[]{
      // gRPC's threads may outlive every static object.
      {"wrong version number", "; somebody spoke something else than TLS: a client without mesh.tls?"},
      {"http request", "; somebody spoke plain HTTP"},
      {"did not return a certificate", "; the caller has no mesh.tls.cert_file"},
      {"certificate verify failed",
       "; the certificate is of another authority than mesh.tls.ca_file, or has expired"},
      {"No match found", "; the certificate is another daemon's (mesh.tls.verify)"},
      {"", ""}};
  Kind* kind = kinds;
  while (message.find(kind->said) == std::string_view::npos) ++kind;  // The last one's is found everywhere.
  return *kind;
}

void Write(gpr_log_func_args* line) {
  const std::string_view file = line->file, message = line->message;
  const bool about_tls = file.find("ssl_transport_security") != std::string_view::npos ||
                         file.find("tls_certificate") != std::string_view::npos;
  if (line->severity != GPR_LOG_SEVERITY_ERROR || !about_tls) return;
  Kind& kind = KindOf(message);
  int held_back = 0;
  if (!kind.faucet.Open(held_back)) return;
  BDH_LOG(WARNING) << "TLS: " << message << kind.hint
                   << (held_back > 0 ? " (and " + std::to_string(held_back) + " more)" : "");
}

}  // namespace

void RouteGrpcLog() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;  // A person debugs.
  gpr_set_log_function(Write);
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
}

}  // namespace bdh::mesh
