// Caring for what is kept: notes, pins, what may go, what is damaged, where the bytes are.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "bdh/store/checkpoint.h"

namespace bdh::store {

struct TagChange {
  std::string checkpoint;  // Empty: the tag was deleted.
  absl::Time time;
};

// What people say about a checkpoint; no part of its digest.
struct Note {
  std::string text = {};                           // At most 4 KiB.
  std::map<std::string, std::string> labels = {};  // At most 64, of keys and values of at most 256 bytes.
};

struct Pin {
  std::string checkpoint;
  std::string holder;
  absl::Time expire_time;
};

// A checkpoint stays if any of these keeps it. What is tagged, pinned or the newest of its run always stays.
struct RetentionPolicy {
  int keep_last = 0;             // The newest so many.
  int64_t keep_every_steps = 0;  // Those whose step is a multiple. 0: none.
  int keep_best = 0;             // So many with the lowest loss.
};

struct RetentionRule {
  RetentionPolicy policy;
  bool inherited = false;  // It is the store's, not the run's own.
};

struct RetentionResult {
  std::vector<std::string> deleted;  // Names that went, or would go.
  int64_t freed_bytes = 0;           // With a dry run: what only those hold.
};

// Where a damaged chunk belongs.
struct Place {
  std::string object;  // A checkpoint's name, or a blob's label.
  std::string tensor;  // Empty for a blob.
  int64_t offset = 0;  // In that tensor or blob.
};

struct Damage {
  std::string digest;   // 32 bytes.
  std::string message;  // "missing", "digest differs", "cannot be read: ..."
  int64_t size_bytes = 0;
  std::vector<Place> places;  // One of each object that holds it.
};

struct VerifyProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  int64_t damaged_chunks = 0;
};

struct VerifyOptions {
  std::string reference = {};    // Checkpoint name or tag. Empty: all that the store holds.
  int64_t bytes_per_second = 0;  // At most this fast. 0: as fast as it goes.
  // Called now and then. False breaks off with CancelledError.
  std::function<bool(const VerifyProgress&)> progress = {};
};

struct VerifyResult {
  int64_t bytes = 0;
  int64_t chunks = 0;
  int64_t damaged_chunks = 0;
  std::vector<Damage> damage;  // The first 1,000.
};

struct GarbageProgress {
  int64_t chunks_seen = 0;
  int64_t chunks_freed = 0;
  int64_t freed_bytes = 0;
};

struct BackUpProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};

struct RunUsage {
  std::string run;
  int64_t checkpoints = 0;
  int64_t logical_bytes = 0;   // As if each stood alone.
  int64_t unshared_bytes = 0;  // Of chunks that only this run's hold.
};

struct Usage {
  std::vector<RunUsage> runs;  // Sorted by run.
  int64_t blob_bytes = 0;      // Of blobs, as if each stood alone.
  int64_t stored_bytes = 0;    // Distinct chunks, as they were put.
  int64_t disk_bytes = 0;      // What the folder takes.
  int64_t disk_free_bytes = 0;
  int64_t unreferenced_bytes = 0;  // Chunks of uploads in flight.
};

}  // namespace bdh::store
