// Several daemons of one kind, of which a caller picks one for each call: the same one for the same key, as
// long as that one is well.
//
//   const auto replica = replicas.Choose(session_id, Affinity::kStrict);
//   auto stub = v1::InferenceService::NewStub(replica->channel());
//   ...
//   replica->Report(status);
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/mesh/peer.h"

namespace bdh::mesh {

// Where one replica listens: an address, and the host name it was found under.
struct Endpoint {
  std::string address;  // "127.0.0.1:7041", "[::1]:7041"
  std::string host;
  auto operator<=>(const Endpoint&) const = default;
};

// The addresses behind "host:port", "host:port,host:port", "dns:///host:port" and "ipv4:host:port,host:port",
// sorted. UnavailableError: no name has an address now. InvalidArgumentError: not of that form.
absl::StatusOr<std::vector<Endpoint>> ResolveTarget(std::string_view target);

enum class Affinity {
  kStrict,  // The key's own replica while it is well.
  kSpread,  // The next one too, while the key's own has clearly more to do than the others.
};

// Thread-safe. Names are resolved again in a thread of its own; health comes from grpc.health.v1 on each
// connection.
class ReplicaSet {
 public:
  struct Options {
    Credentials credentials = {};
    int max_message_bytes = 8 << 20;
    std::string health_service =
        "";  // Whose health counts, "bdh.v1.InferenceService". Empty: being there is enough.
    absl::Duration resolve_every = absl::Seconds(10);
    // A replica whose calls failed so often in a row is left out for a while, longer each time.
    int failures_to_eject = 3;
    absl::Duration first_ejection = absl::Seconds(1), longest_ejection = absl::Minutes(1);
    std::function<absl::StatusOr<std::vector<Endpoint>>(std::string_view)> resolve = ResolveTarget;
  };

  // One of them. Held while a call lasts: what is held counts as its load.
  class Replica {
   public:
    Replica(Endpoint endpoint, std::shared_ptr<grpc::Channel> channel, const Options& options);

    const std::string& address() const { return endpoint_.address; }
    const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
    // How a call ended. What the replica itself is to blame for counts against it; anything else clears it.
    void Report(const grpc::Status& status);

   private:
    friend class ReplicaSet;
    bool ejected(absl::Time now) const;
    // 2: answers and is well. 1: is being connected to. 0: neither.
    int Fitness() const;

    const Endpoint endpoint_;
    const std::shared_ptr<grpc::Channel> channel_;
    const int failures_to_eject_;
    const absl::Duration first_ejection_, longest_ejection_;
    std::atomic<int> calls_{0};
    mutable Mutex mutex_;
    int failures_ ABSL_GUARDED_BY(mutex_) = 0;
    int ejections_ ABSL_GUARDED_BY(mutex_) = 0;
    absl::Time ejected_until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  };

  // `daemon` names them in errors, and is what their certificates must be for.
  ReplicaSet(std::string daemon, std::string target, Options options);
  ~ReplicaSet();

  // The replica for `key`. Those that are well come before those that are being connected to, and these
  // before the rest; who comes first among equals depends on the key alone, so that the loss of one moves its
  // keys only. UnavailableError: the names have no address.
  absl::StatusOr<std::shared_ptr<Replica>> Choose(std::string_view key, Affinity affinity);

  // Contexts and sentences about errors; its own channel is not used.
  const Peer& peer() const { return peer_; }

  struct State {
    std::string address;
    bool well = false;
    bool ejected = false;
    int calls = 0;
  };
  std::vector<State> States() const;

 private:
  void ResolveAgain();
  void Update(std::vector<Endpoint> endpoints);

  const Options options_;
  const Peer peer_;
  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status resolved_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Replica>> replicas_ ABSL_GUARDED_BY(mutex_);
  std::thread resolver_;
};

}  // namespace bdh::mesh
