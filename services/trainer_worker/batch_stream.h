// Batches of a data set from bdh-data-loader, read ahead by a thread.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/mesh/peer.h"
#include "bdh/training/exchange.h"
#include "bdh/v1/data_loader.grpc.pb.h"

namespace bdh::trainer_worker {

// A stream that breaks is opened again at the next step. Used by one thread.
class BatchStream final : public training::BatchSource {
 public:
  struct Options {
    // Data set, its hash, split, seed and sizes. step_count ends at that step, wherever a read begins.
    v1::StreamBatchesRequest request = {};
    // Batches kept ready. More do not help: the loader is faster than any model.
    size_t prefetch = 2;
    // How long the data loader may be away.
    absl::Duration patience = absl::Minutes(2);
  };

  // `loader` outlives this object.
  BatchStream(const mesh::Peer& loader, Options options);
  ~BatchStream() override;

  absl::StatusOr<training::Batch> Read(int64_t step, std::stop_token stop) override;

 private:
  // A batch, or why there will be no more.
  struct Item {
    absl::Status status;
    training::Batch batch = {};
  };

  void Open(int64_t step);
  // The reader's thread: streams from `step` on until it is stopped or patience is over.
  void ReadAhead(int64_t step, std::stop_token stop);
  // One stream; `step` is the next one to come, and moves. OK: the stream ended as it should.
  absl::Status ReadStream(int64_t& step, std::stop_token stop);
  // False: stopped.
  bool Push(Item item, std::stop_token stop);

  const mesh::Peer& loader_;
  const Options options_;
  const std::unique_ptr<v1::DataLoaderService::Stub> stub_;
  int64_t next_step_ = -1;  // Of the caller.

  Mutex mutex_;
  CondVar changed_;
  std::deque<Item> ready_ ABSL_GUARDED_BY(mutex_);
  std::jthread reader_;  // Last: it uses all of the above.
};

// The token ids of one message, appended to `batch`. DataLossError: the message contradicts itself.
absl::Status AppendRows(const v1::Batch& message, training::Batch& batch);

}  // namespace bdh::trainer_worker
