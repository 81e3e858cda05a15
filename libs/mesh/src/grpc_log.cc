#include "grpc_log.h"

#include <grpc/support/log.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/log.h"
#include "bdh/base/mutex.h"

namespace bdh::mesh {
namespace {

constexpr int kLinesASecond = 3;

// A port scan must not fill the disk: so many lines a second, then their number.
class Faucet {
 public:
  // True: write the line. `held_back` is how many were not written since the last one.
  bool Open(int& held_back) {
    MutexLock lock(mutex_);
    const absl::Time now = absl::Now();
    if (now - second_ >= absl::Seconds(1)) {
      second_ = now;
      lines_ = 0;
    }
    if (++lines_ > kLinesASecond) {
      ++held_back_;
      return false;
    }
    held_back = std::exchange(held_back_, 0);
    return true;
  }

 private:
  Mutex mutex_;
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  int held_back_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What to do about what OpenSSL says of a handshake.
std::string_view Hint(std::string_view message) {
  const auto says = [&](std::string_view text) { return message.find(text) != std::string_view::npos; };
  if (says("wrong version number") || says("http request")) {
    return "; somebody spoke something else than TLS: a client without mesh.tls?";
  }
  if (says("peer did not return a certificate")) return "; the caller has no mesh.tls.cert_file";
  if (says("certificate verify failed") || says("unknown ca") || says("certificate unknown")) {
    return "; the certificate is of another authority than mesh.tls.ca_file, or has expired";
  }
  if (says("No match found")) return "; the certificate is another daemon's (mesh.tls.verify)";
  return "";
}

void Write(gpr_log_func_args* line) {
  const std::string_view file = line->file, message = line->message;
  const bool about_tls = file.find("ssl_transport_security") != std::string_view::npos ||
                         file.find("tls_certificate") != std::string_view::npos;
  if (line->severity != GPR_LOG_SEVERITY_ERROR || !about_tls) return;
  static Faucet* const faucet = new Faucet;  // gRPC's threads may outlive every static object.
  int held_back = 0;
  if (!faucet->Open(held_back)) return;
  BDH_LOG(WARNING) << "TLS: " << message << Hint(message)
                   << (held_back > 0 ? " (and " + std::to_string(held_back) + " more)" : "");
}

}  // namespace

void RouteGrpcLog() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;  // A person debugs.
  gpr_set_log_function(Write);
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
}

}  // namespace bdh::mesh
