#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/hub/hub.h"
#include "http.h"
#include "names.h"

namespace bdh::hub {
namespace {

constexpr size_t kNameBytesMax = 96, kPathBytesMax = 1024, kPartBytesMax = 250;
constexpr std::string_view kDatasets = "hf://datasets/", kModels = "hf://models/";

bool IsWord(std::string_view text, std::string_view also) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || also.find(c) != std::string_view::npos;
  });
}

template <class Test>
bool EveryPart(std::string_view path, Test test) {
  while (true) {
    const size_t slash = path.find('/');
    if (!test(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool IsHex(std::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

absl::Status BadSource(std::string_view source, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrFormat("source '%s': %s; want hf://datasets/OWNER/NAME[/CONFIG][@REVISION], "
                      "hf://models/OWNER/NAME[@REVISION] or https://",
                      source, what));
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsTrue(const std::string& value) {
  const std::string lower = absl::AsciiStrToLower(value);
  return lower == "1" || lower == "true" || lower == "yes" || lower == "on";
}

}  // namespace

bool IsRepoName(std::string_view name) {
  return name.size() <= kNameBytesMax && std::count(name.begin(), name.end(), '/') <= 1 &&
         name.find("..") == std::string_view::npos && name.find("--") == std::string_view::npos &&
         EveryPart(name, [](std::string_view part) {
           return IsWord(part, "._-") && part[0] != '.' && part[0] != '-';
         });
}

bool IsRevision(std::string_view revision) {
  return revision.size() <= kPartBytesMax && EveryPart(revision, [](std::string_view part) {
           return IsWord(part, "._+-") && part != "." && part != ".." && part[0] != '-';
         });
}

bool IsRepoPath(std::string_view path) {
  const bool clean = std::none_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\';
  });
  return clean && path.size() <= kPathBytesMax && EveryPart(path, [](std::string_view part) {
           return !part.empty() && part != "." && part != ".." && part.size() <= kPartBytesMax;
         });
}

bool IsCommit(std::string_view text) {
  return IsHex(text, 40);
}
bool IsSha256(std::string_view text) {
  return IsHex(text, 64);
}

bool IsRemote(std::string_view source) {
  return StartsWith(source, "hf://") || StartsWith(source, "https://") || StartsWith(source, "http://");
}

absl::StatusOr<Source> ParseSource(std::string_view source) {
  Source out;
  if (StartsWith(source, "https://") || StartsWith(source, "http://")) {
    if (OriginOf(source).empty()) return BadSource(source, "it is no URL, or has a user in it");
    out.url = source;
    return out;
  }
  std::string_view rest = source;
  if (StartsWith(source, kDatasets)) {
    rest.remove_prefix(kDatasets.size());
  } else if (StartsWith(source, kModels)) {
    out.kind = RepoKind::kModel;
    rest.remove_prefix(kModels.size());
  } else {
    return BadSource(source, "it begins like none of these");
  }
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    out.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!IsRevision(out.revision)) return BadSource(source, "what follows @ is no branch, tag or commit");
  }
  const size_t first = rest.find('/');
  const size_t second = first == std::string_view::npos ? first : rest.find('/', first + 1);
  out.repo = rest.substr(0, second);
  if (second != std::string_view::npos) {
    out.config = rest.substr(second + 1);
    if (out.kind == RepoKind::kModel || !IsRepoPath(out.config) ||
        out.config.find('/') != std::string::npos) {
      return BadSource(source, "there is too much behind OWNER/NAME");
    }
  }
  if (!IsRepoName(out.repo)) return BadSource(source, "OWNER/NAME is of letters, digits and . _ -");
  return out;
}

std::string UsualCacheDir() {
  const std::string home = Variable("HOME");
  return home.empty() ? "" : home + "/.cache/huggingface/hub";
}

Options WithEnvironment(Options options) {
  const std::string home = Variable("HF_HOME");
  if (options.endpoint == Options().endpoint && !Variable("HF_ENDPOINT").empty())
    options.endpoint = Variable("HF_ENDPOINT");
  while (absl::EndsWith(options.endpoint, "/")) options.endpoint.pop_back();
  if (options.cache_dir.empty()) options.cache_dir = Variable("HF_HUB_CACHE");
  if (options.cache_dir.empty() && !home.empty()) options.cache_dir = home + "/hub";
  options.offline = options.offline || IsTrue(Variable("HF_HUB_OFFLINE"));
  if (options.token.empty()) options.token = Variable("HF_TOKEN");
  if (options.token.empty() && !IsTrue(Variable("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) {
    const std::string folder = home.empty() ? Variable("HOME") + "/.cache/huggingface" : home;
    const std::string path =
        Variable("HF_TOKEN_PATH").empty() ? folder + "/token" : Variable("HF_TOKEN_PATH");
    if (const auto token = ReadFile(path); token.ok()) options.token = *token;
  }
  options.token = std::string(absl::StripAsciiWhitespace(options.token));
  return options;
}

}  // namespace bdh::hub
