#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/config/config.h"
#include "document.h"
#include "overrides.h"

namespace bdh::config {
namespace {

// Not bdh::ReadFile: this one stops soon in a file that is no configuration, and takes a pipe too.
absl::StatusOr<std::string> ReadBounded(const std::string& path) {
  const std::string doing = "read configuration " + path;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) return ErrnoStatus(errno, doing);
  // One byte more than is accepted, so that Parse sees that it is too long.
  std::string text(kMaxDocumentBytes + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) return ErrnoStatus(errno, doing);
  return text;
}

}  // namespace

absl::StatusOr<v1::Config> Load(const LoadOptions& options) {
  v1::Config config;
  if (!options.file.empty()) {
    BDH_ASSIGN_OR_RETURN(const std::string yaml, ReadBounded(options.file));
    BDH_RETURN_IF_ERROR(ReadYaml(yaml, options.file, config));
  }
  BDH_RETURN_IF_ERROR(ApplyEnvironment(options.environment, config));
  for (const std::string& set : options.sets) BDH_RETURN_IF_ERROR(Set(set, "--set", config));
  FillDefaults(config);
  BDH_RETURN_IF_ERROR(Validate(config));
  return config;
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (text.starts_with("BDH_") && equals != std::string_view::npos) {
      found.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return found;
}

}  // namespace bdh::config
