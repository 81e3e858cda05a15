// bdh-inference as the gateway sees it: one daemon or several, of which requests that begin alike go to the
// same; calls that do not hold a thread, whose answers come on the strand of the HTTP request they belong to.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/replica_set.h"
#include "bdh/v1/inference.grpc.pb.h"

namespace bdh::gateway {

// Runs work on the strand of a request. Called on any thread until InferenceClient::StopAndWait returns.
using Post = std::function<void(std::function<void()>)>;

// One running Generate call. All methods on the strand.
class Generation {
 public:
  virtual ~Generation() = default;
  // Asks for the next message. Nothing is read from the mesh unasked, so a caller that waits makes
  // bdh-inference wait. Call once after the start and once after each message.
  virtual void Next() = 0;
  // Ends the call; neither callback is called any more.
  virtual void Cancel() = 0;
};

// Thread-safe.
class InferenceClient {
 public:
  struct Options {
    std::string address;  // As mesh::ResolveTarget has it.
    mesh::Credentials credentials = {};
    int max_message_bytes = 8 << 20;
    absl::Duration call_timeout = absl::Seconds(10);  // Of ListModels.
    absl::Duration generate_timeout = absl::Seconds(600);
  };
  using OnModels = std::function<void(absl::StatusOr<v1::ListModelsResponse>)>;
  struct Listener {
    std::function<void(v1::GenerateResponse)> on_message;
    std::function<void(absl::Status)> on_done;  // Exactly once, after all messages, unless cancelled.
  };

  explicit InferenceClient(const Options& options);
  ~InferenceClient();  // StopAndWait.

  void ListModels(Post post, OnModels on_models);
  std::shared_ptr<Generation> Generate(const v1::GenerateRequest& request, Post post, Listener listener);

  // Ends all calls with CANCELLED and lets none begin.
  void CancelAll();
  // CancelAll, and returns when no call is left that could post.
  void StopAndWait();

 private:
  class Calls;
  class GenerationImpl;
  class NoGeneration;
  using Replica = std::shared_ptr<mesh::ReplicaSet::Replica>;
  struct ModelsCall;

  const Options options_;
  mesh::ReplicaSet replicas_;
  const std::shared_ptr<Calls> calls_;
};

}  // namespace bdh::gateway
