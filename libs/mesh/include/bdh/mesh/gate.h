// The one door every RPC handler of a daemon goes through.
//
//   grpc::Status ListTags(grpc::ServerContext* context, const Request* request, Response* response) override
//   {
//     return gate_.Run(*context, "ListTags", [&] { return List(*request, *response); });   // absl::Status
//   }
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/telemetry/metrics.h"
#include "grpcpp/server_context.h"

namespace bdh::mesh {

// Checks the mesh token, turns absl::Status into the wire's, counts and times the call.
// Thread-safe.
class Gate {
 public:
  // `metrics` outlives this object.
  Gate(std::string daemon, const ListenOptions& listen, telemetry::Metrics& metrics);

  template <class Body>  // absl::Status()
  grpc::Status Run(const grpc::ServerContext& context, std::string_view method, Body&& body) const {
    const absl::Time start = absl::Now();
    absl::Status status = CheckToken(context);
    if (status.ok()) status = std::forward<Body>(body)();
    return Finish(method, absl::Now() - start, status);
  }

 private:
  absl::Status CheckToken(const grpc::ServerContext& context) const;
  grpc::Status Finish(std::string_view method, absl::Duration took, const absl::Status& status) const;

  const std::string daemon_;
  const Credentials credentials_;
  telemetry::Metrics& metrics_;
};

}  // namespace bdh::mesh
