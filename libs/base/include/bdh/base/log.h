// BDH_LOG(INFO) << "checkpoint sealed name=" << name << " bytes=" << n;
// BDH_CHECK(offset <= size) << "offset " << offset;      a bug of ours: prints and aborts
//
// Lines go to standard error, as text for people or as one JSON object each, and carry the ids of the request
// that the thread works for. Levels may be changed while the process runs, for all files or for some.
// Our own names because LibTorch defines LOG and CHECK; glog is behind them for crashes, in log.cc only.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace bdh {

enum class LogSeverity { kDebug, kInfo, kWarning, kError, kFatal };
enum class LogFormat { kText, kJson };

// Names the program in its log. Call once, first thing in main.
void InitLogging(const char* program);

void SetLogFormat(LogFormat format);

// Sets all levels: "info", or "info,gateway=debug,model_loader=warning". A module is a file without its
// ending, or one of the folders it is in; a file's own level counts over its folder's. InvalidArgumentError:
// not of that form; then nothing has changed.
absl::Status SetLogLevels(std::string_view levels);
// What holds, in that form.
std::string LogLevels();

// The request that a thread works for: ids of W3C's trace context, in lower-case hexadecimal.
struct LogTrace {
  std::string trace_id = {};  // 32 digits; empty: none.
  std::string span_id = {};   // 16 digits.
};

// Lines of this thread carry `trace` until the end of the scope.
class ScopedLogTrace {
 public:
  explicit ScopedLogTrace(LogTrace trace);
  ~ScopedLogTrace();
  ScopedLogTrace(const ScopedLogTrace&) = delete;
  ScopedLogTrace& operator=(const ScopedLogTrace&) = delete;

  // Of this thread; without ids when there is none.
  static const LogTrace& Current();

 private:
  const LogTrace trace_;
  const LogTrace* const before_;
};

namespace log_internal {

// Whether a line of that severity in `file` is wanted.
bool Enabled(const char* file, LogSeverity severity);

class Message {
 public:
  Message(const char* file, int line, LogSeverity severity) : file_(file), line_(line), severity_(severity) {}
  ~Message();  // Writes; aborts after kFatal.
  std::ostream& stream() { return stream_; }

 private:
  const char* const file_;
  const int line_;
  const LogSeverity severity_;
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) const {}
};

inline constexpr LogSeverity kDEBUG = LogSeverity::kDebug;
inline constexpr LogSeverity kINFO = LogSeverity::kInfo;
inline constexpr LogSeverity kWARNING = LogSeverity::kWarning;
inline constexpr LogSeverity kERROR = LogSeverity::kError;

}  // namespace log_internal
}  // namespace bdh

#define BDH_LOG(severity) BDH_LOG_AT(::bdh::log_internal::k##severity)

// For a severity that is known only at run time.
#define BDH_LOG_AT(severity)                        \
  !::bdh::log_internal::Enabled(__FILE__, severity) \
      ? (void)0                                     \
      : ::bdh::log_internal::Voidify() & ::bdh::log_internal::Message(__FILE__, __LINE__, severity).stream()

#define BDH_CHECK(condition)                                                                              \
  (condition) ? (void)0                                                                                   \
              : ::bdh::log_internal::Voidify() &                                                          \
                    ::bdh::log_internal::Message(__FILE__, __LINE__, ::bdh::LogSeverity::kFatal).stream() \
                        << "check failed: " #condition " "
