// Snapshots of sessions at rest: the state of a decoder, some hundred MiB each, with one owner a session, a
// time to live and a quota a tenant. Their bytes are blobs of a Store: cut into chunks that are kept once,
// verified and scrubbed like those of checkpoints.
//
//   BDH_ASSIGN_OR_RETURN(const auto own, snapshots.Own("chat/17", "inference-0:7041", absl::Minutes(1)));
//   BDH_ASSIGN_OR_RETURN(auto put, snapshots.Begin({.session = "chat/17", .generation = own.generation}));
//   BDH_RETURN_IF_ERROR(put->Add(bytes));
//   BDH_RETURN_IF_ERROR(put->Commit({.header = header, .sha256 = sha256, .size_bytes = size}));
//
// Everything is thread-safe unless it says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/store/store.h"

namespace bdh::store {

struct SessionSnapshot {
  std::string session;
  std::string tenant;  // "tenant" or "tenant/user": the quota is the tenant's.
  std::string header;  // Kept, not read.
  int64_t generation = 0;
  int64_t size_bytes = 0;
  absl::Time create_time = {};
  absl::Time expire_time = {};
};

// A snapshot on its way in. One thread at a time. Destroyed before a Commit that answered OK, it leaves the
// one before in its place.
class SnapshotUpload {
 public:
  struct End {
    std::string header = {};  // At most 64 KiB.
    std::string sha256 = {};  // Of all bytes, in lower-case hex.
    int64_t size_bytes = 0;
  };
  struct Result {
    SessionSnapshot snapshot;
    int64_t stored_bytes = 0;  // That were new to the store.
  };
  virtual ~SnapshotUpload() = default;

  // The next bytes, at most Store::Options::max_piece_bytes. ResourceExhaustedError: too large, or no room.
  virtual absl::Status Add(std::string_view bytes) = 0;
  // Replaces the session's snapshot in one step. DataLossError: the bytes are not what `end` says.
  // AbortedError: the session has another owner by now. ResourceExhaustedError: the quota.
  virtual absl::StatusOr<Result> Commit(const End& end) = 0;
};

class SnapshotStore {
 public:
  struct Options {
    int64_t max_snapshot_bytes = int64_t{8} << 30;
    int64_t quota_bytes = int64_t{64} << 30;  // Of one tenant.
    int max_sessions = 100'000;
    std::function<absl::Time()> clock = absl::Now;
  };

  // `store` outlives this object and all uploads and readers.
  SnapshotStore(Store& store, Options options);

  struct Ownership {
    int64_t generation = 0;
    absl::Time expire_time;
  };
  // Makes `owner` the session's, for `lease` (1 second to 1 hour); the same owner keeps its generation.
  // FailedPreconditionError: `unless_owned`, and another owner's lease has not ended.
  absl::StatusOr<Ownership> Own(std::string_view session, std::string_view owner, absl::Duration lease,
                                bool unless_owned = false);

  struct Put {
    std::string session = {};
    std::string tenant = {};
    int64_t generation = 0;
    absl::Duration time_to_live = absl::Hours(24);  // 1 second to 365 days.
    int64_t size_bytes = 0;                         // If known: refuses early what would not fit.
  };
  // AbortedError: the generation is not the owner's newest.
  absl::StatusOr<std::unique_ptr<SnapshotUpload>> Begin(Put put);

  struct Opened {
    SessionSnapshot snapshot;
    std::unique_ptr<BlobReader> bytes;
  };
  // NotFoundError: no snapshot of this session, or it has expired.
  absl::StatusOr<Opened> Read(std::string_view session);

  struct Page {
    std::vector<SessionSnapshot> snapshots;  // Sorted by session.
    std::string next_token;                  // Empty: this was the last page.
  };
  // Those of `tenant` and its users; "": all. A page may be shorter than `size` (1 to 1,000).
  absl::StatusOr<Page> List(std::string_view tenant, int size, std::string_view token) const;

  // Answers the bytes freed; no such snapshot is OK. AbortedError: `generation` is not the owner's newest.
  absl::StatusOr<int64_t> Delete(std::string_view session, std::optional<int64_t> generation);

  // Deletes what has expired, and forgets owners whose lease ended a day ago and who left no snapshot.
  // Answers how many snapshots went.
  absl::StatusOr<int64_t> CollectExpired();

  struct Totals {
    int64_t snapshots = 0;
    int64_t bytes = 0;  // As if each stood alone.
  };
  absl::StatusOr<Totals> totals() const;

 private:
  class Upload;

  absl::Status CheckRoom(const Put& put) const;
  absl::Status ForgetOwners(absl::Time now);

  Store& store_;
  const Options options_;
};

}  // namespace bdh::store
