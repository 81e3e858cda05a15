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
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "bdh/store/care.h"
#include "bdh/store/checkpoint.h"
#include "bdh/store/files.h"
#include "bdh/store/records.h"

namespace rocksdb {
class Env;
}

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
  // gaps. They are copied if they are not written at once, a few MiB for the whole store; so an error may be
  // that of bytes before. After an error the upload can only be destroyed.
  // InvalidArgumentError: not the next bytes. ResourceExhaustedError: the disk is (nearly) full.
  virtual absl::Status AddChunk(std::string_view tensor, int64_t offset, std::string_view bytes) = 0;

  // Makes the checkpoint visible, whole and durable, in one step. The same content under the same name again
  // is OK and changes nothing (but `also` happens). AlreadyExistsError: the name holds other content.
  // InvalidArgumentError: bytes are missing. `also` happens in the same step; its error is the answer.
  virtual absl::StatusOr<Result> Commit(const Change& also = {}) = 0;
};

// A string of bytes that something other than a checkpoint owns: it is cut into chunks that are kept once,
// verified, scrubbed and freed like those of checkpoints. Its id never names another blob.
struct Blob {
  uint64_t id = 0;
  std::string label;  // What it is, for people: it stands in reports of damage. At most 256 bytes.
  int64_t size_bytes = 0;
  std::string sha256;  // Of all its bytes, in lower-case hex.
  absl::Time create_time;
};

// A blob on its way in; as Upload.
class BlobUpload {
 public:
  struct Result {
    Blob blob;
    int64_t stored_bytes = 0;  // That the store did not hold before.
  };
  virtual ~BlobUpload() = default;

  // The next bytes; at most max_piece_bytes. ResourceExhaustedError: more than `max_bytes`, or the disk is
  // full.
  virtual absl::Status Add(std::string_view bytes) = 0;

  // Makes the blob durable in one step with `also`, which is told its id and writes down who owns it (and may
  // delete the blob it replaces). `also` may refuse: then the upload leaves nothing.
  using Owner = std::function<absl::Status(Transaction&, const Blob&)>;
  virtual absl::StatusOr<Result> Commit(const Owner& also) = 0;
};

// A blob on its way out; as Reader.
class BlobReader {
 public:
  virtual ~BlobReader() = default;
  virtual const Blob& blob() const = 0;
  // The next bytes, verified; nullopt after the last. DataLossError: damaged or gone; the message has the
  // label.
  virtual absl::StatusOr<std::optional<std::string>> Next() = 0;
};

// The digests of a tensor's chunks, in order: all of chunk_bytes but the last.
struct TensorDigests {
  std::string tensor;
  std::vector<std::string> digests;  // 32 bytes each.
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
  // Instead of the above: these bytes, in this order. Whole chunks are read and verified for them.
  struct Range {
    std::string tensor;
    int64_t offset = 0;
    int64_t size_bytes = 0;
  };
  std::vector<Range> ranges = {};
};

class Store {
 public:
  enum class Compression {
    kNone,
    kZstd,   // Where it saves space.
    kDelta,  // Also as the difference from the same place of Checkpoint::parent.
  };

  struct Options {
    std::string folder = {};            // Made if missing; one Store at a time.
    int64_t chunk_bytes = 1 << 20;      // Size tensors are cut into, from now on.
    int64_t max_piece_bytes = 1 << 20;  // Most that one AddChunk may bring.
    int max_uploads = 16;
    int max_named_uploads = 256;
    absl::Duration upload_quiet_time = absl::Hours(1);
    // Threads that hash and write chunks beside those that bring them. 0: one a core, at most 8. Less: none.
    int helper_threads = 0;
    int max_tensors = 100'000;
    int max_tags = 10'000;
    int64_t max_checkpoint_bytes = int64_t{1} << 40;
    int64_t max_description_bytes = 6 << 20;  // Names, shapes, facts: all of a Checkpoint but its bytes.
    int64_t min_free_bytes = 64 << 20;        // Writing stops while the disk has less, so deleting still can.
    Compression compression = Compression::kNone;  // Of chunks written from now on.
    int64_t pack_bytes = 256 << 20;                // Size of the files that chunks are packed into.
    // Everything is read and compared with its digests in the background, at most this fast and once in an
    // interval.
    int64_t scrub_bytes_per_second = 0;  // 0: never.
    absl::Duration scrub_interval = absl::Hours(24 * 7);
    std::function<absl::Time()> clock = absl::Now;
    Files* files = &SystemFiles();  // What lies under the store; a test may put its own disk there,
    rocksdb::Env* env = nullptr;    // and under RocksDB. Null: RocksDB's own.
  };

  // FailedPreconditionError: the folder is in use, or written by a newer version. DataLossError: what was
  // committed is not all there. A damaged store is never opened as if it were empty or smaller.
  static absl::StatusOr<std::unique_ptr<Store>> Open(Options options);
  ~Store();

  // Begins a checkpoint; of `checkpoint` the fields the store sets are ignored.
  // InvalidArgumentError: a bad name, or sizes that do not fit shapes. ResourceExhaustedError: too large, or
  // too many uploads.
  absl::StatusOr<std::unique_ptr<Upload>> Begin(Checkpoint checkpoint);

  // Uploads that resume: a named upload lives in the store until it is committed, or has been quiet for
  // `upload_quiet_time`; it survives the death of its client, and of the daemon.
  //
  // Begins or continues one: which of `digests` (32 bytes each) the store lacks; indexes, ascending. Those it
  // has are kept until the upload ends. InvalidArgumentError: a bad name, a digest that is none.
  // ResourceExhaustedError: too many uploads.
  absl::StatusOr<std::vector<int>> FindMissingChunks(std::string_view upload,
                                                     const std::vector<std::string>& digests);
  // Stores a chunk of at most max_piece_bytes; answers the bytes that were new. Durable after SyncChunks, or
  // with the commit. Again is OK. NotFoundError: no such upload. InvalidArgumentError: the bytes have another
  // digest.
  absl::StatusOr<int64_t> PutChunk(std::string_view upload, std::string_view digest, std::string_view bytes);
  absl::Status SyncChunks();
  // Makes a checkpoint of chunks that are there, and ends the upload; after an error it lives on. `chunks`
  // are in the order of checkpoint.tensors. FailedPreconditionError: a chunk is missing.
  // InvalidArgumentError: a chunk does not have the size its place demands. And the errors of Begin and
  // Upload::Commit.
  absl::StatusOr<Upload::Result> CommitUpload(std::string_view upload, Checkpoint checkpoint,
                                              const std::vector<TensorDigests>& chunks,
                                              const Change& also = {});
  int64_t chunk_bytes() const;

  // `reference` is the name of a checkpoint or of a tag, here and below. NotFoundError: nothing has this
  // name, or no such tensor. OutOfRangeError: a range ends behind its tensor.
  absl::StatusOr<std::unique_ptr<Reader>> Read(std::string_view reference, Selection selection = {});

  absl::StatusOr<Checkpoint> Describe(std::string_view reference) const;

  // The digests of a checkpoint's chunks, in the order of its tensors, and the size they were cut to: what a
  // copy to another store begins with.
  struct ChunkList {
    Checkpoint checkpoint;
    int64_t chunk_bytes = 0;
    std::vector<TensorDigests> chunks;
  };
  absl::StatusOr<ChunkList> ListChunks(std::string_view reference) const;

  struct Page {
    std::vector<Checkpoint> checkpoints;  // Newest first, without their tensors.
    std::string next_token;               // Empty: this was the last page.
  };
  // Checkpoints of `run` ("": all). `token` is the page before's next_token, or empty. A page may be shorter
  // than `size` (1 to 1,000).
  absl::StatusOr<Page> List(std::string_view run, int size, std::string_view token) const;

  // Deletes a checkpoint and the chunks that nothing else holds; answers their size. FailedPreconditionError:
  // a tag points to it, or it is pinned.
  absl::StatusOr<int64_t> Delete(std::string_view name);

  // Points `tag` to what `reference` names now. With `expected`, only if the tag points to that checkpoint
  // ("-": does not exist); AbortedError otherwise.
  absl::StatusOr<Tag> SetTag(std::string_view tag, std::string_view reference,
                             const std::optional<std::string>& expected = std::nullopt);
  absl::Status DeleteTag(std::string_view tag);
  absl::StatusOr<std::vector<Tag>> ListTags() const;  // Sorted by name.
  // Where a tag pointed, newest first; the last 1,000 changes are kept. NotFoundError: there never was such a
  // tag.
  absl::StatusOr<std::vector<TagChange>> TagHistory(std::string_view tag, int limit) const;

  // Replaces the note. InvalidArgumentError: too long, or too many labels.
  absl::Status Annotate(std::string_view reference, const Note& note);
  absl::StatusOr<Note> GetNote(std::string_view reference) const;
  struct FoundPage {
    std::vector<Checkpoint> checkpoints;  // As Page.
    std::vector<Note> notes;              // In the same order.
    std::string next_token;
  };
  // Checkpoints that have all these labels; otherwise as List.
  absl::StatusOr<FoundPage> Search(const std::map<std::string, std::string>& labels, std::string_view run,
                                   int size, std::string_view token) const;

  // Keeps a checkpoint from being deleted while somebody reads it, for at most an hour; again with the same
  // holder lengthens the time. Survives a restart. InvalidArgumentError: a bad holder (1 to 256 bytes) or
  // time.
  absl::StatusOr<Pin> PinCheckpoint(std::string_view reference, std::string_view holder,
                                    absl::Duration duration);
  absl::Status Unpin(std::string_view checkpoint, std::string_view holder);  // No such pin is OK.
  absl::StatusOr<std::vector<Pin>> ListPins() const;  // Those that live, by checkpoint.

  // What is kept of `run`; "": of all runs that have no policy of their own. nullopt removes it. Applied
  // after each commit of a checkpoint of the run. InvalidArgumentError: negative, or it would keep nothing.
  absl::Status SetRetention(std::string_view run, const std::optional<RetentionPolicy>& policy);
  // NotFoundError: neither the run nor the store has a policy.
  absl::StatusOr<RetentionRule> GetRetention(std::string_view run) const;
  // Deletes what the policies do not keep; "": of all runs. FailedPreconditionError: no policy is set.
  absl::StatusOr<RetentionResult> ApplyRetention(std::string_view run, bool dry_run);

  // Records; see records.h. What Write answered with OK survives a power cut.
  absl::Status Write(const Change& change);
  absl::StatusOr<std::optional<std::string>> GetRecord(std::string_view table, std::string_view key) const;
  absl::StatusOr<std::vector<Record>> ScanRecords(std::string_view table, std::string_view prefix,
                                                  std::string_view after, size_t limit) const;

  // Blobs. Whoever makes one remembers its id in a record written with it; a blob whose id nobody knows is
  // never freed. BeginBlob counts as an upload. NotFoundError: no such blob.
  absl::StatusOr<std::unique_ptr<BlobUpload>> BeginBlob(std::string label, int64_t max_bytes);
  absl::StatusOr<std::unique_ptr<BlobReader>> ReadBlob(uint64_t id);
  // Deletes it in one step with `also`; answers the bytes freed. No such blob is OK, `also` happens.
  absl::StatusOr<int64_t> DeleteBlob(uint64_t id, const Change& also = {});
  absl::StatusOr<std::vector<Blob>> ListBlobs(uint64_t after_id, size_t limit) const;  // By id.

  // Reads what is kept and compares it with its digests. Damage is written down and never served from then
  // on; chunks found right are taken off that list.
  absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options);
  // What is known to be damaged, without reading; by digest.
  absl::StatusOr<std::vector<Damage>> ListDamage(size_t limit) const;
  // Stores the right bytes of a damaged chunk. NotFoundError: the chunk is not known to be damaged.
  // InvalidArgumentError: the bytes have another digest.
  absl::Status Heal(std::string_view digest, std::string_view bytes);

  // Frees what nothing holds: chunks that no checkpoint, blob or upload holds, and uploads that went quiet.
  // AbortedError: a collection is running. `progress` returning false breaks off with CancelledError.
  absl::StatusOr<GarbageProgress> CollectGarbage(
      bool dry_run, const std::function<bool(const GarbageProgress&)>& progress = {});

  absl::StatusOr<Usage> GetUsage() const;

  // Copies the store as it is at one moment into `folder`, which Open can then open; uploads go on meanwhile.
  // Begun again there it copies only what is new. InvalidArgumentError: the folder holds something else.
  absl::Status BackUp(const std::string& folder,
                      const std::function<bool(const BackUpProgress&)>& progress = {});

  struct Totals {
    int64_t checkpoints = 0;
    int64_t tags = 0;
    int64_t blobs = 0;
    int64_t stored_bytes = 0;  // Distinct chunks of all checkpoints and blobs.
    int uploads = 0;           // In flight, without named ones.
    int named_uploads = 0;
  };
  Totals totals() const;

  // What an operator watches; cheap.
  struct Stats {
    int64_t logical_bytes = 0;  // Of all checkpoints and blobs, as if each stood alone: over
                                // Totals::stored_bytes, what keeping chunks once saves.
    int64_t packs = 0;
    int64_t pack_bytes = 0;  // On disk,
    int64_t live_bytes = 0;  // of which something points to.
    int64_t disk_free_bytes = 0;
    int64_t damaged_chunks = 0;  // Known to be.
    int64_t received_bytes = 0;  // Chunks that uploads brought, since the start,
    int64_t written_bytes = 0;   // of which new and written.
    int64_t syncs = 0;           // Of packs, since the start.
    double sync_seconds = 0;
    bool scrub_running = false;
    double scrub_part_done = 0;  // Of the present round.
    int64_t scrub_rounds = 0;
    int64_t scrub_bytes = 0;
    absl::Time scrub_last_end = absl::InfinitePast();
  };
  Stats stats() const;

  // Puts what stands in the log to its place, so that the next Open need not read that again. What was
  // answered with OK is safe without.
  absl::Status Flush();

  // What a walk over the whole folder finds; reads every byte.
  struct Audit {
    int64_t checkpoints = 0;
    int64_t blobs = 0;
    int64_t chunks = 0;
    int64_t chunk_bytes = 0;
    int64_t orphans = 0;               // Chunks that nothing holds: of uploads in flight, or a bug.
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
