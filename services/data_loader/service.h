#pragma once

#include <atomic>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/mesh/gate.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "services/data_loader/sources.h"

namespace bdh::data_loader {

// Translates RPCs to libs/corpus and libs/tokenizer and back. Thread-safe.
class DataLoader final : public v1::DataLoaderService::Service {
 public:
  // All three outlive this object.
  DataLoader(corpus::DatasetStore& store, const mesh::Gate& gate, telemetry::Metrics& metrics,
             SourceLimits limits, int max_streams, int64_t batch_message_bytes);

  // "1 data set, 2 streams".
  std::string KeyFigure() const;

  // Refuses new batch streams and ends the open ones after their step, with the step to go on with. One whose
  // reader does not read is cancelled after `patience`: that reader goes on after the last step it has.
  void StopStreams(absl::Duration patience);

 private:
  using CreateStream = grpc::ServerReaderWriter<v1::CreateDatasetResponse, v1::CreateDatasetRequest>;
  using BatchWriter = grpc::ServerWriter<v1::Batch>;

  grpc::Status CreateDataset(grpc::ServerContext* context, CreateStream* stream) override;
  grpc::Status ListDatasets(grpc::ServerContext* context, const v1::ListDatasetsRequest* request,
                            v1::ListDatasetsResponse* response) override;
  grpc::Status DescribeDataset(grpc::ServerContext* context, const v1::DescribeDatasetRequest* request,
                               v1::DescribeDatasetResponse* response) override;
  grpc::Status DeleteDataset(grpc::ServerContext* context, const v1::DeleteDatasetRequest* request,
                             v1::DeleteDatasetResponse* response) override;
  grpc::Status StreamBatches(grpc::ServerContext* context, const v1::StreamBatchesRequest* request,
                             BatchWriter* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;

  class StreamSlot;

  absl::Status Create(const grpc::ServerContext& context, CreateStream& stream);
  absl::Status Stream(grpc::ServerContext& context, const v1::StreamBatchesRequest& request,
                      BatchWriter& writer);

  corpus::DatasetStore& store_;
  const mesh::Gate& gate_;
  const SourceLimits limits_;
  const int max_streams_;
  const int64_t batch_message_bytes_;  // Tokens that one message may hold.
  std::atomic<int> streams_ = 0;
  std::atomic<bool> stopping_ = false;
  Mutex mutex_;
  CondVar stream_ended_;
  std::set<const grpc::ServerContext*> open_ ABSL_GUARDED_BY(mutex_);
  prometheus::Counter& tokens_sent_;
  prometheus::Gauge& streams_gauge_;
  prometheus::Gauge& datasets_gauge_;
};

}  // namespace bdh::data_loader
