// Log files of a mesh: read from their ends, followed while they grow and rotate, written and rotated.
//
// FILE is the newest; FILE.1, FILE.2, ... are older. A file that rotates is renamed, so that whoever has it
// open goes on to its end and loses nothing.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace bdh::bdhctl {

struct LogLimits {
  int64_t file_bytes = 16 << 20;  // A file that is larger rotates.
  int files = 3;                  // Older ones that are kept.
};

// Whether `path` has outgrown the limit.
bool LogIsFull(const std::string& path, const LogLimits& limits);

// Renames FILE to FILE.1, FILE.1 to FILE.2 and so on; the oldest goes.
void RotateLog(const std::string& path, const LogLimits& limits);

// The last `count` lines of the file, and of the one before it where it has fewer. Reads no more than these.
std::vector<std::string> ReadLastLines(const std::string& path, size_t count);

// The same for people: indented, or a word on why there are none.
std::string LastLines(const std::string& path, int count);

// When a line was written, if it begins with that: glog's form, RFC 3339, or JSON with "time".
std::optional<absl::Time> TimeOfLine(std::string_view line);

// Reads what is appended to a file that need not be there yet, through its rotations. Not thread-safe.
class LogReader {
 public:
  // Begins with the last `last_lines` lines of what is there now, those of the file before included.
  explicit LogReader(std::string path, size_t last_lines = 0);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  // The whole lines that came since; a few MiB at once, and then more with the next call.
  std::vector<std::string> Read();
  // The line that has no end yet.
  const std::string& unfinished() const { return pending_; }

 private:
  bool Open();
  // Whether the path means another file by now.
  bool HasRotated() const;
  // Takes what can be read now. False: there is more than should be taken at once.
  bool Fill();

  const std::string path_;
  int file_ = -1;
  std::string pending_;  // The beginning of a line.
};

// Appends to a log of our own, which rotates when it is full. Each line is one write.
class LogWriter {
 public:
  // Each time a file is opened, `also` (standard output, standard error) are pointed to it too.
  LogWriter(std::string path, LogLimits limits, std::vector<int> also = {});
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // With the time before it. A text of several lines stays in one piece.
  void Write(std::string_view text);

 private:
  void Open();

  const std::string path_;
  const LogLimits limits_;
  const std::vector<int> also_;
  int file_ = -1;
};

}  // namespace bdh::bdhctl
