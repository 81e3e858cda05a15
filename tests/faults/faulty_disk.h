// A disk that loses power. It lies under RocksDB and under the store's own files at once, in memory.
//
// What is written is seen at once and is durable only once it was synced: a file by its own sync, its name by
// the sync of its folder. When the power goes, what the disk holds is put aside: of each file a random prefix
// of the writes that were not synced, the last of them perhaps torn, or any of them with holes between; and
// of each folder a random prefix of the changes of names that were not synced, for that is the order in which
// a journal has them. The process notices nothing, as one that loses power does: all it does from then on
// succeeds and is lost. So an act is acknowledged only if the power was still on when it had returned.
#pragma once

#include <rocksdb/env.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "bdh/store/files.h"

namespace bdh::faults {

class FaultyDisk {
 public:
  FaultyDisk();
  ~FaultyDisk();

  store::Files& files() { return *files_; }
  rocksdb::Env* env() { return env_.get(); }

  // The power goes with the so-manieth write, sync or change of a name from now; 0: not by itself.
  void CutAfter(int64_t operations);
  bool is_cut() const;
  // The power is back (and goes first, if it has not gone): the disk has what survived. All that was opened
  // must be closed.
  void Restart(std::mt19937_64& random);

  // Writes beyond so many bytes find the disk full. -1: no end.
  void SetCapacity(int64_t bytes);
  int64_t used_bytes() const;

  // Flips a bit of a file whose path ends so; false: there is none with bytes.
  bool FlipBit(const std::string& suffix, std::mt19937_64& random, std::string* where);
  // Takes a file away whose path ends so; answers its path, or nothing.
  std::string Lose(const std::string& suffix, std::mt19937_64& random);

  // What is on the disk, to begin others with.
  struct Image;
  std::shared_ptr<const Image> Save() const;
  void Load(const Image& image);

  struct Core;

 private:
  const std::shared_ptr<Core> core_;
  const std::unique_ptr<store::Files> files_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace bdh::faults
