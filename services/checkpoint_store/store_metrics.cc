#include "services/checkpoint_store/store_metrics.h"

#include <prometheus/gauge.h>

#include <chrono>

#include "absl/time/time.h"

namespace bdh::checkpoint_store {
namespace {

constexpr std::chrono::seconds kEvery(5);

}  // namespace

StoreMetrics::StoreMetrics(const store::Store& store, telemetry::Metrics& metrics)
    : store_(store), metrics_(metrics) {
  Refresh();
  thread_ = std::thread([this] { Run(); });
}

StoreMetrics::~StoreMetrics() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void StoreMetrics::Run() {
  while (true) {
    {
      const MutexLock lock(mutex_);
      if (!stop_) changed_.WaitFor(mutex_, kEvery);
      if (stop_) return;
    }
    Refresh();
  }
}

void StoreMetrics::Refresh() {
  const auto set = [this](const char* name, const char* help, double value) {
    metrics_.Gauge(name, help).Set(value);
  };
  const store::Store::Totals totals = store_.totals();
  const store::Store::Stats stats = store_.stats();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  set("bdh_store_checkpoints", "Checkpoints in the store.", number(totals.checkpoints));
  set("bdh_store_blobs", "Blobs (session snapshots) in the store.", number(totals.blobs));
  set("bdh_store_uploads", "Uploads in flight.", totals.uploads + totals.named_uploads);
  set("bdh_store_stored_bytes", "Distinct bytes that the checkpoints hold.", number(totals.stored_bytes));
  set("bdh_store_logical_bytes", "Bytes of all checkpoints and blobs, as if each stood alone.",
      number(stats.logical_bytes));
  set("bdh_store_dedupe_ratio", "Logical bytes over stored bytes.",
      totals.stored_bytes > 0 ? number(stats.logical_bytes) / number(totals.stored_bytes) : 1);
  set("bdh_store_packs", "Pack files.", number(stats.packs));
  set("bdh_store_pack_bytes", "Bytes of the pack files.", number(stats.pack_bytes));
  set("bdh_store_live_bytes", "Bytes of the pack files that something points to.", number(stats.live_bytes));
  set("bdh_store_disk_free_bytes", "Bytes that the store's disk has free.", number(stats.disk_free_bytes));
  set("bdh_store_damaged_chunks", "Chunks known to be damaged; they are not served.",
      number(stats.damaged_chunks));
  set("bdh_store_received_bytes_total", "Bytes of chunks that uploads of all kinds brought.",
      number(stats.received_bytes));
  set("bdh_store_written_bytes_total", "Of those, bytes that were new and written.",
      number(stats.written_bytes));
  set("bdh_store_sync_total", "Syncs of pack files.", number(stats.syncs));
  set("bdh_store_sync_seconds_total", "Seconds spent in them.", stats.sync_seconds);
  set("bdh_store_scrub_running", "1 while everything is being read and compared with its digests.",
      stats.scrub_running ? 1 : 0);
  set("bdh_store_scrub_part_done", "Part of the present scrub that is done.", stats.scrub_part_done);
  set("bdh_store_scrub_bytes_total", "Bytes the scrub has read.", number(stats.scrub_bytes));
  set("bdh_store_scrub_rounds_total", "Scrubs that came to their end.", number(stats.scrub_rounds));
  set("bdh_store_scrub_last_end_seconds", "When the last one did, in Unix time; 0: never.",
      stats.scrub_rounds > 0 ? absl::ToDoubleSeconds(stats.scrub_last_end - absl::UnixEpoch()) : 0);
}

}  // namespace bdh::checkpoint_store
