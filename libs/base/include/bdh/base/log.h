// BDH_LOG(INFO) << "checkpoint sealed name=" << name << " bytes=" << n;
// BDH_CHECK(offset <= size) << "offset " << offset;      a bug of ours: prints and aborts
//
// Our own names because LibTorch defines LOG and CHECK; glog is behind them, in log.cc only.
#pragma once

#include <sstream>
#include <string_view>

namespace bdh {

enum class LogSeverity { kInfo, kWarning, kError, kFatal };

// Sends the log to standard error under `program`'s name. Call once, first thing in main.
void InitLogging(const char* program);

namespace log_internal {

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

inline constexpr LogSeverity kINFO = LogSeverity::kInfo;
inline constexpr LogSeverity kWARNING = LogSeverity::kWarning;
inline constexpr LogSeverity kERROR = LogSeverity::kError;

}  // namespace log_internal
}  // namespace bdh

#define BDH_LOG(severity) \
  ::bdh::log_internal::Message(__FILE__, __LINE__, ::bdh::log_internal::k##severity).stream()

#define BDH_CHECK(condition)                                                                              \
  (condition) ? (void)0                                                                                   \
              : ::bdh::log_internal::Voidify() &                                                          \
                    ::bdh::log_internal::Message(__FILE__, __LINE__, ::bdh::LogSeverity::kFatal).stream() \
                        << "check failed: " #condition " "
