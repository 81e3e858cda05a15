#include "services/bdhctl/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>

#include "absl/time/clock.h"
#include "bdh/base/log.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kGap = "  ";

bool IsTerminal(FILE* out) {
  return isatty(fileno(out)) != 0;
}

int TerminalWidth(FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// In one piece where the pipe takes it: `bdhctl ... --json | grep -q x` closes the pipe at the first match,
// and what were written after that would end this process with SIGPIPE, a failure to a shell with pipefail.
void WriteOut(std::string_view text) {
  std::cout.flush();
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;
    text.remove_prefix(written);
  }
}

// The beginning of `text` that fits into `width` places.
std::string_view Fit(std::string_view text, size_t width) {
  size_t end = 0, places = 0;
  for (; end < text.size(); ++end) {
    const bool continuation = (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80;
    if (!continuation && ++places > width) break;
  }
  return text.substr(0, end);
}

}  // namespace

Table::Table(std::vector<std::string> headings) {
  for (std::string& heading : headings) {
    right_.push_back(heading.starts_with('>'));
    if (right_.back()) heading.erase(0, 1);
  }
  rows_.push_back(std::move(headings));
}

void Table::Add(std::vector<std::string> row) {
  BDH_CHECK(row.size() == right_.size()) << row.size() << " cells for " << right_.size() << " headings";
  rows_.push_back(std::move(row));
}

std::string Table::ToString() const {
  std::vector<size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - DisplayWidth(row[i]), ' ');
      if (i > 0) line += kGap;
      line += right_[i] ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

size_t DisplayWidth(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; });
}

void PrintJson(const Json& json) {
  WriteOut(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void PrintJsonLine(const Json& json) {
  WriteOut(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string Bar(double fraction, int width) {
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width);
  return "[" + std::string(full, '#') + std::string(width - full, '-') + "]";
}

ProgressLine::ProgressLine(FILE* out, absl::Duration interval)
    : out_(out), terminal_(IsTerminal(out)), interval_(interval) {}

ProgressLine::~ProgressLine() {
  if (open_) std::fputc('\n', out_);
  std::fflush(out_);
}

void ProgressLine::Show(std::string_view text, bool important) {
  shown_ = std::string(text);
  if (terminal_) {
    const std::string_view fitting = Fit(text, TerminalWidth(out_) - 1);
    std::fprintf(out_, "\r\033[K%.*s", static_cast<int>(fitting.size()), fitting.data());
    open_ = true;
  } else if (const absl::Time now = absl::Now(); important || now - printed_ >= interval_) {
    printed_ = now;
    std::fprintf(out_, "%s\n", shown_.c_str());
  }
  std::fflush(out_);
}

void ProgressLine::Print(std::string_view text) {
  if (terminal_) std::fputs("\r\033[K", out_);
  std::fprintf(out_, "%.*s\n", static_cast<int>(text.size()), text.data());
  open_ = false;
  if (terminal_ && !shown_.empty()) Show(std::string(shown_));
  std::fflush(out_);
}

}  // namespace bdh::bdhctl
