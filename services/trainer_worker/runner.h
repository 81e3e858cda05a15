// The one thread of a worker that trains, and who may use it.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/mesh/peer.h"
#include "bdh/training/trainer.h"
#include "bdh/v1/trainer.pb.h"
#include "services/trainer_worker/kept_states.h"
#include "services/trainer_worker/run_book.h"
#include "services/trainer_worker/run_session.h"

namespace bdh::trainer_worker {

// Thread-safe.
class Runner {
 public:
  struct Options {
    int threads = 0;
    absl::Duration call_timeout = absl::Seconds(10);
    absl::Duration patience = absl::Minutes(2);  // With a daemon that is away.
  };

  // All references outlive this object.
  Runner(Options options, RunBook& book, const KeptStates& kept, const mesh::Peer& data_loader,
         const mesh::Peer& checkpoint_store, telemetry::Metrics& metrics);
  ~Runner();  // As Drain(0).

  // The right to train, given back when it is destroyed without Launch.
  class Reservation {
   public:
    Reservation(Reservation&& other) noexcept : runner_(std::exchange(other.runner_, nullptr)) {}
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation() {
      if (runner_ != nullptr) runner_->Release();
    }

   private:
    friend class Runner;
    explicit Reservation(Runner* runner) : runner_(runner) {}
    Runner* runner_;
  };
  // ResourceExhaustedError names the run that has it. UnavailableError while draining.
  absl::StatusOr<Reservation> Reserve(const std::string& run);

  enum class Start {
    kFresh,
    kResume,
    // As kResume, but the other daemons may be starting too: wait for them, however long.
    kAfterRestart,
  };
  // Trains a run that is in the book, up to its end, which the book will know.
  void Launch(Reservation place, const v1::Run& run, Start start);

  // Asks a run to stop; it is over when the book says so. FailedPreconditionError: it is not running.
  absl::Status RequestStop(const std::string& run);

  // From now on what is kept of runs is given to the store as soon as that is back, and runs that ended for
  // its being away go on. Once.
  void BeginDelivering();

  // Stops what is running, with a checkpoint, within `timeout`; where the store is away it is kept on this
  // disk. Its record stays RUNNING, so that a restarted worker goes on with it.
  void Drain(absl::Duration timeout);

  // The run that is training, or "".
  std::string busy_with() const;

 private:
  using Outcome = training::Trainer::Outcome;

  void Release();
  // The thread.
  void Train(const v1::Run& run, Start start, std::stop_token stop);
  absl::StatusOr<Outcome> TrainToEnd(const v1::Run& run, Start start, std::stop_token stop);
  // A trainer in the state in which the run goes on.
  absl::StatusOr<std::vector<v1::TokenizerFile>> FetchTokenizer(const v1::Run& run, std::stop_token stop);
  absl::StatusOr<std::unique_ptr<training::Trainer>> Prepare(const v1::Run& run, Start start,
                                                             StoreClient& reader, RunSession& session,
                                                             std::stop_token stop);
  absl::Status WaitForDataLoader(const v1::Run& run, std::stop_token stop);
  void End(const v1::Run& run, const absl::StatusOr<Outcome>& outcome);
  std::string SavedAs(const std::string& run) const;  // The name of its newest checkpoint.
  // The deliverer's thread.
  void DeliverKept(std::stop_token stop);
  absl::Status DeliverOne(const std::string& name, std::stop_token stop);

  const Options options_;
  RunBook& book_;
  const KeptStates& kept_;
  const mesh::Peer& data_loader_;
  const mesh::Peer& checkpoint_store_;
  Meters meters_;
  std::stop_source hurry_, abandon_;  // Of saving, while draining.

  mutable Mutex mutex_;
  CondVar changed_;
  std::string busy_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool launched_ ABSL_GUARDED_BY(mutex_) = false;    // thread_ is the thread of busy_.
  bool stop_asked_ ABSL_GUARDED_BY(mutex_) = false;  // For a run that has its place but no thread yet.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;      // The run is over; its record is being written.
  std::jthread thread_ ABSL_GUARDED_BY(mutex_);
  std::jthread deliverer_;  // The last member: it uses the others.
};

}  // namespace bdh::trainer_worker
