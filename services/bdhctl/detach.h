// Work that goes on after the command that began it has returned.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace bdh::bdhctl {

// What a detached process tells the command that waits for it. The two are one program, so this is all that
// passes between them.
class Reporter {
 public:
  explicit Reporter(int pipe) : pipe_(pipe) {}
  // One message to the person who waits.
  void Say(std::string_view text);
  // The waiting command prints `text` (to stderr unless `exit_code` is 0) and leaves with the code. Once.
  void Done(int exit_code, std::string_view text);

 private:
  void Send(std::string_view kind, int code, std::string_view text);
  int pipe_;
};

// Runs `work` in a process that has no terminal, no parent and no descriptors but its own, with standard
// output and error appended to `log`. Returns the exit code it reports with Done, after printing what it says
// to stderr; `on_done` gets the text of a success. Must be called before any thread is started.
int RunDetached(const std::string& log, const std::function<void(Reporter&)>& work,
                const std::function<void(std::string_view)>& on_done);

}  // namespace bdh::bdhctl
