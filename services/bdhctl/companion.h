// A program that works beside bdhctl and is told line by line what to do.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::bdhctl {

class Companion {
 public:
  // `arguments` begins with the program, which is looked for in PATH. What it prints on standard error goes
  // where ours goes.
  static absl::StatusOr<std::unique_ptr<Companion>> Start(const std::vector<std::string>& arguments);
  // Closes its standard input, at which it must end, and waits for that.
  ~Companion();
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  absl::Status Send(std::string_view line);
  // The next line it prints. UnavailableError: it has ended.
  absl::StatusOr<std::string> Receive();
  // The same, of a line that must be a number. Another one is the error's message.
  absl::StatusOr<double> ReceiveNumber();

 private:
  Companion(std::string program, pid_t pid, int socket)
      : program_(std::move(program)), pid_(pid), socket_(socket) {}

  const std::string program_;
  const pid_t pid_;
  const int socket_;  // Both its standard input and its standard output.
  std::string received_;
};

}  // namespace bdh::bdhctl
