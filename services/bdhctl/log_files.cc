#include "services/bdhctl/log_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace bdh::bdhctl {
namespace {

constexpr size_t kBlockBytes = 64 << 10;
// A line that is longer is cut there, so that a file without line ends cannot fill the memory.
constexpr size_t kMaxLineBytes = 1 << 20;
constexpr size_t kBytesAtOnce = 4 << 20;

std::string Older(const std::string& path, int age) {
  return absl::StrFormat("%s.%d", path, age);
}

// Where the last `lines` lines of a file of `size` bytes begin. What is after the last line end counts as
// one.
off_t BeginOfLastLines(int file, off_t size, size_t lines) {
  char block[kBlockBytes];
  size_t line_ends = 0;
  for (off_t end = size; end > 0;) {
    const size_t wanted = std::min<off_t>(end, kBlockBytes);
    const ssize_t got = pread(file, block, wanted, end - static_cast<off_t>(wanted));
    if (got != static_cast<ssize_t>(wanted)) return end;
    for (size_t i = wanted; i > 0; --i) {
      const off_t at = end - static_cast<off_t>(wanted - i) - 1;
      if (block[i - 1] == '\n' && at + 1 < size && ++line_ends == lines) return at + 1;
    }
    end -= static_cast<off_t>(wanted);
  }
  return 0;
}

std::vector<std::string> LinesOf(std::string_view text) {
  if (text.empty()) return {};
  if (text.back() == '\n') text.remove_suffix(1);
  return absl::StrSplit(absl::string_view(text.data(), text.size()), '\n');
}

std::optional<absl::Time> Rfc3339Time(const std::string& text) {
  absl::Time time;
  std::string ignored;
  return absl::ParseTime(absl::RFC3339_full, text, &time, &ignored) ? std::optional(time) : std::nullopt;
}

// "I20261121 11:17:26.123456 4711 file.cc:12] ...", in UTC.
std::optional<absl::Time> GlogTime(std::string_view line) {
  constexpr size_t kDate = 1, kTime = 10, kEnd = 25;
  if (line.size() < kEnd || std::string_view("DIWEF").find(line[0]) == std::string_view::npos)
    return std::nullopt;
  return Rfc3339Time(absl::StrFormat("%s-%s-%sT%sZ", line.substr(kDate, 4), line.substr(kDate + 4, 2),
                                     line.substr(kDate + 6, 2), line.substr(kTime, kEnd - kTime)));
}

}  // namespace

bool LogIsFull(const std::string& path, const LogLimits& limits) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && info.st_size > limits.file_bytes;
}

void RotateLog(const std::string& path, const LogLimits& limits) {
  for (int age = limits.files; age > 1; --age) {
    rename(Older(path, age - 1).c_str(), Older(path, age).c_str());
  }
  if (limits.files > 0) {
    rename(path.c_str(), Older(path, 1).c_str());
  } else {
    unlink(path.c_str());
  }
}

std::vector<std::string> ReadLastLines(const std::string& path, size_t count) {
  LogReader reader(path, count);
  std::vector<std::string> lines;
  for (auto more = reader.Read(); !more.empty(); more = reader.Read()) {
    lines.insert(lines.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }
  if (!reader.unfinished().empty()) lines.push_back(reader.unfinished());
  if (lines.size() > count) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(count));
  return lines;
}

std::string LastLines(const std::string& path, int count) {
  std::string text;
  for (const std::string& line : ReadLastLines(path, count))
    text += (text.empty() ? "    " : "\n    ") + line;
  return text.empty() ? absl::StrFormat("    (nothing in %s)", path) : text;
}

std::optional<absl::Time> TimeOfLine(std::string_view line) {
  if (const auto time = GlogTime(line)) return time;
  if (!line.starts_with('{')) return Rfc3339Time(std::string(line.substr(0, line.find(' '))));
  const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || !record.contains("time") || !record["time"].is_string()) return std::nullopt;
  return Rfc3339Time(record["time"].get<std::string>());
}

LogReader::LogReader(std::string path, size_t last_lines) : path_(std::move(path)) {
  if (!Open()) return;
  const off_t size = lseek(file_, 0, SEEK_END);
  if (last_lines == 0) return;
  const off_t begin = lseek(file_, BeginOfLastLines(file_, size, last_lines), SEEK_SET);
  if (begin > 0 || access(Older(path_, 1).c_str(), R_OK) != 0) return;
  std::string text(size, '\0');
  const ssize_t got = pread(file_, text.data(), size, 0);
  const size_t here = std::count(text.begin(), text.begin() + std::max<ssize_t>(got, 0), '\n');
  if (here >= last_lines) return;
  for (const std::string& line : ReadLastLines(Older(path_, 1), last_lines - here)) pending_ += line + "\n";
}

LogReader::~LogReader() {
  if (file_ >= 0) close(file_);
}

bool LogReader::Open() {
  if (file_ >= 0) close(file_);
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  return file_ >= 0;
}

bool LogReader::HasRotated() const {
  struct stat mine, there;
  if (fstat(file_, &mine) != 0 || stat(path_.c_str(), &there) != 0) return false;
  return mine.st_ino != there.st_ino || mine.st_dev != there.st_dev;
}

bool LogReader::Fill() {
  char block[kBlockBytes];
  while (pending_.size() < kBytesAtOnce) {
    const ssize_t got = read(file_, block, sizeof(block));
    if (got <= 0) return true;
    pending_.append(block, got);
  }
  return false;
}

std::vector<std::string> LogReader::Read() {
  if (file_ < 0 && !Open()) return {};
  // Asked first: what is written between reading and asking would be lost.
  const bool rotated = HasRotated();
  if (Fill() && rotated && Open()) Fill();
  size_t whole = pending_.rfind('\n') + 1;  // 0 when there is none.
  if (whole == 0 && pending_.size() >= kMaxLineBytes) whole = pending_.size();
  std::vector<std::string> lines = LinesOf(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return lines;
}

LogWriter::LogWriter(std::string path, LogLimits limits, std::vector<int> also)
    : path_(std::move(path)), limits_(limits), also_(std::move(also)) {
  Open();
}

LogWriter::~LogWriter() {
  if (file_ >= 0) close(file_);
}

void LogWriter::Open() {
  if (file_ >= 0) close(file_);
  file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) return;
  for (const int descriptor : also_) dup2(file_, descriptor);
}

void LogWriter::Write(std::string_view text) {
  if (LogIsFull(path_, limits_)) {
    RotateLog(path_, limits_);
    Open();
  }
  const std::string line = absl::StrFormat(
      "%s %s\n", absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone()), text);
  // A full disk must not end the mesh; the terminal or the pipe still hears it.
  if (write(file_, line.data(), line.size()) < 0) return;
}

}  // namespace bdh::bdhctl
