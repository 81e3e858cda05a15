// How a daemon or a tool calls another daemon: a channel, credentials, and a deadline on every call. Calls
// that may be repeated (idempotency_level in the protos) are repeated when the daemon does not answer.
//
//   mesh::Peer store("bdh-checkpoint-store", config.mesh().checkpoint_store(), credentials);
//   auto stub = v1::CheckpointStoreService::NewStub(store.channel());
//   BDH_ASSIGN_OR_RETURN(auto tags, store.Call(*stub, &Stub::ListTags, v1::ListTagsRequest(),
//   absl::Seconds(5)));
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/credentials.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"

namespace bdh::mesh {

// Thread-safe. Connects in the background, and again after a loss.
class Peer {
 public:
  // `daemon` names it in errors, and is what its certificate must be for. `address` is a gRPC target.
  Peer(std::string daemon, std::string address, Credentials credentials, int max_message_bytes = 8 << 20);

  const std::string& daemon() const { return daemon_; }
  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // A context with deadline, token and this thread's trace id, for streams. With `wait_for_ready` the call
  // waits for a daemon that is starting until the deadline instead of failing at once.
  std::unique_ptr<grpc::ClientContext> NewContext(absl::Duration timeout, bool wait_for_ready = false) const;

  // The call's outcome for a person: "bdh-inference at 127.0.0.1:7041 does not answer (...)"; other
  // messages pass unchanged.
  absl::Status Outcome(const grpc::Status& status) const;

  // A unary call.
  template <class Stub, class Base, class Request, class Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Base::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, absl::Duration timeout,
                                bool wait_for_ready = false) const {
    const auto context = NewContext(timeout, wait_for_ready);
    Response response;
    const absl::Status status = Outcome((stub.*method)(context.get(), request, &response));
    if (!status.ok()) return status;
    return response;
  }

 private:
  const std::string daemon_, address_;
  const Credentials credentials_;
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace bdh::mesh
