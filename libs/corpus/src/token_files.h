// Where tokens go on their way to disk: into numbered shards, or aside until their place is known.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shard.h"

namespace bdh::corpus {

// A run of elements over as many files as it takes. A file is begun when there is something for it.
class NumberedShards {
 public:
  struct Options {
    std::string folder;
    std::function<std::string(size_t)> file_name;  // Of the file of a given number.
    std::function<int64_t(size_t)> file_elements;  // How many it holds.
    int element_bytes = 1;
  };
  struct File {
    std::string name;
    ShardSummary summary;
  };
  // What it takes to go on after a crash.
  struct State {
    std::vector<File> files;
    ShardSummary open;  // Of the file that is not finished, if it has elements.
  };

  explicit NumberedShards(Options options) : options_(std::move(options)) {}

  absl::Status Append(std::string_view bytes);
  int64_t elements() const { return elements_; }
  const std::vector<File>& files() const { return files_; }  // Finished ones.
  // Makes everything durable.
  absl::StatusOr<State> Sync();
  // Of one that has nothing yet.
  absl::Status Restore(State state);
  absl::StatusOr<std::vector<File>> Finish();

 private:
  absl::Status BeginFileIfNone();
  absl::Status EndFile();
  std::string PathOf(size_t number) const;

  const Options options_;
  std::unique_ptr<ShardWriter> file_;
  std::vector<File> files_;
  int64_t elements_ = 0;
};

// Bytes that wait: in memory, then in a file.
class WaitingBytes {
 public:
  WaitingBytes(std::string path, int64_t memory_bytes)
      : path_(std::move(path)), memory_bytes_(memory_bytes) {}
  ~WaitingBytes();

  absl::Status Append(std::string_view bytes);
  int64_t size() const { return spilled_ + static_cast<int64_t>(memory_.size()) - taken_; }
  // Hands the first `bytes` of what waits to `consume`, in pieces.
  absl::Status Take(int64_t bytes, const std::function<absl::Status(std::string_view)>& consume);
  // Makes what waits durable: nothing was taken of it.
  absl::Status Sync();
  // Goes on with the first `bytes` of the file that Sync left.
  absl::Status Restore(int64_t bytes);
  void Remove();

 private:
  absl::Status OpenFile(int flags);
  absl::Status Spill();
  absl::Status ReadAt(int64_t position, std::string& out) const;
  absl::Status EmptyIfAllTaken();

  const std::string path_;
  const int64_t memory_bytes_;
  std::string memory_;
  int descriptor_ = -1;
  int64_t spilled_ = 0, taken_ = 0;
};

}  // namespace bdh::corpus
