#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/mutex.h"
#include "bdh/store/files.h"
#include "bdh/v1/store_manifest.pb.h"
#include "digest.h"

namespace bdh::store {

// Files of bytes that only grow: the bulk of the store. Which bytes in them count is the index's affair
// (table `index`); a pack that a crash tore has a tail that nothing points to. Thread-safe.
//
// A record is a header of 48 bytes (magic, length, crc32c of the bytes, crc32c of the header, SHA-256 of the
// chunk) and the bytes. Readers go by the index; the header is for people with a torn folder and a hex dump.
//
// A pack is written until it has `pack_bytes`; what an earlier process left is never written to. A pack whose
// bytes are all dead is taken away once nobody reads at a moment before that.
class Packs {
 public:
  // Reads what stands in the folder, which is made if missing.
  static absl::StatusOr<std::unique_ptr<Packs>> Open(Files& files, std::string folder, int64_t pack_bytes);

  // Writes a chunk and says where: pack, offset, stored_bytes and crc32c of `where` are set.
  // It counts as live: whoever does not point the index to it says RemoveLive.
  absl::Status Append(const Digest& digest, std::string_view bytes, v1::StoredChunk& where);
  // What was appended before survives a power cut. If the system fails here, nobody knows what is on the
  // disk: nothing more is written until the store is opened again.
  absl::Status Sync();
  // DataLossError: the pack is gone or too short.
  absl::Status Read(const v1::StoredChunk& where, std::string& out) const;

  // Accounts: the index points to this record, or no longer does.
  void AddLive(const v1::StoredChunk& where);
  void RemoveLive(const v1::StoredChunk& where);
  // Ends the accounting of what was there at the start; true: a pack is missing, or shorter than an AddLive
  // said. Packs that nothing points to are taken away by the next Clean.
  bool FinishAccounting();
  // Whether the record can be there: its pack is, and is long enough.
  bool MayHave(const v1::StoredChunk& where) const;

  struct Pack {
    uint64_t id = 0;
    int64_t size_bytes = 0;
    int64_t live_bytes = 0;
  };
  // Packs that are worth rewriting: more than half dead, or many small ones. The one being written is closed
  // first if it is such a one.
  std::vector<Pack> WorthRewriting();
  // Packs in which nothing lives; the one being written is closed first if it is such a one. Nothing will
  // live in them again.
  std::vector<uint64_t> Dead();
  // Takes these away, whose index entries are durably gone: the log was synced after Dead.
  void Clean(const std::vector<uint64_t>& dead);
  // All packs, for a copy; nothing is written to them any more when this returns.
  struct Sealed {
    std::string name;
    int64_t size_bytes = 0;
  };
  std::vector<Sealed> SealAll();

  struct Totals {
    int64_t packs = 0;
    int64_t bytes = 0;
    int64_t live_bytes = 0;
    int64_t syncs = 0;
    double sync_seconds = 0;
  };
  Totals totals() const;
  const std::string& folder() const { return folder_; }

  // While one lives, packs of its moment stay readable.
  class Reading {
   public:
    explicit Reading(Packs& packs);
    ~Reading();
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

   private:
    Packs& packs_;
    std::multiset<uint64_t>::iterator moment_;
  };

 private:
  struct State {
    std::string name;  // Empty: missing.
    int64_t size_bytes = 0;
    int64_t live_bytes = 0;
    int64_t needed_bytes = 0;  // How long it must be for what the index said at the start.
    int writers = 0;
    bool dirty = false;
    uint64_t retired_at = 0;     // The moment it was taken out of use.
    std::shared_ptr<File> file;  // Opened when needed.
  };

  Packs(Files& files, std::string folder, int64_t pack_bytes)
      : files_(files), folder_(std::move(folder)), pack_bytes_(pack_bytes) {}
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }
  absl::Status BeginPack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<File>> FileOf(uint64_t id) const;
  void RemoveRetired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Files& files_;
  const std::string folder_;
  const int64_t pack_bytes_;

  Mutex sync_mutex_;  // Held while syncing, so that nobody takes another's sync for done. Before mutex_.
  mutable Mutex mutex_;
  mutable std::map<uint64_t, State> packs_ ABSL_GUARDED_BY(mutex_);
  mutable int open_files_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t current_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none is being written.
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool folder_dirty_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  uint64_t moment_ ABSL_GUARDED_BY(mutex_) = 0;
  std::multiset<uint64_t> readers_ ABSL_GUARDED_BY(mutex_);
  int64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  double sync_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
  CondVar writers_gone_;
};

}  // namespace bdh::store
