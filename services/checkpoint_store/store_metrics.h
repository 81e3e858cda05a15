#pragma once

#include <thread>

#include "bdh/base/mutex.h"
#include "bdh/store/store.h"
#include "bdh/telemetry/metrics.h"

namespace bdh::checkpoint_store {

// Shows the store's figures as Prometheus metrics, anew every few seconds.
class StoreMetrics {
 public:
  // Both outlive this object.
  StoreMetrics(const store::Store& store, telemetry::Metrics& metrics);
  ~StoreMetrics();

 private:
  void Run();
  void Refresh();

  const store::Store& store_;
  telemetry::Metrics& metrics_;
  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace bdh::checkpoint_store
