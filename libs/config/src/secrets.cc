#include "secrets.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::config {
namespace {

constexpr size_t kMaxSecretBytes = 4096;

// Opened once and asked about what was opened: what is checked is what is read.
absl::StatusOr<std::string> ReadPrivateFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("names the file %s", path));
  const absl::Cleanup close_it = [descriptor] { close(descriptor); };
  struct stat info;
  if (fstat(descriptor, &info) != 0) return ErrnoStatus(errno, absl::StrFormat("names the file %s", path));
  // Group is allowed: Kubernetes mounts secrets as 0640 for fsGroup.
  if ((info.st_mode & S_IRWXO) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("names the file %s, which everybody can read (mode %04o); run: chmod 600 %s", path,
                        info.st_mode & 07777, path));
  }
  std::string text(kMaxSecretFileBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(descriptor, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("names the file %s", path));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMaxSecretFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("names the file %s, which is larger than 64 KiB", path));
  }
  text.resize(size);
  return text;
}

absl::StatusOr<std::vector<std::string>> Lines(const std::string& text, const std::string& source) {
  std::vector<std::string> secrets;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view secret = absl::StripAsciiWhitespace(line);
    if (secret.empty() || secret[0] == '#') continue;
    if (secret.size() > kMaxSecretBytes || !std::all_of(secret.begin(), secret.end(), absl::ascii_isgraph)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "names %s, of which a line is not 1 to %d visible ASCII characters", source, kMaxSecretBytes));
    }
    secrets.emplace_back(secret);
  }
  if (secrets.empty()) return absl::InvalidArgumentError("names " + source + ", which holds no secret");
  return secrets;
}

}  // namespace

bool IsSecretReference(const Node& node) {
  if (node.kind != Node::Kind::kMap || node.pairs.size() != 1) return false;
  const auto& [key, value] = node.pairs[0];
  return key->kind == Node::Kind::kScalar && (key->text == "file" || key->text == "env") &&
         value->kind == Node::Kind::kScalar;
}

absl::StatusOr<std::vector<std::string>> ReadSecrets(const Node& reference, const std::string& folder) {
  const std::string& name = reference.pairs[0].second->text;
  if (reference.pairs[0].first->text == "env") {
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr) {
      return absl::InvalidArgumentError(absl::StrFormat("names the variable %s, which is not set", name));
    }
    return Lines(value, "the variable " + name);
  }
  const std::string path = (std::filesystem::path(folder) / name).lexically_normal();
  BDH_ASSIGN_OR_RETURN(const std::string text, ReadPrivateFile(path));
  return Lines(text, "the file " + path);
}

}  // namespace bdh::config
