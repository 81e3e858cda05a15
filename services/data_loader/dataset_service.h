#pragma once

#include "bdh/corpus/dataset_store.h"
#include "bdh/mesh/gate.h"
#include "bdh/v1/tokenizers.grpc.pb.h"

namespace bdh::data_loader {

// Data sets looked into: one batch, samples, the report, sums, text. Thread-safe.
class DatasetLookup final : public v1::DatasetService::Service {
 public:
  // Both outlive this object.
  DatasetLookup(const corpus::DatasetStore& store, const mesh::Gate& gate, int64_t batch_message_bytes)
      : store_(store), gate_(gate), batch_message_bytes_(batch_message_bytes) {}

 private:
  grpc::Status GetBatch(grpc::ServerContext* context, const v1::GetBatchRequest* request,
                        v1::GetBatchResponse* response) override;
  grpc::Status SampleDataset(grpc::ServerContext* context, const v1::SampleDatasetRequest* request,
                             v1::SampleDatasetResponse* response) override;
  grpc::Status GetDatasetReport(grpc::ServerContext* context, const v1::GetDatasetReportRequest* request,
                                v1::GetDatasetReportResponse* response) override;
  grpc::Status VerifyDataset(grpc::ServerContext* context, const v1::VerifyDatasetRequest* request,
                             grpc::ServerWriter<v1::VerifyDatasetResponse>* writer) override;
  grpc::Status ExportDataset(grpc::ServerContext* context, const v1::ExportDatasetRequest* request,
                             grpc::ServerWriter<v1::TextChunk>* writer) override;

  absl::Status Batch(grpc::ServerContext& context, const v1::GetBatchRequest& request,
                     v1::GetBatchResponse& response) const;
  absl::Status Sample(const v1::SampleDatasetRequest& request, v1::SampleDatasetResponse& response) const;
  absl::Status Verify(const grpc::ServerContext& context, const std::string& name,
                      grpc::ServerWriter<v1::VerifyDatasetResponse>& writer) const;

  const corpus::DatasetStore& store_;
  const mesh::Gate& gate_;
  const int64_t batch_message_bytes_;
};

}  // namespace bdh::data_loader
