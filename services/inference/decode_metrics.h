// What the decode threads report, as Prometheus metrics.
#pragma once

#include <atomic>

#include "bdh/engine/scheduler.h"
#include "bdh/telemetry/metrics.h"

namespace bdh::inference {

// Thread-safe.
class DecodeMetrics : public engine::SchedulerObserver {
 public:
  // `metrics` outlives this object.
  explicit DecodeMetrics(telemetry::Metrics& metrics);

  void FirstToken(absl::Duration since_submit) override;
  void NextToken(absl::Duration since_previous) override;
  void Left(const Summary& summary) override;

  void SetLoad(const engine::Scheduler::Load& load);
  void SetModels(int count);

  // Of the generation that ended last; 0 before the first.
  double last_tokens_per_second() const { return last_tokens_per_second_; }

 private:
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& completion_tokens_;
  prometheus::Gauge& active_;
  prometheus::Gauge& queued_;
  prometheus::Gauge& models_;
  prometheus::Histogram& first_token_;
  prometheus::Histogram& next_token_;
  std::atomic<double> last_tokens_per_second_ = 0;
};

}  // namespace bdh::inference
