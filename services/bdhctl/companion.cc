#include "services/bdhctl/companion.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::bdhctl {

absl::StatusOr<std::unique_ptr<Companion>> Companion::Start(const std::vector<std::string>& arguments) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    return ErrnoStatus(errno, "make a pair of sockets");
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const absl::Cleanup destroy = [&] { posix_spawn_file_actions_destroy(&actions); };
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO}) {
    posix_spawn_file_actions_adddup2(&actions, sockets[1], descriptor);
  }
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  close(sockets[1]);
  if (error != 0) {
    close(sockets[0]);
    return ErrnoStatus(error, absl::StrFormat("run %s", arguments[0]));
  }
  return std::unique_ptr<Companion>(new Companion(arguments[0], pid, sockets[0]));
}

Companion::~Companion() {
  close(socket_);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::Status Companion::Send(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t sent = send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return absl::UnavailableError(absl::StrFormat("%s has ended", program_));
    rest.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Companion::Receive() {
  while (true) {
    if (const size_t end = received_.find('\n'); end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    char buffer[4096];
    const ssize_t got = read(socket_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return absl::UnavailableError(absl::StrFormat("%s has ended", program_));
    received_.append(buffer, static_cast<size_t>(got));
  }
}

absl::StatusOr<double> Companion::ReceiveNumber() {
  BDH_ASSIGN_OR_RETURN(const std::string line, Receive());
  double number = 0;
  if (!absl::SimpleAtod(line, &number)) return absl::UnavailableError(line);
  return number;
}

}  // namespace bdh::bdhctl
