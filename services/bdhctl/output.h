// How bdhctl prints: tables that line up, JSON, and progress that suits a terminal and a log alike.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace bdh::bdhctl {

// Rows under headings, each column as wide as its widest cell.
class Table {
 public:
  // A heading that begins with '>' is of a column of numbers: aligned to the right.
  explicit Table(std::vector<std::string> headings);
  void Add(std::vector<std::string> row);  // As many cells as headings.
  std::string ToString() const;            // Ends with a newline. Only headings when there is no row.

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // The first holds the headings.
};

// Places `text` takes on a terminal, counting one for each character.
size_t DisplayWidth(std::string_view text);

// To standard output, indented, with a newline.
void PrintJson(const nlohmann::ordered_json& json);
// On one line, at once: for streams of objects.
void PrintJsonLine(const nlohmann::ordered_json& json);

// "[########--------]"; `fraction` is cut to 0..1.
std::string Bar(double fraction, int width);

// A line that changes in place on a terminal, and is printed anew every few seconds elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(FILE* out, absl::Duration interval = absl::Seconds(3));
  ~ProgressLine();  // Leaves the last line standing.

  bool terminal() const { return terminal_; }
  // `text` replaces what is shown. Elsewhere than on a terminal a text is skipped if one was printed within
  // the interval, unless `important`.
  void Show(std::string_view text, bool important = false);
  // A line of its own, above.
  void Print(std::string_view text);

 private:
  FILE* const out_;
  const bool terminal_;
  const absl::Duration interval_;
  absl::Time printed_ = absl::InfinitePast();
  std::string shown_;
  bool open_ = false;
};

}  // namespace bdh::bdhctl
