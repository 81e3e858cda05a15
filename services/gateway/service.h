// The gateway's HTTP endpoints: OpenAI's API in terms of bdh.v1.InferenceService, probes and metrics.
#pragma once

#include <memory>
#include <string>

#include "bdh/telemetry/metrics.h"
#include "services/gateway/completion_job.h"
#include "services/gateway/http_server.h"
#include "services/gateway/inference_client.h"
#include "services/gateway/router.h"

namespace bdh::gateway {

// Thread-safe once made.
class OpenAiService {
 public:
  struct Options {
    Router::Options router = {};
    CompletionJob::Options job = {};
    absl::Duration slow_request = absl::Seconds(5);  // Logged when it takes longer.
  };

  // `client` and `metrics` outlive this; this outlives the HttpServer that uses it.
  OpenAiService(Options options, InferenceClient& client, telemetry::Metrics& metrics);

  // Fills in what this service decides: admission, error bodies, common headers, logs and metrics.
  void Serve(HttpServer::Options& options);

  // Until then /readyz answers 503; after false again.
  void SetReady(bool ready) { ready_ = ready; }

  // "412 requests, 3 open".
  std::string KeyFigure() const;

 private:
  using ExchangePtr = std::shared_ptr<Exchange>;
  template <class Parse>
  void Complete(const ExchangePtr& exchange, Parse parse);
  void ListModels(const ExchangePtr& exchange);
  void GetModel(const ExchangePtr& exchange);
  void Readiness(const ExchangePtr& exchange);
  void Record(const AccessRecord& record);

  const Options options_;
  InferenceClient& client_;
  telemetry::Metrics& metrics_;
  const CompletionMetrics job_metrics_;
  Router router_;
  std::atomic<bool> ready_{false};
  std::atomic<int64_t> requests_{0}, open_{0};
};

}  // namespace bdh::gateway
