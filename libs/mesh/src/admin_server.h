// The HTTP admin port: /metrics for Prometheus, /healthz and /readyz for probes.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/telemetry/metrics.h"

namespace bdh::mesh {

// Serves from one thread of its own. Requests are answered within 5 s or dropped, so that nobody can hold it.
class AdminServer {
 public:
  // `metrics` outlives the result. UnavailableError: cannot listen.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const std::string& address,
                                                            const telemetry::Metrics& metrics);
  ~AdminServer();

  const std::string& address() const;
  void SetReady(bool ready);

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::mesh
