#include "services/bdhctl/detach.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/log_files.h"

namespace bdh::bdhctl {
namespace {

// Whoever reads the other end of a pipe that the command was given, as in `$(bdhctl up --detach)`, waits for
// its last holder. Our own descriptors are close-on-exec, so what is not came from outside.
void CloseForeignDescriptors() {
  std::vector<int> foreign;
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* entry = readdir(folder)) {
    int descriptor = -1;
    if (!absl::SimpleAtoi(entry->d_name, &descriptor) || descriptor <= STDERR_FILENO) continue;
    const int flags = fcntl(descriptor, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) foreign.push_back(descriptor);
  }
  closedir(folder);
  for (const int descriptor : foreign) close(descriptor);
}

void RedirectTo(const std::string& log) {
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  dup2(nothing, STDIN_FILENO);
  dup2(out < 0 ? nothing : out, STDOUT_FILENO);
  dup2(out < 0 ? nothing : out, STDERR_FILENO);
}

[[noreturn]] void BecomeDetached(int pipe, const std::string& log,
                                 const std::function<void(Reporter&)>& work) {
  setsid();
  // Not the leader of its session, so it can never get a terminal again.
  if (fork() != 0) _exit(0);
  RedirectTo(log);
  CloseForeignDescriptors();
  Reporter reporter(pipe);
  work(reporter);
  std::exit(0);
}

// Prints what the detached process says until it is done or gone.
int Listen(int pipe, const std::string& log, const std::function<void(std::string_view)>& on_done) {
  FILE* lines = fdopen(pipe, "r");
  char* line = nullptr;
  size_t capacity = 0;
  int exit_code = -1;
  while (exit_code < 0 && getline(&line, &capacity, lines) > 0) {
    const auto message = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!message.is_object()) continue;
    const std::string text = message.value("text", "");
    if (message.value("kind", "") == "done") {
      exit_code = message.value("code", kExitFailed);
      if (exit_code == kExitOk) on_done(text);
    }
    if (exit_code != kExitOk) std::cerr << text << std::endl;
  }
  free(line);
  fclose(lines);
  if (exit_code >= 0) return exit_code;
  std::cerr << absl::StrFormat("bdhctl: the supervisor ended unexpectedly; its log (%s) ends:\n%s", log,
                               LastLines(log, 10))
            << std::endl;
  return kExitFailed;
}

}  // namespace

void Reporter::Say(std::string_view text) {
  Send("say", 0, text);
}

void Reporter::Done(int exit_code, std::string_view text) {
  Send("done", exit_code, text);
  close(pipe_);
  pipe_ = -1;
}

void Reporter::Send(std::string_view kind, int code, std::string_view text) {
  if (pipe_ < 0) return;
  const nlohmann::json message = {{"kind", kind}, {"code", code}, {"text", text}};
  const std::string line = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  // Nobody may listen any more; SIGPIPE is ignored.
  if (write(pipe_, line.data(), line.size()) < 0) return;
}

int RunDetached(const std::string& log, const std::function<void(Reporter&)>& work,
                const std::function<void(std::string_view)>& on_done) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    std::cerr << "bdhctl: cannot make a pipe: " << strerror(errno) << std::endl;
    return kExitFailed;
  }
  const pid_t child = fork();
  if (child < 0) {
    std::cerr << "bdhctl: cannot start a process: " << strerror(errno) << std::endl;
    return kExitFailed;
  }
  if (child == 0) {
    close(ends[0]);
    BecomeDetached(ends[1], log, work);
  }
  close(ends[1]);
  waitpid(child, nullptr, 0);
  return Listen(ends[0], log, on_done);
}

}  // namespace bdh::bdhctl
