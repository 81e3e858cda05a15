// A real bdh-checkpoint-store alone in a folder, which can be killed, and a client of it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "tests/e2e/subprocess.h"

namespace bdh::e2e {

class StoreDaemon {
 public:
  using Stub = v1::CheckpointStoreService::Stub;

  // What starts a store in `folder`/store with `settings` ("chunk_bytes=65536"), on free ports of loopback.
  static Command StartCommand(const std::string& folder, const std::vector<std::string>& settings = {});

  // Starts one and waits until it serves; a failure to is a failure of the test.
  explicit StoreDaemon(const std::string& folder, const std::vector<std::string>& settings = {});
  // The same by a command of one's own, which ends as that of StartCommand does.
  StoreDaemon(const std::string& folder, const Command& command);

  void Kill();
  pid_t pid() const { return process_->pid(); }
  std::string Complained() const { return process_->Complained(); }
  const mesh::Peer& peer() const { return *peer_; }
  Stub& stub() const { return *stub_; }

  // Puts `checkpoint` with the chunks that `next` fills in until it answers false.
  absl::Status Put(const v1::Checkpoint& checkpoint, const std::function<bool(v1::TensorChunk&)>& next) const;
  // One of a single tensor "t".
  absl::Status Put(const std::string& name, const std::string& bytes) const;
  // Gives the chunks that come to `take`.
  absl::Status Get(const std::string& reference,
                   const std::function<void(const v1::TensorChunk&)>& take) const;
  // The bytes of all tensors, one behind the other.
  absl::StatusOr<std::string> Get(const std::string& reference) const;
  absl::Status Delete(const std::string& name) const;
  absl::Status SetTag(const std::string& tag, const std::string& reference) const;
  absl::Status CollectGarbage() const;

  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) const {
    return peer_->Call(*stub_, method, request, absl::Minutes(1));
  }

  // The most memory that the process has held so far.
  int64_t PeakMemoryMib() const;

 private:
  void AwaitReady(const std::string& folder);

  std::unique_ptr<Subprocess> process_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
  std::unique_ptr<v1::CheckpointAdminService::Stub> admin_;
};

// A description with one tensor of bytes more.
void AddTensor(v1::Checkpoint& checkpoint, const std::string& name, int64_t size_bytes);

}  // namespace bdh::e2e
