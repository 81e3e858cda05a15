// A mesh of the real binaries in a folder of its own, driven through bdhctl as a person would.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/e2e/subprocess.h"

namespace bdh::e2e {

using Json = nlohmann::json;

// Path of a binary that was built.
std::string Binary(const std::string& name);

class MeshDriver {
 public:
  // Keeps its data in `folder`/mesh; the user's registry is `folder`/state. Starts nothing.
  // `bdhctl` is the one to drive it with; the daemons are those beside it.
  explicit MeshDriver(const std::string& folder, const std::string& bdhctl = Binary("bdhctl"));
  // `down`, so that a failed test leaves nobody behind.
  ~MeshDriver();

  const std::string& data() const { return data_; }
  // The command `bdhctl ARGUMENTS... --data DATA`.
  Command Bdhctl(std::vector<std::string> arguments, const std::string& input = "") const;
  // The same without --data: the mesh is found by the registry.
  Command BdhctlAnywhere(std::vector<std::string> arguments) const;

  // Runs it. A failure of `Ok` is a failure of the test.
  Outcome Do(std::vector<std::string> arguments, const std::string& input = "") const;
  std::string Ok(std::vector<std::string> arguments, const std::string& input = "") const;
  // Adds --json and parses what is printed; null if it is no JSON.
  Json OkJson(std::vector<std::string> arguments, const std::string& input = "") const;

  // up --detach, with drain timeouts that suit a test.
  Outcome Up(std::vector<std::string> more = {}) const;
  // What `status --json` says, whatever its exit code.
  Json Status() const;
  // Waits until `status` says that the mesh is up and all are well.
  bool WaitUntilHealthy() const;
  // The daemon's part of `status`.
  Json Daemon(const std::string& name) const;

  // Processes that hold the mesh up: supervisor first.
  std::vector<pid_t> Processes() const;

 private:
  const std::string data_, state_, bdhctl_;
};

// Waits until none is left.
bool AllGone(const std::vector<pid_t>& processes);

}  // namespace bdh::e2e
