#include "bdh/base/log.h"

#include <glog/logging.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/base/text.h"

namespace bdh {
namespace {

constexpr std::pair<const char*, LogSeverity> kLevels[] = {{"debug", LogSeverity::kDebug},
                                                           {"info", LogSeverity::kInfo},
                                                           {"warning", LogSeverity::kWarning},
                                                           {"error", LogSeverity::kError}};

const char* NameOf(LogSeverity severity) {
  for (const auto& [name, level] : kLevels) {
    if (level == severity) return name;
  }
  return "fatal";
}

// Which lines are wanted. Reading is two atomic loads unless levels differ between modules.
class Levels {
 public:
  static Levels& Get() {
    static Levels* const levels = new Levels;  // Threads may log while static objects are destroyed.
    return *levels;
  }

  bool Wants(const char* file, LogSeverity severity) {
    if (severity < lowest_.load(std::memory_order_relaxed)) return false;
    if (severity >= highest_.load(std::memory_order_relaxed)) return true;
    MutexLock lock(mutex_);
    return severity >= LevelOf(file);
  }

  void Set(LogSeverity all, std::map<std::string, LogSeverity, std::less<>> modules) {
    MutexLock lock(mutex_);
    LogSeverity lowest = all, highest = all;
    for (const auto& [module, level] : modules) {
      lowest = std::min(lowest, level);
      highest = std::max(highest, level);
    }
    all_ = all;
    modules_ = std::move(modules);
    lowest_ = lowest;
    highest_ = highest;
  }

  std::string ToString() {
    MutexLock lock(mutex_);
    std::string text = NameOf(all_);
    for (const auto& [module, level] : modules_)
      absl::StrAppendFormat(&text, ",%s=%s", module, NameOf(level));
    return text;
  }

 private:
  LogSeverity LevelOf(std::string_view file) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const size_t dot = file.rfind('.');
    if (dot != std::string_view::npos) file = file.substr(0, dot);
    // From the file's own name outwards.
    while (true) {
      const size_t slash = file.rfind('/');
      const std::string_view part = slash == std::string_view::npos ? file : file.substr(slash + 1);
      if (const auto found = modules_.find(part); found != modules_.end()) return found->second;
      if (slash == std::string_view::npos) return all_;
      file = file.substr(0, slash);
    }
  }

  std::atomic<LogSeverity> lowest_{LogSeverity::kInfo}, highest_{LogSeverity::kInfo};
  Mutex mutex_;
  LogSeverity all_ ABSL_GUARDED_BY(mutex_) = LogSeverity::kInfo;
  std::map<std::string, LogSeverity, std::less<>> modules_ ABSL_GUARDED_BY(mutex_);
};

std::atomic<LogFormat> g_format{LogFormat::kText};
const char* g_program = "";
thread_local const LogTrace* t_trace = nullptr;

std::string_view BaseName(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0.
}

// A JSON string. What is not UTF-8 is shown byte by byte, as Latin-1: a log line is never lost.
std::string Quoted(std::string_view text) {
  const bool utf8 = IsUtf8(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !utf8)) {
      absl::StrAppendFormat(&quoted, "\\u%04x", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// As glog writes it, and then the trace: one event is one line, whatever is in it.
std::string TextLine(std::string_view file, int line, LogSeverity severity, std::string_view message) {
  const absl::Time now = absl::Now();
  std::string text = absl::StrFormat("%c%s %d %s:%d] %s",
                                     absl::ascii_toupper(static_cast<unsigned char>(NameOf(severity)[0])),
                                     absl::FormatTime("%Y%m%d %H:%M:%E6S", now, absl::UTCTimeZone()),
                                     syscall(SYS_gettid), BaseName(file), line, message);
  const LogTrace& trace = ScopedLogTrace::Current();
  if (!trace.trace_id.empty()) text += " trace=" + trace.trace_id;
  return text + '\n';
}

std::string JsonLine(std::string_view file, int line, LogSeverity severity, std::string_view message) {
  std::string json = absl::StrFormat(
      R"({"time":"%s","severity":"%s","daemon":%s,"pid":%d,"thread":%d,"source":%s,"message":%s)",
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone()),
      absl::AsciiStrToUpper(NameOf(severity)), Quoted(g_program), getpid(), syscall(SYS_gettid),
      Quoted(absl::StrFormat("%s:%d", BaseName(file), line)), Quoted(message));
  const LogTrace& trace = ScopedLogTrace::Current();
  if (!trace.trace_id.empty()) {
    absl::StrAppendFormat(&json, R"(,"trace_id":"%s","span_id":"%s")", trace.trace_id, trace.span_id);
  }
  return json + "}\n";
}

// In one call, so that lines of threads and processes do not mix.
void WriteLine(const std::string& line) {
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t bytes = write(STDERR_FILENO, line.data() + written, line.size() - written);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return;  // Nobody could be told.
    written += static_cast<size_t>(bytes);
  }
}

bool ParseLevel(absl::string_view text, LogSeverity& level) {
  for (const auto& [name, value] : kLevels) {
    if (text != name) continue;
    level = value;
    return true;
  }
  return false;
}

}  // namespace

void InitLogging(const char* program) {
  FLAGS_logtostderr = true;
  FLAGS_log_utc_time = true;
  g_program = strdup(std::string(BaseName(program)).c_str());
  google::InitGoogleLogging(g_program);
}

void SetLogFormat(LogFormat format) {
  g_format = format;
}

absl::Status SetLogLevels(std::string_view levels) {
  LogSeverity all = LogSeverity::kInfo;
  std::map<std::string, LogSeverity, std::less<>> modules;
  for (const absl::string_view part : absl::StrSplit(absl::string_view(levels.data(), levels.size()), ',')) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const bool for_all = part.find('=') == absl::string_view::npos;
    LogSeverity level = LogSeverity::kInfo;
    const bool good = ParseLevel(for_all ? part : sides.second, level) && (for_all || !sides.first.empty());
    if (!good) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "'%s' is no log level; want debug, info, warning or error, or MODULE=LEVEL, separated by commas: "
          "info,gateway=debug",
          part.substr(0, 80)));
    }
    if (for_all) {
      all = level;
    } else {
      modules[std::string(sides.first)] = level;
    }
  }
  Levels::Get().Set(all, std::move(modules));
  return absl::OkStatus();
}

std::string LogLevels() {
  return Levels::Get().ToString();
}

ScopedLogTrace::ScopedLogTrace(LogTrace trace) : trace_(std::move(trace)), before_(t_trace) {
  t_trace = &trace_;
}

ScopedLogTrace::~ScopedLogTrace() {
  t_trace = before_;
}

const LogTrace& ScopedLogTrace::Current() {
  static const LogTrace* const none = new LogTrace;
  return t_trace != nullptr ? *t_trace : *none;
}

namespace log_internal {

bool Enabled(const char* file, LogSeverity severity) {
  return Levels::Get().Wants(file, severity);
}

Message::~Message() {
  const std::string text = stream_.str();
  const bool json = g_format == LogFormat::kJson;
  WriteLine(json ? JsonLine(file_, line_, severity_, text) : TextLine(file_, line_, severity_, text));
  // glog ends the process, with a stack trace.
  if (severity_ == LogSeverity::kFatal) google::LogMessage(file_, line_, google::GLOG_FATAL).stream() << text;
}

}  // namespace log_internal
}  // namespace bdh
