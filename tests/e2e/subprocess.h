// Runs programs the way a shell does.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace bdh::e2e {

struct Command {
  std::vector<std::string> arguments;  // The first is the program's path.
  std::string input = "";
  std::map<std::string, std::string> environment = {};  // Added to ours.
};

struct Outcome {
  int exit_code = -1;  // 128 + n after signal n, as the shell has it.
  std::string out, err;
};

// A program that runs in its own process group. The destructor kills it if it still does.
class Subprocess {
 public:
  explicit Subprocess(const Command& command);
  ~Subprocess();
  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal_number) const;
  // What it has printed so far.
  std::string Printed() const;
  std::string Complained() const;  // To stderr, where daemons log.
  // Waits for its end; kills it when that takes longer, and says so in `err`.
  Outcome Wait(absl::Duration timeout);

 private:
  std::string folder_;  // Holds what it reads and prints.
  pid_t pid_ = -1;
};

Outcome Execute(const Command& command, absl::Duration timeout = absl::Minutes(3));

// Neither running nor a zombie.
bool IsGone(pid_t pid);

}  // namespace bdh::e2e
