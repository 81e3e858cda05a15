#include "services/inference/decode_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

namespace bdh::inference {

DecodeMetrics::DecodeMetrics(telemetry::Metrics& metrics)
    : prompt_tokens_(
          metrics.Counter("bdh_inference_tokens_total", "Tokens read and produced.", {{"kind", "prompt"}})),
      completion_tokens_(metrics.Counter("bdh_inference_tokens_total", "Tokens read and produced.",
                                         {{"kind", "completion"}})),
      active_(metrics.Gauge("bdh_inference_active", "Generations that have a place among the decoded ones.")),
      queued_(metrics.Gauge("bdh_inference_queued", "Generations that wait for a place.")),
      models_(metrics.Gauge("bdh_inference_models", "Models that are loaded.")),
      first_token_(metrics.Seconds("bdh_inference_first_token_seconds",
                                   "Time from a request's admission to the queue to its first token.")),
      next_token_(metrics.Seconds("bdh_inference_next_token_seconds",
                                  "Time from one token of a generation to its next.")) {}

void DecodeMetrics::FirstToken(absl::Duration since_submit) {
  completion_tokens_.Increment();
  first_token_.Observe(absl::ToDoubleSeconds(since_submit));
}

void DecodeMetrics::NextToken(absl::Duration since_previous) {
  completion_tokens_.Increment();
  next_token_.Observe(absl::ToDoubleSeconds(since_previous));
}

void DecodeMetrics::Left(const Summary& summary) {
  prompt_tokens_.Increment(static_cast<double>(summary.prompt_tokens));
  const double seconds = absl::ToDoubleSeconds(summary.decoding);
  if (summary.completion_tokens > 1 && seconds > 0) {
    last_tokens_per_second_ = static_cast<double>(summary.completion_tokens - 1) / seconds;
  }
}

void DecodeMetrics::SetLoad(const engine::Scheduler::Load& load) {
  active_.Set(load.active + load.parked);
  queued_.Set(load.queued);
}

void DecodeMetrics::SetModels(int count) {
  models_.Set(count);
}

}  // namespace bdh::inference
