#include "services/bdhctl/log_printer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/mutex.h"

namespace bdh::bdhctl {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(100);
// Cyan, yellow, green, magenta, blue, red: each legible on dark and on light.
constexpr int kColours[] = {36, 33, 32, 35, 34, 31};

}  // namespace

std::vector<LogSource> LogSources(const MeshFolder& folder, const std::vector<std::string_view>& daemons) {
  std::vector<LogSource> sources;
  for (const std::string_view daemon : daemons) {
    sources.push_back(
        {std::string(daemon.substr(daemon.starts_with("bdh-") ? 4 : 0)), folder.LogFile(daemon)});
  }
  return sources;
}

LogStyle StyleFor(FILE* out) {
  const char* no_colour = std::getenv("NO_COLOR");
  const bool wanted = no_colour == nullptr || *no_colour == '\0';
  return wanted && isatty(fileno(out)) != 0 ? LogStyle::kColoured : LogStyle::kPlain;
}

LogPrinter::LogPrinter(const std::vector<LogSource>& sources, size_t last_lines, LogStyle style, FILE* out)
    : last_lines_(last_lines), style_(style), out_(out) {
  for (const LogSource& source : sources) {
    logs_.emplace_back(source.name, source.path, last_lines);
    name_width_ = std::max(name_width_, source.name.size());
  }
}

std::string LogPrinter::Format(size_t log, const std::string& line) const {
  if (style_ == LogStyle::kJson) {
    nlohmann::ordered_json json = {{"daemon", logs_[log].name}};
    if (const auto time = TimeOfLine(line)) {
      json["time"] = absl::FormatTime(absl::RFC3339_full, *time, absl::UTCTimeZone());
    }
    json["line"] = line;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (logs_.size() == 1) return line + "\n";
  const std::string name = absl::StrFormat("%-*s |", static_cast<int>(name_width_), logs_[log].name);
  if (style_ == LogStyle::kPlain) return absl::StrFormat("%s %s\n", name, line);
  return absl::StrFormat("\033[%dm%s\033[0m %s\n", kColours[log % std::size(kColours)], name, line);
}

bool LogPrinter::Print() {
  struct Line {
    absl::Time time;
    size_t log;
    std::string text;
  };
  std::vector<Line> lines;
  for (size_t i = 0; i < logs_.size(); ++i) {
    // A line without a time belongs to the one before it.
    absl::Time time = absl::InfinitePast();
    for (std::string& text : logs_[i].reader.Read()) {
      time = TimeOfLine(text).value_or(time);
      lines.push_back({time, i, std::move(text)});
    }
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.time < b.time; });
  const size_t skipped =
      std::exchange(first_, false) && lines.size() > last_lines_ ? lines.size() - last_lines_ : 0;
  for (size_t i = skipped; i < lines.size(); ++i) {
    const std::string text = Format(lines[i].log, lines[i].text);
    if (std::fwrite(text.data(), 1, text.size(), out_) != text.size()) return false;
  }
  return std::fflush(out_) == 0;
}

LogFollower::LogFollower(LogPrinter printer)
    : thread_([printer = std::move(printer)](std::stop_token stop) mutable {
        Mutex mutex;
        CondVar stopped;
        const std::stop_callback wake(stop, [&] {
          MutexLock lock(mutex);
          stopped.NotifyAll();
        });
        MutexLock lock(mutex);
        while (!stop.stop_requested()) {
          printer.Print();
          stopped.WaitFor(mutex, absl::ToChronoNanoseconds(kPoll));
        }
        printer.Print();
      }) {}

LogFollower::~LogFollower() = default;

}  // namespace bdh::bdhctl
