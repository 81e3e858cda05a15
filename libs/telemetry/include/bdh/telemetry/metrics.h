// Prometheus metrics of one process: made once at start, then counted without a lookup.
#pragma once

#include <map>
#include <memory>
#include <string>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
}  // namespace prometheus

namespace bdh::telemetry {

using Labels = std::map<std::string, std::string>;

// Thread-safe. Metrics live as long as the registry; asking for the same name and labels again returns the
// same metric. Names follow Prometheus: bdh_<room>_<what>_<unit>, counters end in _total.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  prometheus::Counter& Counter(const std::string& name, const std::string& help, const Labels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  // Buckets fit durations in seconds from 1 ms to 60 s.
  prometheus::Histogram& Seconds(const std::string& name, const std::string& help, const Labels& labels = {});

  // The text a /metrics endpoint answers, version 0.0.4.
  std::string Serialize() const;

 private:
  const std::unique_ptr<prometheus::Registry> registry_;
};

}  // namespace bdh::telemetry
