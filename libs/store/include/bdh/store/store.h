// The checkpoint store: a folder in which a checkpoint is there whole or not at all.
//
//   BDH_ASSIGN_OR_RETURN(auto store, Store::Open({.folder = "data"}));
//   BDH_ASSIGN_OR_RETURN(auto upload, store->Begin({.name = "runs/poem/steps/500", .tensors = tensors}));
//   BDH_RETURN_IF_ERROR(upload->AddChunk("encoder", 0, bytes));
//   BDH_ASSIGN_OR_RETURN(const Upload::Result result, upload->Commit());
//
// Tensors are cut into chunks, and a chunk is stored once under its SHA-256, however many checkpoints hold
// it. Everything is thread-safe unless it says otherwise.
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
#include "bdh/store/checkpoint.h"

namespace bdh::store {

// A checkpoint on its way in. One thread at a time. Destroyed before a Commit that answered OK, it leaves
// nothing visible, and its chunks are freed. Must not outlive its Store.
class Upload {
 public:
  struct Result {
    Checkpoint checkpoint;
    int64_t stored_bytes = 0;  // That the store did not hold before.
  };

  virtual ~Upload() = default;

  // The next bytes of the checkpoint: tensors in the order of Checkpoint::tensors, each from offset 0 without
  // gaps. After an error the upload can only be destroyed.
  // InvalidArgumentError: not the next bytes. ResourceExhaustedError: the disk is (nearly) full.
  virtual absl::Status AddChunk(std::string_view tensor, int64_t offset, std::string_view bytes) = 0;

  // Makes the checkpoint visible, whole and durable, in one step. The same content under the same name again
  // is OK and changes nothing. AlreadyExistsError: the name holds other content. InvalidArgumentError: bytes
  // are missing.
  virtual absl::StatusOr<Result> Commit() = 0;
};

// Some consecutive bytes of a tensor.
struct Piece {
  std::string_view tensor;
  int64_t offset = 0;
  std::string bytes;
};

// A checkpoint on its way out, as it was when the reader was made, also if it is deleted meanwhile. One
// thread at a time. Must not outlive its Store.
class Reader {
 public:
  virtual ~Reader() = default;
  virtual const Checkpoint& checkpoint() const = 0;

  // The next chunk of the tensors selected, in order, verified against its digest; nullopt after the last.
  // DataLossError: the chunk is damaged or gone; the message names tensor and checkpoint.
  virtual absl::StatusOr<std::optional<Piece>> Next() = 0;
};

// Which tensors a reader wants.
struct Selection {
  std::vector<std::string> tensors = {};            // Empty: all.
  std::vector<std::string> prefixes_excluded = {};  // Leaves out tensors whose names begin so.
};

class Store {
 public:
  struct Options {
    std::string folder = {};            // Made if missing; one Store at a time.
    int64_t chunk_bytes = 1 << 20;      // Size tensors are cut into, from now on.
    int64_t max_piece_bytes = 1 << 20;  // Most that one AddChunk may bring.
    int max_uploads = 16;
    int max_tensors = 100'000;
    int max_tags = 10'000;
    int64_t max_checkpoint_bytes = int64_t{1} << 40;
    int64_t max_description_bytes = 6 << 20;  // Names, shapes, facts: all of a Checkpoint but its bytes.
    int64_t min_free_bytes = 64 << 20;        // Writing stops while the disk has less, so deleting still can.
    std::function<absl::Time()> clock = absl::Now;
  };

  // FailedPreconditionError: the folder is in use, or written by a newer version. DataLossError: what was
  // committed is not all there. A damaged store is never opened as if it were empty or smaller.
  static absl::StatusOr<std::unique_ptr<Store>> Open(Options options);
  ~Store();

  // Begins a checkpoint; of `checkpoint` the fields the store sets are ignored.
  // InvalidArgumentError: a bad name, or sizes that do not fit shapes. ResourceExhaustedError: too large, or
  // too many uploads.
  absl::StatusOr<std::unique_ptr<Upload>> Begin(Checkpoint checkpoint);

  // `reference` is the name of a checkpoint or of a tag, here and below. NotFoundError: nothing has this
  // name, or no such tensor.
  absl::StatusOr<std::unique_ptr<Reader>> Read(std::string_view reference, Selection selection = {});

  absl::StatusOr<Checkpoint> Describe(std::string_view reference) const;

  struct Page {
    std::vector<Checkpoint> checkpoints;  // Newest first, without their tensors.
    std::string next_token;               // Empty: this was the last page.
  };
  // Checkpoints of `run` ("": all). `token` is the page before's next_token, or empty. A page may be shorter
  // than `size` (1 to 1,000).
  absl::StatusOr<Page> List(std::string_view run, int size, std::string_view token) const;

  // Deletes a checkpoint and the chunks that nothing else holds; answers their size. FailedPreconditionError:
  // a tag points to it.
  absl::StatusOr<int64_t> Delete(std::string_view name);

  // Points `tag` to what `reference` names now. With `expected`, only if the tag points to that checkpoint
  // ("-": does not exist); AbortedError otherwise.
  absl::StatusOr<Tag> SetTag(std::string_view tag, std::string_view reference,
                             const std::optional<std::string>& expected = std::nullopt);
  absl::Status DeleteTag(std::string_view tag);
  absl::StatusOr<std::vector<Tag>> ListTags() const;  // Sorted by name.

  struct Totals {
    int64_t checkpoints = 0;
    int64_t tags = 0;
    int64_t stored_bytes = 0;  // Distinct chunks of all checkpoints.
    int uploads = 0;           // In flight.
  };
  Totals totals() const;

  // Puts what stands in the log to its place, so that the next Open need not read that again. What was
  // answered with OK is safe without.
  absl::Status Flush();

  // What a walk over the whole folder finds; reads every byte.
  struct Audit {
    int64_t checkpoints = 0;
    int64_t chunks = 0;
    int64_t chunk_bytes = 0;
    int64_t orphans = 0;               // Chunks that no checkpoint holds: of uploads in flight, or a bug.
    std::vector<std::string> damaged;  // A sentence each.
  };
  absl::StatusOr<Audit> Check() const;

  // Returns when the space of what was deleted so far has gone back to the file system.
  void Reclaim();

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::store
