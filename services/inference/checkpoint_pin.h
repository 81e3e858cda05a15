#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"

namespace bdh::inference {

// Keeps a checkpoint of the store from being deleted while it is read: a pin with a lease, renewed by a
// thread of its own until this object ends. Nobody waits for the pin, and a store that cannot give one is
// read all the same: a reader sees the checkpoint as it was when it began.
class CheckpointPin {
 public:
  // `store` outlives this object.
  CheckpointPin(const mesh::Peer& store, std::string checkpoint, absl::Duration lease = absl::Minutes(5));
  ~CheckpointPin();  // Unpins.

 private:
  void Run();
  // One call to the store that the destructor can end.
  absl::Status Pin();

  const mesh::Peer& store_;
  const std::unique_ptr<v1::CheckpointAdminService::Stub> stub_;
  const std::string checkpoint_, holder_;
  const absl::Duration lease_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool pinned_ = false;  // The thread's; read after its end.
  std::thread thread_;   // The last member: it uses the others.
};

}  // namespace bdh::inference
