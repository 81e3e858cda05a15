#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "bdh/engine/scheduler.h"
#include "bdh/mesh/gate.h"
#include "bdh/v1/inference.grpc.pb.h"
#include "services/inference/decode_metrics.h"
#include "services/inference/model_table.h"

namespace bdh::inference {

// Translates RPCs to libs/engine and back. Thread-safe.
class Inference final : public v1::InferenceService::Service {
 public:
  // All outlive this object.
  Inference(ModelTable& models, engine::Scheduler& scheduler, DecodeMetrics& metrics, const mesh::Gate& gate);

  // "1 model, 0 active, 812 tok/s last".
  std::string KeyFigure() const;

  // Refuses new generations; those that are cut off from now on end as UNAVAILABLE.
  void StopAdmitting();

 private:
  using Writer = grpc::ServerWriter<v1::GenerateResponse>;

  grpc::Status LoadModel(grpc::ServerContext* context, const v1::LoadModelRequest* request,
                         v1::LoadModelResponse* response) override;
  grpc::Status UnloadModel(grpc::ServerContext* context, const v1::UnloadModelRequest* request,
                           v1::UnloadModelResponse* response) override;
  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        Writer* writer) override;

  absl::Status Load(const grpc::ServerContext& context, const v1::LoadModelRequest& request,
                    v1::LoadModelResponse& response);
  absl::Status Generate(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                        Writer& writer);
  absl::Status Stream(const grpc::ServerContext& context, engine::Generation& generation,
                      int64_t prompt_tokens, Writer& writer);

  ModelTable& models_;
  engine::Scheduler& scheduler_;
  DecodeMetrics& metrics_;
  const mesh::Gate& gate_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace bdh::inference
