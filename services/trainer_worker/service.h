#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/trainer.grpc.pb.h"
#include "services/trainer_worker/run_book.h"
#include "services/trainer_worker/runner.h"

namespace bdh::trainer_worker {

// Translates RPCs to the runner and the book. Thread-safe.
class Trainer final : public v1::TrainerService::Service {
 public:
  struct Options {
    int64_t max_model_bytes = int64_t{64} << 30;
    absl::Duration call_timeout = absl::Seconds(10);
  };

  // All references outlive this object.
  Trainer(Options options, const mesh::Gate& gate, RunBook& book, Runner& runner,
          const mesh::Peer& data_loader, const mesh::Peer& checkpoint_store);

  // Goes on with the run that was training when the worker before ended.
  void ResumeAfterRestart();

  // "kjv-run step 120/600 loss 1.93", or "idle".
  std::string KeyFigure() const;

 private:
  grpc::Status StartRun(grpc::ServerContext* context, const v1::StartRunRequest* request,
                        v1::StartRunResponse* response) override;
  grpc::Status StopRun(grpc::ServerContext* context, const v1::StopRunRequest* request,
                       v1::StopRunResponse* response) override;
  grpc::Status GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                      v1::GetRunResponse* response) override;
  grpc::Status ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override;
  grpc::Status WatchRun(grpc::ServerContext* context, const v1::WatchRunRequest* request,
                        grpc::ServerWriter<v1::RunEvent>* writer) override;

  absl::StatusOr<v1::Run> Start(const v1::StartRunRequest& request);
  // What the request asks for, not yet checked against data set and machine.
  absl::StatusOr<v1::Run> NewRun(const v1::StartRunRequest& request) const;
  absl::StatusOr<v1::Run> OldRun(const v1::StartRunRequest& request);
  // A run of another worker, or of a lost data_dir, as its newest checkpoint tells it.
  absl::StatusOr<v1::Run> RunFromStore(const std::string& name);
  absl::Status FitToDataLoader(v1::Run& run, bool resume);
  absl::Status CheckStoreHasNone(const std::string& name);
  absl::Status Stop(const grpc::ServerContext& context, const std::string& name);
  absl::Status Watch(const grpc::ServerContext& context, const v1::WatchRunRequest& request,
                     grpc::ServerWriter<v1::RunEvent>& writer);
  std::string ChooseName() const;

  const Options options_;
  const mesh::Gate& gate_;
  RunBook& book_;
  Runner& runner_;
  const mesh::Peer& data_loader_;
  const mesh::Peer& checkpoint_store_;
  std::atomic<int> watchers_ = 0;
};

}  // namespace bdh::trainer_worker
