#include "high_water.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "crc32c.h"

namespace bdh::store {
namespace {

// The file has two lines that are written in turn, each a number and its checksum: a power cut that tears the
// one leaves the other. The first versions wrote one line, the number alone.
constexpr int kDigits = 20;
constexpr size_t kLineBytes = kDigits + 1 + 8 + 1;

std::string LineOf(uint64_t value) {
  const std::string digits = absl::StrFormat("%0*d", kDigits, value);
  return absl::StrFormat("%s %08x\n", digits, Crc32c(digits));
}

// A line that was torn bears no witness: 0.
uint64_t ReadLine(const File& file, size_t size, size_t line) {
  std::string text(size, '\0');
  uint64_t value = 0;
  if (!file.ReadAt(static_cast<int64_t>(line * kLineBytes), size, text.data()).ok()) return 0;
  if (!absl::SimpleAtoi(absl::string_view(text).substr(0, kDigits), &value)) return 0;
  const bool whole = size == kLineBytes ? text == LineOf(value) : text.back() == '\n';
  return whole ? value : 0;
}

}  // namespace

absl::StatusOr<HighWater> HighWater::Open(Files& files, const std::string& path) {
  BDH_ASSIGN_OR_RETURN(std::unique_ptr<File> file, files.Open(path, Files::Mode::kUpdate));
  const uint64_t value = std::max(
      {ReadLine(*file, kLineBytes, 0), ReadLine(*file, kLineBytes, 1), ReadLine(*file, kDigits + 1, 0)});
  return HighWater(std::move(file), value);
}

void HighWater::Raise(uint64_t value) {
  const auto offset = static_cast<int64_t>(value % 2 * kLineBytes);
  const absl::Status written = file_->WriteAt(offset, LineOf(value));
  if (!written.ok()) BDH_LOG(WARNING) << "high-water mark not written: " << written.message();
  value_ = value;
}

}  // namespace bdh::store
