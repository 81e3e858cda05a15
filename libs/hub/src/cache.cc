#include "cache.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "names.h"
#include "nlohmann/json.hpp"

namespace bdh::hub {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<std::string> HashOf(const std::string& path, const EVP_MD* kind, bool as_git_blob,
                                   const std::atomic<bool>& cancelled) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const absl::Cleanup closer = [&] { close(descriptor); };
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  BDH_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), kind, nullptr) == 1);
  const std::string before = absl::StrFormat("blob %d", status.st_size);
  if (as_git_blob) EVP_DigestUpdate(context.get(), before.c_str(), before.size() + 1);
  std::string buffer(size_t{1} << 20, '\0');
  while (true) {
    if (cancelled) return absl::CancelledError("the download was cancelled");
    const ssize_t got = read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", path));
    if (got == 0) break;
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(got));
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

}  // namespace

BlobLock::~BlobLock() {
  close(descriptor_);
}

RepoCache::RepoCache(std::string cache_dir, RepoKind kind, std::string_view repo)
    : cache_dir_(std::move(cache_dir)),
      name_(absl::StrFormat("%s--%s", kind == RepoKind::kDataset ? "datasets" : "models",
                            absl::StrReplaceAll(absl::string_view(repo.data(), repo.size()), {{"/", "--"}}))),
      folder_(cache_dir_ + "/" + name_) {}

std::optional<std::string> RepoCache::ReadRef(std::string_view revision) const {
  const auto text = ReadFile(absl::StrFormat("%s/refs/%s", folder_, revision));
  if (!text.ok()) return std::nullopt;
  const std::string commit = text->substr(0, text->find_first_of(" \r\n"));
  return IsCommit(commit) ? std::optional(commit) : std::nullopt;
}

absl::Status RepoCache::WriteRef(std::string_view revision, std::string_view commit) const {
  const std::string path = absl::StrFormat("%s/refs/%s", folder_, revision);
  BDH_RETURN_IF_ERROR(MakeDirectories(fs::path(path).parent_path()));
  return WriteFileAtomically(path, commit);
}

std::optional<Listing> RepoCache::ReadListing(std::string_view commit) const {
  const auto text = ReadFile(absl::StrFormat("%s/bdh/%s.json", folder_, commit));
  if (!text.ok()) return std::nullopt;
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json["files"].is_array()) return std::nullopt;
  Listing listing{std::string(commit), {}};
  for (const auto& item : json["files"]) {
    RemoteFile file;
    file.path = item.value("path", "");
    file.size_bytes = item.value("size", int64_t{-1});
    file.git_sha1 = item.value("oid", "");
    file.sha256 = item.value("sha256", "");
    const bool etag = IsSha256(file.sha256) || (file.sha256.empty() && IsCommit(file.git_sha1));
    if (!IsRepoPath(file.path) || file.size_bytes < 0 || !etag) return std::nullopt;
    listing.files.push_back(std::move(file));
  }
  return listing;
}

absl::Status RepoCache::WriteListing(const Listing& listing) const {
  nlohmann::json files = nlohmann::json::array();
  for (const RemoteFile& file : listing.files) {
    files.push_back(
        {{"path", file.path}, {"size", file.size_bytes}, {"oid", file.git_sha1}, {"sha256", file.sha256}});
  }
  const std::string path = absl::StrFormat("%s/bdh/%s.json", folder_, listing.commit);
  BDH_RETURN_IF_ERROR(MakeDirectories(fs::path(path).parent_path()));
  const nlohmann::json all = {{"files", std::move(files)}};
  return WriteFileAtomically(path, all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string RepoCache::Snapshot(std::string_view commit) const {
  return absl::StrFormat("%s/snapshots/%s", folder_, commit);
}
std::string RepoCache::SnapshotFile(std::string_view commit, std::string_view path) const {
  return absl::StrFormat("%s/%s", Snapshot(commit), path);
}
std::string RepoCache::Blob(std::string_view etag) const {
  return absl::StrFormat("%s/blobs/%s", folder_, etag);
}

absl::Status RepoCache::MakeFolders() const {
  BDH_RETURN_IF_ERROR(MakeDirectories(folder_ + "/blobs"));
  return MakeDirectories(folder_ + "/snapshots");
}

absl::StatusOr<std::unique_ptr<BlobLock>> RepoCache::Lock(std::string_view etag,
                                                          const std::atomic<bool>& cancelled) const {
  const std::string folder = absl::StrFormat("%s/.locks/%s", cache_dir_, name_);
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  const std::string path = absl::StrFormat("%s/%s.lock", folder, etag);
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  auto lock = std::make_unique<BlobLock>(descriptor);
  // Another process may be downloading the same for minutes.
  while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return ErrnoStatus(errno, absl::StrFormat("lock %s", path));
    if (cancelled) return absl::CancelledError("the download was cancelled");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return lock;
}

absl::Status RepoCache::Link(std::string_view commit, std::string_view path, std::string_view etag) const {
  const std::string link = SnapshotFile(commit, path);
  BDH_RETURN_IF_ERROR(MakeDirectories(fs::path(link).parent_path()));
  std::string target;
  for (auto depth = 2 + std::count(path.begin(), path.end(), '/'); depth > 0; --depth) target += "../";
  target += absl::StrFormat("blobs/%s", etag);
  std::error_code error;
  if (fs::read_symlink(link, error) == target && !error) return absl::OkStatus();
  // Beside it and renamed, so that there is a whole one at any time.
  const std::string fresh = absl::StrFormat("%s.%s.link", link, RandomHex(4));
  if (symlink(target.c_str(), fresh.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrFormat("link %s", link));
  if (rename(fresh.c_str(), link.c_str()) == 0) return absl::OkStatus();
  const absl::Status status = ErrnoStatus(errno, absl::StrFormat("link %s", link));
  unlink(fresh.c_str());
  return status;
}

absl::StatusOr<std::string> ContentSha256(const std::string& path, const std::atomic<bool>& cancelled) {
  return HashOf(path, EVP_sha256(), /*as_git_blob=*/false, cancelled);
}

absl::Status CheckContent(const std::string& path, const RemoteFile& file,
                          const std::atomic<bool>& cancelled) {
  if (file.sha256.empty() && file.git_sha1.empty()) return absl::OkStatus();
  const bool is_lfs = !file.sha256.empty();
  BDH_ASSIGN_OR_RETURN(const std::string got,
                       HashOf(path, is_lfs ? EVP_sha256() : EVP_sha1(), !is_lfs, cancelled));
  const std::string& wanted = is_lfs ? file.sha256 : file.git_sha1;
  if (got == wanted) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("its %s is %s and should be %s", is_lfs ? "SHA-256" : "git hash", got, wanted));
}

}  // namespace bdh::hub
