#pragma once

#include <string>
#include <thread>

#include "bdh/base/mutex.h"
#include "bdh/store/store.h"
#include "catalog.h"
#include "chunks.h"
#include "integrity.h"
#include "ledger.h"

namespace bdh::store {

// Reads everything once in so many days, at a limited rate, in the background. How far it has come is written
// down now and then, so that a restart goes on there.
class Scrubber {
 public:
  Scrubber(const Store::Options& options, const Database& database, const Chunks& chunks, Ledger& ledger,
           Integrity& integrity);
  ~Scrubber();  // Breaks off what runs.

  struct State {
    bool running = false;
    double part_done = 0;  // Of the present round.
    int64_t rounds = 0;
    int64_t bytes = 0;  // Read since the start.
    absl::Time last_round_end = absl::InfinitePast();
  };
  State state() const;

 private:
  void Run();
  absl::Status Load();
  // Reads a few chunks from where it stands.
  absl::Status Step();
  absl::Status WriteDown();
  // Returns false when it is time to go.
  bool Sleep(absl::Duration duration);

  const Store::Options& options_;
  const Database& database_;
  const Chunks& chunks_;
  Ledger& ledger_;
  Integrity& integrity_;
  Sha256 sha_;
  std::string buffer_;
  int64_t unwritten_bytes_ = 0;
  mutable Mutex mutex_;
  CondVar changed_;
  v1::StoredScrub scrub_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace bdh::store
