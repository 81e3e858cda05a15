#include "tests/e2e/subprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace bdh::e2e {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string MakeFolder() {
  std::string pattern = std::filesystem::temp_directory_path().string() + "/bdh-run-XXXXXX";
  return mkdtemp(pattern.data()) == nullptr ? "." : pattern;
}

void Redirect(const std::string& path, int flags, int to) {
  const int descriptor = open(path.c_str(), flags | O_CLOEXEC, 0600);
  dup2(descriptor, to);
}

[[noreturn]] void Become(const Command& command, const std::string& folder) {
  setpgid(0, 0);
  Redirect(folder + "/in", O_RDONLY, STDIN_FILENO);
  Redirect(folder + "/out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
  Redirect(folder + "/err", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
  for (const auto& [name, value] : command.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : command.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execv(arguments[0], arguments.data());
  dprintf(STDERR_FILENO, "cannot run %s\n", arguments[0]);
  _exit(127);
}

}  // namespace

Subprocess::Subprocess(const Command& command) : folder_(MakeFolder()) {
  std::ofstream(folder_ + "/in", std::ios::binary) << command.input;
  pid_ = fork();
  if (pid_ == 0) Become(command, folder_);
}

Subprocess::~Subprocess() {
  if (pid_ > 0) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Subprocess::Signal(int signal_number) const {
  if (pid_ > 0) kill(pid_, signal_number);
}

std::string Subprocess::Printed() const {
  return ReadAll(folder_ + "/out");
}

std::string Subprocess::Complained() const {
  return ReadAll(folder_ + "/err");
}

Outcome Subprocess::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  int status = 0;
  bool late = false;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (!late && absl::Now() > deadline) {
      late = true;
      Signal(SIGKILL);
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  pid_ = -1;
  Outcome outcome{.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                  .out = ReadAll(folder_ + "/out"),
                  .err = ReadAll(folder_ + "/err")};
  if (late) outcome.err += absl::StrFormat("\n(killed after %s)", absl::FormatDuration(timeout));
  return outcome;
}

Outcome Execute(const Command& command, absl::Duration timeout) {
  return Subprocess(command).Wait(timeout);
}

bool IsGone(pid_t pid) {
  const std::string stat = ReadAll(absl::StrFormat("/proc/%d/stat", pid));
  const size_t name_end = stat.rfind(')');
  return name_end == std::string::npos || stat.substr(name_end + 2, 1) == "Z";
}

}  // namespace bdh::e2e
