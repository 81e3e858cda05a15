// The logs of several daemons as one stream, for a person or a program.
#pragma once

#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "services/bdhctl/log_files.h"
#include "services/bdhctl/mesh_folder.h"

namespace bdh::bdhctl {

struct LogSource {
  std::string name;  // "inference"
  std::string path;
};

// Of `daemons` in `folder`; "supervisor" is one too.
std::vector<LogSource> LogSources(const MeshFolder& folder, const std::vector<std::string_view>& daemons);

enum class LogStyle {
  kPlain,     // As it stands in the file, after the name where there are several logs.
  kColoured,  // The same, each name in a colour of its own.
  kJson,      // One object a line: daemon, time, line.
};

// kColoured on a terminal, unless the variable NO_COLOR is set.
LogStyle StyleFor(FILE* out);

// Not thread-safe.
class LogPrinter {
 public:
  // Begins with the last `last_lines` lines of all together, in the order of their times.
  LogPrinter(const std::vector<LogSource>& sources, size_t last_lines, LogStyle style, FILE* out);

  // Prints what came since. False: nobody reads any more.
  bool Print();

 private:
  struct Log {
    Log(std::string log_name, std::string path, size_t last_lines)
        : name(std::move(log_name)), reader(std::move(path), last_lines) {}
    std::string name;
    LogReader reader;
  };
  std::string Format(size_t log, const std::string& line) const;

  const size_t last_lines_;
  const LogStyle style_;
  FILE* const out_;
  size_t name_width_ = 0;
  bool first_ = true;
  std::deque<Log> logs_;
};

// Prints on a thread of its own, so that a terminal that stands still holds up nobody else.
class LogFollower {
 public:
  explicit LogFollower(LogPrinter printer);
  ~LogFollower();  // After the last line.

 private:
  std::jthread thread_;
};

}  // namespace bdh::bdhctl
