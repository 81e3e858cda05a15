// Proves that metrics are made once, counted from any thread, and served in the form that Prometheus reads.
#include "bdh/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <sstream>
#include <thread>
#include <vector>

namespace bdh::telemetry {
namespace {

using testing::Contains;
using testing::HasSubstr;

std::vector<std::string> Lines(const Metrics& metrics) {
  std::istringstream text(metrics.Serialize());
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

TEST(Metrics, NothingIsServedBeforeAnythingIsMade) {
  EXPECT_EQ(Metrics().Serialize(), "");
}

TEST(Metrics, CountersAndGaugesShowHelpTypeAndValue) {
  Metrics metrics;
  metrics.Counter("bdh_store_uploads_total", "Uploads committed.").Increment(3);
  metrics.Gauge("bdh_store_bytes", "Bytes kept.").Set(2.5);
  const auto lines = Lines(metrics);
  EXPECT_THAT(lines, Contains("# HELP bdh_store_uploads_total Uploads committed."));
  EXPECT_THAT(lines, Contains("# TYPE bdh_store_uploads_total counter"));
  EXPECT_THAT(lines, Contains("bdh_store_uploads_total 3"));
  EXPECT_THAT(lines, Contains("# TYPE bdh_store_bytes gauge"));
  EXPECT_THAT(lines, Contains("bdh_store_bytes 2.5"));
}

TEST(Metrics, ACounterShowsZeroBeforeItsFirstEvent) {
  Metrics metrics;
  metrics.Counter("bdh_errors_total", "Errors.");
  EXPECT_THAT(Lines(metrics), Contains("bdh_errors_total 0"));
}

TEST(Metrics, TheSameNameAndLabelsAreTheSameMetric) {
  Metrics metrics;
  auto& ok = metrics.Counter("bdh_calls_total", "Calls.", {{"code", "OK"}});
  EXPECT_EQ(&ok, &metrics.Counter("bdh_calls_total", "Calls.", {{"code", "OK"}}));
  auto& failed = metrics.Counter("bdh_calls_total", "Calls.", {{"code", "INTERNAL"}});
  EXPECT_NE(&ok, &failed);
  ok.Increment();
  failed.Increment(2);
  const auto lines = Lines(metrics);
  EXPECT_THAT(lines, Contains("bdh_calls_total{code=\"OK\"} 1"));
  EXPECT_THAT(lines, Contains("bdh_calls_total{code=\"INTERNAL\"} 2"));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "# TYPE bdh_calls_total counter"), 1);
}

TEST(Metrics, DurationsFallIntoCumulativeBuckets) {
  Metrics metrics;
  auto& seconds = metrics.Seconds("bdh_call_seconds", "Duration of calls.");
  seconds.Observe(0.0005);
  seconds.Observe(0.2);
  seconds.Observe(3600);
  const auto lines = Lines(metrics);
  EXPECT_THAT(lines, Contains("bdh_call_seconds_bucket{le=\"0.001\"} 1"));
  EXPECT_THAT(lines, Contains("bdh_call_seconds_bucket{le=\"0.25\"} 2"));
  EXPECT_THAT(lines, Contains("bdh_call_seconds_bucket{le=\"60\"} 2"));
  EXPECT_THAT(lines, Contains("bdh_call_seconds_bucket{le=\"+Inf\"} 3"));
  EXPECT_THAT(lines, Contains("bdh_call_seconds_count 3"));
}

TEST(Metrics, LabelValuesAreEscaped) {
  Metrics metrics;
  metrics.Gauge("bdh_model", "A model.", {{"name", "a\"b\\c\nd"}}).Set(1);
  EXPECT_THAT(metrics.Serialize(), HasSubstr("bdh_model{name=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

TEST(Metrics, ThreadsMayMakeCountAndServeAtOnce) {
  Metrics metrics;
  constexpr int kThreads = 4, kTimes = 500;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&metrics] {
      for (int n = 0; n < kTimes; ++n) metrics.Counter("bdh_events_total", "Events.").Increment();
      EXPECT_THAT(metrics.Serialize(), HasSubstr("bdh_events_total"));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Lines(metrics), Contains("bdh_events_total " + std::to_string(kThreads * kTimes)));
}

}  // namespace
}  // namespace bdh::telemetry
