// The one door every RPC handler of a daemon goes through.
//
//   grpc::Status ListTags(grpc::ServerContext* context, const Request* request, Response* response) override
//   {
//     return gate_.Run(*context, "ListTags", [&] { return List(*request, *response); });   // absl::Status
//   }
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/telemetry/trace.h"
#include "grpcpp/server_context.h"

namespace bdh::mesh {

// Checks who calls and whether they may, bounds the calls at once, lets the request's trace id into every log
// line of the handler, turns absl::Status into the wire's, counts, times and logs the call. Thread-safe.
class Gate {
 public:
  // `metrics` outlives this object.
  Gate(std::string daemon, const ListenOptions& listen, telemetry::Metrics& metrics);

  template <class Body>  // absl::Status()
  grpc::Status Run(const grpc::ServerContext& context, std::string_view method, Body&& body) const {
    Call call(*this, context, method);
    absl::Status status = call.Admit();
    if (status.ok()) status = std::forward<Body>(body)();
    return call.Finish(status);
  }

 private:
  // One call, from its arrival to its end.
  class Call {
   public:
    Call(const Gate& gate, const grpc::ServerContext& context, std::string_view method);
    ~Call();
    absl::Status Admit();
    grpc::Status Finish(const absl::Status& status);

   private:
    absl::Status FindCaller();
    absl::Status CheckRoom() const;
    void Count(const absl::Status& status, absl::Duration took) const;
    void Log(const absl::Status& status, absl::Duration took) const;

    const Gate& gate_;
    const grpc::ServerContext& context_;
    const std::string method_;
    const absl::Time start_ = absl::Now();
    const telemetry::ScopedTrace trace_;
    const int calls_at_once_;  // With this one.
    std::string caller_;       // Empty: known by nothing but the mesh's token.
  };

  void CountInFlight(const std::string& method, int delta) const;

  const std::string daemon_;
  const ListenOptions listen_;
  telemetry::Metrics& metrics_;
  mutable std::atomic<int> calls_{0};
};

}  // namespace bdh::mesh
