#include "services/bdhctl/transfer.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh::bdhctl {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr int kBarWidth = 24;
constexpr double kSettledSeconds = 0.5;  // Before, a rate says nothing.

// 0 when one of them has no size, as a pipe.
int64_t TotalBytes(const std::vector<InputFile>& files) {
  int64_t total = 0;
  for (const InputFile& file : files) {
    struct stat info;
    if (fstat(fileno(file.handle.get()), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
    total += info.st_size;
  }
  return total;
}

}  // namespace

absl::StatusOr<std::vector<InputFile>> OpenInputs(const std::vector<std::string>& names) {
  std::vector<InputFile> files;
  for (const std::string& name : names) {
    if (name == "-") {
      files.push_back({name, {stdin, [](FILE*) { return 0; }}});
      continue;
    }
    if (std::filesystem::is_directory(name)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s is a folder; name its files (%s/*.txt), or use --server-path %s", name, name, name));
    }
    FILE* handle = std::fopen(name.c_str(), "rbe");
    if (handle == nullptr) return absl::InvalidArgumentError(ErrnoStatus(errno, "open " + name).message());
    files.push_back({name, {handle, &std::fclose}});
  }
  return files;
}

void ByteBar::Show(const std::string& verb, int64_t bytes, int64_t total, std::string_view note) {
  if (shown_verb_ != verb) start_ = absl::Now();
  shown_verb_ = verb;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
  const auto done = static_cast<double>(bytes);
  std::string rate, left;
  if (seconds > kSettledSeconds && bytes > 0) {
    rate = FormatBytes(static_cast<uint64_t>(done / seconds)) + "/s";
    if (total > bytes) left = FormatDuration(seconds * static_cast<double>(total - bytes) / done) + " left";
  }
  const std::string behind =
      absl::StrFormat("%s%s%s%s%s", rate, left.empty() ? "" : "  ", left, note.empty() ? "" : "  ", note);
  if (total == 0) return line_.Show(absl::StrFormat("%s %s  %s", verb, FormatBytes(bytes), behind));
  const double fraction = done / static_cast<double>(total);
  line_.Show(absl::StrFormat("%s %s %3.0f%%  %s of %s  %s", verb, Bar(fraction, kBarWidth),
                             100 * std::min(fraction, 1.0), FormatBytes(bytes), FormatBytes(total), behind));
}

absl::StatusOr<bool> SendInputs(const std::vector<InputFile>& files, const SendPiece& send) {
  ByteBar bar("sending", TotalBytes(files));
  int64_t sent = 0;
  std::string buffer(kPieceBytes, '\0');
  for (const InputFile& file : files) {
    while (true) {
      const size_t got = std::fread(buffer.data(), 1, buffer.size(), file.handle.get());
      if (std::ferror(file.handle.get())) return ErrnoStatus(errno, "read " + file.name);
      if (got == 0) break;
      if (!send(file.name, std::string_view(buffer).substr(0, got))) return false;
      sent += static_cast<int64_t>(got);
      bar.Show(sent);
    }
  }
  return true;
}

}  // namespace bdh::bdhctl
