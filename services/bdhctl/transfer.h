// Files on their way to a daemon: opened, sent in pieces, with a bar.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {

struct InputFile {
  std::string name;
  std::unique_ptr<FILE, int (*)(FILE*)> handle;
};

// "-" is standard input. Opened before anything is sent, so that a wrong name costs nothing.
absl::StatusOr<std::vector<InputFile>> OpenInputs(const std::vector<std::string>& names);

// A byte bar on stderr: standard output is for the result.
class ByteBar {
 public:
  // 0 when the total is not known.
  ByteBar(std::string verb, int64_t total) : verb_(std::move(verb)), total_(total) {}
  void Show(int64_t bytes) { Show(verb_, bytes, total_, ""); }
  // `note` stands behind the figures.
  void Show(const std::string& verb, int64_t bytes, int64_t total, std::string_view note);

 private:
  const std::string verb_;
  const int64_t total_;
  std::string shown_verb_;
  absl::Time start_ = absl::Now();
  ProgressLine line_{stderr};
};

// Gives all bytes to `send`, file after file. False: `send` was, because the daemon has ended the stream; its
// status says why.
using SendPiece = std::function<bool(const std::string& file, std::string_view piece)>;
absl::StatusOr<bool> SendInputs(const std::vector<InputFile>& files, const SendPiece& send);

}  // namespace bdh::bdhctl
