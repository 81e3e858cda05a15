// What the workers of a run agree on, kept durably: groups with generations, small values under keys, and run
// records. Stands beside the checkpoints in a database of its own, so that neither waits for the other.
//
// Every answer is durable before it is given, also what a read has seen. Everything is thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace bdh::store {

using Labels = std::map<std::string, std::string>;

// Membership of groups: bdh.v1.CoordinationService says what each of these is.

struct GroupSpec {
  int min_workers = 1;
  int max_workers = 1;
  absl::Duration settle = absl::ZeroDuration();
  absl::Duration lease = absl::Seconds(10);
};

struct Worker {
  std::string name;
  std::string address = {};
  Labels labels = {};
};

struct Member {
  Worker worker;
  int rank = 0;
};

struct Generation {
  int64_t number = 0;  // 0: none yet.
  std::vector<Member> members = {};
  absl::Time form_time = {};
};

struct Group {
  std::string name;
  GroupSpec spec = {};
  bool formed = false;  // `generation` holds; otherwise it is the one that is over.
  Generation generation = {};
  std::vector<Worker> workers = {};  // With living leases, by name.
};

// Proof that a write belongs to the present.
struct Fence {
  std::string group;
  int64_t generation = 0;
};

struct RunRecord {
  std::string run;
  std::string bytes = {};  // Kept, not read.
  Labels labels = {};
  // Set by the store.
  int64_t revision = 0;
  absl::Time update_time = {};
};

// Asked every few milliseconds by what waits: whatever it answers but OK ends the wait. What DeadlineExceeded
// ends gets a message that says what was missing.
using Interrupt = std::function<absl::Status()>;

class Coordination {
 public:
  struct Options {
    std::string folder = {};  // Made if missing. The caller sees to it that one process has it.
    int max_groups = 10'000;
    int max_namespaces = 10'000;
    int64_t max_value_bytes = int64_t{4} << 30;  // Of all namespaces.
    int max_run_records = 100'000;
    std::function<absl::Time()> clock = absl::Now;         // For times that people read.
    std::function<absl::Time()> steady_clock = Monotonic;  // For leases: nobody sets it.
  };
  static absl::Time Monotonic();

  // FailedPreconditionError: written by a newer version. DataLossError: what was answered with OK is not all
  // there any more.
  static absl::StatusOr<std::unique_ptr<Coordination>> Open(Options options);
  ~Coordination();

  // -- Groups. NotFoundError: no such group, or the lease is over.

  struct Registration {
    std::string lease;
    Group group;
  };
  // Without a spec the group must have workers, or have had some.
  absl::StatusOr<Registration> Register(std::string_view group, const std::optional<GroupSpec>& spec,
                                        const Worker& worker);
  // Without workers and with no members listed: what a heartbeat wants to know.
  absl::StatusOr<Group> Heartbeat(std::string_view group, std::string_view lease);
  struct Place {
    Generation generation;
    int rank = 0;
  };
  absl::StatusOr<Place> AwaitGeneration(std::string_view group, std::string_view lease, int64_t after,
                                        const Interrupt& interrupt);
  absl::Status Leave(std::string_view group, std::string_view lease);
  absl::StatusOr<Group> GetGroup(std::string_view group);
  struct Groups {
    std::vector<Group> groups;  // By name.
    std::string next_token;     // Empty: this was the last page.
  };
  absl::StatusOr<Groups> ListGroups(int size, std::string_view token);

  // As long as one lives, the group forms no other generation: for a write that is committed elsewhere.
  class Hold {
   public:
    Hold() = default;
    explicit Hold(std::function<void()> release) : release_(std::move(release)) {}
    Hold(Hold&& other) noexcept : release_(std::exchange(other.release_, nullptr)) {}
    Hold& operator=(Hold&& other) noexcept {
      std::swap(release_, other.release_);
      return *this;
    }
    ~Hold() {
      if (release_) release_();
    }

   private:
    std::function<void()> release_;
  };
  // AbortedError: the generation is over. Must not outlive this object.
  absl::StatusOr<Hold> HoldGeneration(const Fence& fence);

  // -- Values under keys. AbortedError, NotFoundError: the fence.

  absl::Status Set(std::string_view space, std::string_view key, std::string_view value,
                   const std::optional<Fence>& fence = std::nullopt);
  absl::StatusOr<std::string> Get(std::string_view space, std::string_view key);
  absl::Status WaitForKeys(std::string_view space, const std::vector<std::string>& keys,
                           const Interrupt& interrupt);
  absl::StatusOr<bool> HasKeys(std::string_view space, const std::vector<std::string>& keys);
  absl::StatusOr<int64_t> Add(std::string_view space, std::string_view key, int64_t amount,
                              std::string_view request_id = {},
                              const std::optional<Fence>& fence = std::nullopt);
  struct Swap {
    bool was_set = false;
    std::string value;
  };
  absl::StatusOr<Swap> CompareAndSet(std::string_view space, std::string_view key, std::string_view expected,
                                     std::string_view desired,
                                     const std::optional<Fence>& fence = std::nullopt);
  absl::StatusOr<bool> Delete(std::string_view space, std::string_view key,
                              const std::optional<Fence>& fence = std::nullopt);
  absl::StatusOr<int64_t> CountKeys(std::string_view space);
  // Answers how many keys there were.
  absl::StatusOr<int64_t> DeleteNamespace(std::string_view space,
                                          const std::optional<Fence>& fence = std::nullopt);

  // -- Run records.

  absl::StatusOr<RunRecord> PutRecord(RunRecord record, std::optional<int64_t> expected_revision = {},
                                      const std::optional<Fence>& fence = std::nullopt);
  absl::StatusOr<RunRecord> GetRecord(std::string_view run);
  struct Records {
    std::vector<RunRecord> records;  // The last changed first.
    std::string next_token;          // Empty: this was the last page.
  };
  // A page may be shorter than `size`.
  absl::StatusOr<Records> ListRecords(const Labels& labels, int size, std::string_view token);
  absl::Status DeleteRecord(std::string_view run);

  // -- Of the whole.

  struct Totals {
    int64_t groups = 0;
    int64_t workers = 0;      // With living leases.
    int64_t generations = 0;  // Formed since this process began.
    int64_t namespaces = 0;
    int64_t value_bytes = 0;
    int64_t run_records = 0;
  };
  Totals totals();

  // Writes a copy of the database as it is now into `folder`, which must not exist.
  absl::Status CopyTo(const std::string& folder);

 private:
  class Impl;
  explicit Coordination(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::store
