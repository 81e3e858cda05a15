// The few things the store asks of a file system beside what RocksDB asks of its own, so that a test can put
// a disk underneath that loses power.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::store {

// Thread-safe.
class File {
 public:
  virtual ~File() = default;
  virtual absl::Status WriteAt(int64_t offset, std::string_view bytes) = 0;
  // DataLossError: the file ends before. Fills `out` with `size` bytes.
  virtual absl::Status ReadAt(int64_t offset, size_t size, char* out) const = 0;
  // What was written before survives a power cut.
  virtual absl::Status Sync() = 0;
  // Asks the system to begin writing these bytes, so that Sync has less to wait for.
  virtual void StartWriting(int64_t /*offset*/, int64_t /*size*/) {}
};

// Thread-safe.
class Files {
 public:
  enum class Mode {
    kRead,    // NotFoundError: there is none.
    kCreate,  // Made anew; AlreadyExistsError: there is one.
    kUpdate,  // Made if missing.
  };
  struct Entry {
    std::string name;
    int64_t size_bytes = 0;
  };
  virtual ~Files() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  // What stands in the folder, which need not be there.
  virtual absl::StatusOr<std::vector<Entry>> List(const std::string& folder) = 0;
  virtual absl::Status MakeFolder(const std::string& folder) = 0;
  // Entries made or removed in the folder survive a power cut.
  virtual absl::Status SyncFolder(const std::string& folder) = 0;
  // Bytes an unprivileged process may still write there.
  virtual int64_t FreeBytes(const std::string& folder) = 0;
  // Held until it is destroyed, and given up by the system if the process dies. FailedPreconditionError with
  // `busy_message`: another process has it.
  virtual absl::StatusOr<std::shared_ptr<void>> Lock(const std::string& path,
                                                     std::string_view busy_message) = 0;
};

// Those of the system.
Files& SystemFiles();

}  // namespace bdh::store
