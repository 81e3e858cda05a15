#include "high_water.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"

namespace bdh::store {
namespace {

constexpr int kDigits = 20;  // Of one length, so that a rewrite in place never leaves old digits behind.

uint64_t ReadValue(const File& file) {
  char text[kDigits];
  uint64_t value = 0;
  // Whatever is not a whole number (a file cut by a power failure) bears no witness.
  if (!file.ReadAt(0, kDigits, text).ok()) return 0;
  return absl::SimpleAtoi(absl::string_view(text, kDigits), &value) ? value : 0;
}

}  // namespace

absl::StatusOr<HighWater> HighWater::Open(Files& files, const std::string& path) {
  BDH_ASSIGN_OR_RETURN(std::unique_ptr<File> file, files.Open(path, Files::Mode::kUpdate));
  const uint64_t value = ReadValue(*file);
  return HighWater(std::move(file), value);
}

void HighWater::Raise(uint64_t value) {
  const absl::Status written = file_->WriteAt(0, absl::StrFormat("%0*d\n", kDigits, value));
  if (!written.ok()) BDH_LOG(WARNING) << "high-water mark not written: " << written.message();
  value_ = value;
}

}  // namespace bdh::store
