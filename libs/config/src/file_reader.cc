#include "file_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"
#include "yaml_reader.h"

namespace bdh::config {
namespace {

namespace fs = std::filesystem;

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

// One name for one file, however it was reached.
std::string Identity(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

const Node* FindExtends(const Node& root) {
  if (root.kind != Node::Kind::kMap) return nullptr;
  for (const auto& [key, value] : root.pairs) {
    if (key->kind == Node::Kind::kScalar && key->text == kExtends) return value;
  }
  return nullptr;
}

bool IsName(const Node& node) {
  return node.kind == Node::Kind::kScalar && !node.text.empty();
}

}  // namespace

void FileReader::ReadOne(const std::string& path, const std::string& place) {
  if (++files_ > kMaxFiles) {
    return findings_.Add(place, std::string(kExtends), absl::StrFormat("more than %d files", kMaxFiles));
  }
  const auto text = ReadBounded(path);
  if (!text.ok()) {
    if (place.empty()) return findings_.Add(text.status());
    return findings_.Add(place, std::string(kExtends), std::string(text.status().message()));
  }
  const Origin origin{path};
  const auto document = Document::Parse(*text, origin);
  if (!document.ok()) return findings_.Add(document.status());
  chain_.push_back(Identity(path));
  if (const Node* const extends = FindExtends(document->root())) ReadBases(*extends, origin);
  const Reading reading{origin, *out_.GetDescriptor(), findings_, fs::path(path).parent_path(), kExtends};
  // Null: empty, or comments alone.
  if (document->root().kind != Node::Kind::kNull) ReadSection(document->root(), "", reading, out_);
  chain_.pop_back();
}

void FileReader::ReadBases(const Node& extends, const Origin& origin) {
  std::vector<const Node*> names = extends.items;
  if (extends.kind == Node::Kind::kScalar) names.push_back(&extends);
  if (names.empty() || !std::all_of(names.begin(), names.end(), [](const Node* n) { return IsName(*n); })) {
    return findings_.Add(origin.Place(extends), std::string(kExtends),
                         "want a file, or a list of files, like [base.yaml, site.yaml]");
  }
  for (const Node* const name : names) {
    const std::string place = origin.Place(*name);
    const std::string path = (fs::path(origin.name).parent_path() / name->text).lexically_normal();
    if (std::find(chain_.begin(), chain_.end(), Identity(path)) != chain_.end()) {
      findings_.Add(place, std::string(kExtends),
                    absl::StrFormat("%s is being read already: files extend one another in a circle", path));
    } else if (chain_.size() >= kMaxChain) {
      findings_.Add(place, std::string(kExtends),
                    absl::StrFormat("more than %d files, each extending the next", kMaxChain));
    } else {
      ReadOne(path, place);
    }
  }
}

}  // namespace bdh::config
