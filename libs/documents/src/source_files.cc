#include "bdh/documents/source_files.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "file_state.h"
#include "known_names.h"

namespace bdh::documents {
namespace {

namespace fs = std::filesystem;

constexpr char kKnownEndings[] =
    ".txt, .text, .md, .markdown, .html, .htm, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, alone or with "
    ".gz or "
    ".zst behind";

int64_t MtimeNs(const struct stat& status) {
  return int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

absl::StatusOr<struct stat> Stat(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) return ErrnoStatus(errno, absl::StrFormat("source %s", path));
  return status;
}

absl::Status NotAFile(const std::string& path) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "source %s is neither a regular file nor a folder; give a file, a folder or a pattern", path));
}

absl::Status TooMany() {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the sources mean more than %d files; give fewer, or put them together into larger ones", kMaxFiles));
}

bool IsPattern(std::string_view path) {
  return path.find_first_of("*?[") != std::string_view::npos;
}

// Whether `name` fits `pattern` with *, ? and [abc] or [a-z] ([!...] for none of these). No '/' in either.
bool Matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0;
  std::optional<std::pair<size_t, size_t>> star;  // Behind the last star, and what it has eaten up to.
  const auto one = [&](size_t& after) {
    if (p >= pattern.size() || n >= name.size()) return false;
    after = p + 1;
    if (pattern[p] == '?') return true;
    if (pattern[p] != '[') return pattern[p] == name[n];
    const size_t end = pattern.find(']', p + 2);
    if (end == std::string_view::npos) return pattern[p] == name[n];
    after = end + 1;
    std::string_view set = pattern.substr(p + 1, end - p - 1);
    const bool negated = !set.empty() && set[0] == '!';
    if (negated) set.remove_prefix(1);
    bool in = false;
    for (size_t i = 0; i < set.size(); ++i) {
      if (i + 2 < set.size() && set[i + 1] == '-') {
        in = in || (set[i] <= name[n] && name[n] <= set[i + 2]);
        i += 2;
      } else {
        in = in || set[i] == name[n];
      }
    }
    return in != negated;
  };
  while (n < name.size() || p < pattern.size()) {
    size_t after = 0;
    if (p < pattern.size() && pattern[p] == '*') {
      star = {++p, n};
    } else if (one(after)) {
      p = after;
      ++n;
    } else if (star && star->second < name.size()) {
      p = star->first;
      n = ++star->second;
    } else {
      return false;
    }
  }
  return true;
}

class Lister {
 public:
  absl::Status Add(const std::string& path) {
    if (!fs::path(path).is_absolute()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "source '%s' is not an absolute path; give one that begins with /, as the data loader sees it",
          path));
    }
    struct stat status = {};
    const bool there = stat(path.c_str(), &status) == 0;
    if (!there && IsPattern(path)) return AddPattern(path);
    BDH_ASSIGN_OR_RETURN(status, Stat(path));
    if (S_ISDIR(status.st_mode)) return AddFolder(path);
    if (!S_ISREG(status.st_mode)) return NotAFile(path);
    return AddFile(path, fs::path(path).filename().string());
  }

  SourceList Take() { return std::move(list_); }

 private:
  absl::Status AddFile(const std::string& path, std::string name) {
    BDH_ASSIGN_OR_RETURN(const struct stat status, Stat(path));
    if (!S_ISREG(status.st_mode)) return NotAFile(path);
    if (!seen_.emplace(status.st_dev, status.st_ino).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("source file %s is given twice; name each file once, its folder included", path));
    }
    if (list_.files.size() >= kMaxFiles) return TooMany();
    list_.files.push_back(
        {.path = path, .name = std::move(name), .size_bytes = status.st_size, .mtime_ns = MtimeNs(status)});
    return absl::OkStatus();
  }

  void Skip(const std::string& name) {
    ++list_.skipped_files;
    if (list_.skipped.size() < SourceList::kSkippedNamed) list_.skipped.push_back(name);
  }

  // Links to folders are not followed: they may go round in circles. In a folder that is a link to files, as
  // the hub's cache is, the files count.
  absl::Status AddFolder(const std::string& folder) {
    std::error_code error;
    std::vector<std::string> found;
    size_t passed_over = 0;
    for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      std::error_code gone;
      const bool hidden = absl::StartsWith(it->path().filename().string(), ".");
      if (hidden && it->is_directory(gone)) it.disable_recursion_pending();
      if (hidden || !it->is_regular_file(gone)) continue;
      const std::string path = it->path().string();
      if (HasKnownEnding(path)) {
        found.push_back(path);
      } else {
        Skip(fs::path(path).lexically_relative(folder).string());
        ++passed_over;
      }
      if (found.size() > kMaxFiles) return TooMany();
    }
    if (error) return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder));
    if (found.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "folder %s has no file that ends in %s%s; rename what is text in it, or name its files", folder,
          kKnownEndings, passed_over > 0 ? absl::StrFormat(" (but %d others)", passed_over) : ""));
    }
    std::sort(found.begin(), found.end());
    for (const std::string& path : found) {
      BDH_RETURN_IF_ERROR(AddFile(path, fs::path(path).lexically_relative(folder).string()));
    }
    return absl::OkStatus();
  }

  absl::Status AddPattern(const std::string& path) {
    std::vector<std::string> parts;
    for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty()))
      parts.emplace_back(part);
    // The folder before the first pattern is where names begin.
    std::string root = "/";
    size_t fixed = 0;
    while (fixed + 1 < parts.size() && !IsPattern(parts[fixed]))
      root = (fs::path(root) / parts[fixed++]).string();
    std::set<std::string> found;
    BDH_RETURN_IF_ERROR(Match(root, parts, fixed, 0, found));
    if (found.empty()) {
      return absl::NotFoundError(absl::StrFormat(
          "no file fits the pattern %s; * and ? stay within a name, ** goes through folders", path));
    }
    for (const std::string& file : found) {
      BDH_RETURN_IF_ERROR(AddFile(file, fs::path(file).lexically_relative(root).string()));
    }
    return absl::OkStatus();
  }

  absl::Status Match(const std::string& folder, const std::vector<std::string>& parts, size_t at, int depth,
                     std::set<std::string>& found) {
    constexpr int kDepthMax = 64;
    if (depth > kDepthMax) return absl::OkStatus();
    const bool last = at + 1 == parts.size();
    const bool any_depth = parts[at] == "**";
    if (any_depth && !last) BDH_RETURN_IF_ERROR(Match(folder, parts, at + 1, depth, found));
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (absl::StartsWith(name, ".") && !absl::StartsWith(parts[at], ".")) continue;
      if (!any_depth && !Matches(parts[at], name)) continue;
      std::error_code gone;
      const bool is_folder = it->is_directory(gone) && !(any_depth && it->is_symlink(gone));
      if (is_folder && any_depth) {
        BDH_RETURN_IF_ERROR(Match(it->path().string(), parts, at, depth + 1, found));
      } else if (is_folder && !last) {
        BDH_RETURN_IF_ERROR(Match(it->path().string(), parts, at + 1, depth + 1, found));
      } else if (last && it->is_regular_file(gone)) {
        found.insert(it->path().string());
        if (found.size() > kMaxFiles) return TooMany();
      }
    }
    // What a pattern runs into may be closed to us; what it names itself may not.
    if (error && error != std::errc::permission_denied && error != std::errc::no_such_file_or_directory) {
      return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder));
    }
    return absl::OkStatus();
  }

  SourceList list_;
  std::set<std::pair<dev_t, ino_t>> seen_;
};

absl::Status Changed(const SourceFile& file, const std::string& how) {
  return absl::FailedPreconditionError(
      absl::StrFormat("source file %s has changed since it was listed: %s; put it back as it was, or add the "
                      "data set again under "
                      "another name",
                      file.path, how));
}

absl::Status CheckState(const SourceFile& file, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return NotAFile(file.path);
  if (status.st_size != file.size_bytes) {
    return Changed(file, absl::StrFormat("it holds %d bytes, not %d", status.st_size, file.size_bytes));
  }
  if (MtimeNs(status) != file.mtime_ns) {
    return Changed(
        file, absl::StrFormat("it was written at %s, not at %s",
                              absl::FormatTime(absl::FromUnixNanos(MtimeNs(status)), absl::UTCTimeZone()),
                              absl::FormatTime(absl::FromUnixNanos(file.mtime_ns), absl::UTCTimeZone())));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Sha256OfFile(const SourceFile& file,
                                         const std::function<absl::Status(int64_t)>& progress) {
  const int descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", file.path));
  const absl::Cleanup closer = [&] { close(descriptor); };
  BDH_RETURN_IF_ERROR(CheckUnchanged(file, descriptor));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  BDH_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  std::string buffer(size_t{1} << 20, '\0');
  while (true) {
    const ssize_t got = read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", file.path));
    if (got == 0) break;
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(got));
    if (progress != nullptr) BDH_RETURN_IF_ERROR(progress(got));
  }
  BDH_RETURN_IF_ERROR(CheckUnchanged(file, descriptor));
  std::string digest(32, '\0');
  EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr);
  return absl::BytesToHexString(digest);
}

}  // namespace

int64_t SourceList::total_bytes() const {
  int64_t total = 0;
  for (const SourceFile& file : files) total += file.size_bytes;
  return total;
}

absl::StatusOr<SourceList> ListSources(const std::vector<std::string>& paths) {
  Lister lister;
  for (const std::string& path : paths) BDH_RETURN_IF_ERROR(lister.Add(path));
  return lister.Take();
}

absl::Status HashFiles(std::vector<SourceFile>& files, const std::function<absl::Status(int64_t)>& progress) {
  for (SourceFile& file : files) {
    if (!file.sha256.empty()) continue;
    BDH_ASSIGN_OR_RETURN(file.sha256, Sha256OfFile(file, progress));
  }
  return absl::OkStatus();
}

absl::Status CheckUnchanged(const SourceFile& file) {
  struct stat status = {};
  if (stat(file.path.c_str(), &status) != 0) {
    if (errno == ENOENT) return Changed(file, "it is gone");
    return ErrnoStatus(errno, absl::StrFormat("source %s", file.path));
  }
  return CheckState(file, status);
}

absl::Status CheckUnchanged(const SourceFile& file, int descriptor) {
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", file.path));
  return CheckState(file, status);
}

std::string ManifestHash(const std::vector<SourceFile>& files, std::string_view options) {
  std::string text = absl::StrFormat("bdh sources 1\noptions %d:%s\n", options.size(), options);
  for (const SourceFile& file : files) {
    absl::StrAppendFormat(&text, "file %d:%s %d ", file.name.size(), file.name, file.size_bytes);
    if (!file.sha256.empty()) {
      absl::StrAppendFormat(&text, "sha256 %s\n", file.sha256);
    } else if (!file.etag.empty()) {
      absl::StrAppendFormat(&text, "etag %d:%s\n", file.etag.size(), file.etag);
    } else {
      absl::StrAppendFormat(&text, "mtime %d\n", file.mtime_ns);
    }
  }
  return Sha256Hex(text);
}

}  // namespace bdh::documents
