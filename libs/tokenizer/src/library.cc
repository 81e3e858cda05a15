#include "bdh/tokenizer/library.h"

#include <sys/stat.h>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh::tokenizer {
namespace {

namespace fs = std::filesystem;

// Where a tokenizer is written before it is there, and goes before it is gone. No resource begins with a dot.
constexpr char kStagingPrefix[] = ".staging-";
constexpr char kByte[] = "byte";

void RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) BDH_LOG(WARNING) << "cannot remove path=" << path << " error=" << error.message();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrFormat("rename %s to %s", from, to));
  return absl::OkStatus();
}

absl::Time TimeOf(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? absl::TimeFromTimespec(info.st_mtim) : absl::UnixEpoch();
}

absl::StatusOr<Library::Entry> OpenEntry(const std::string& name, const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(auto files, ReadTokenizerFiles(folder));
  if (files.empty()) return absl::DataLossError(absl::StrFormat("%s holds no files of a tokenizer", folder));
  auto tokenizer = LoadTokenizer(name, std::move(files));
  BDH_RETURN_IF_ERROR(Annotate(tokenizer.status(), absl::StrFormat("tokenizer '%s'", name)));
  return Library::Entry{*std::move(tokenizer), TimeOf(folder)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Library>> Library::Open(std::string folder) {
  auto library = std::unique_ptr<Library>(new Library(std::move(folder)));
  BDH_RETURN_IF_ERROR(MakeDirectories(library->folder_));
  BDH_RETURN_IF_ERROR(library->Load());
  return library;
}

absl::Status Library::Load() {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder_));
  MutexLock lock(mutex_);
  for (const std::string& name : names) {
    if (name.starts_with(kStagingPrefix)) RemoveAll(folder_ + "/" + name);
    if (!IsResourceName(name) || name == kByte) continue;
    auto entry = OpenEntry(name, FolderOf(name));
    if (!entry.ok()) BDH_LOG(ERROR) << "tokenizer is damaged name=" << name << " error=" << entry.status();
    entries_.emplace(name, std::move(entry));
  }
  return absl::OkStatus();
}

std::string Library::FolderOf(std::string_view name) const {
  return absl::StrFormat("%s/%s", folder_, name);
}

absl::StatusOr<Library::Entry> Library::Get(std::string_view name) const {
  if (name.empty() || name == kByte) {
    BDH_ASSIGN_OR_RETURN(auto byte, tokenizer::Find(kByte));
    return Entry{std::move(byte), absl::UnixEpoch()};
  }
  MutexLock lock(mutex_);
  if (const auto found = entries_.find(name); found != entries_.end()) return found->second;
  std::vector<std::string> known = {kByte};
  for (const auto& [other, entry] : entries_) {
    if (entry.ok()) known.push_back(other);
  }
  return absl::NotFoundError(absl::StrFormat("there is no tokenizer '%s'; the known ones are: %s", name,
                                             absl::StrJoin(known, ", ")));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Library::Find(std::string_view name) const {
  BDH_ASSIGN_OR_RETURN(Entry entry, Get(name));
  return std::move(entry.tokenizer);
}

std::vector<Library::Entry> Library::List() const {
  std::map<std::string, Entry> sorted;
  if (auto byte = Get(kByte); byte.ok()) sorted.emplace(kByte, *std::move(byte));
  MutexLock lock(mutex_);
  for (const auto& [name, entry] : entries_) {
    if (entry.ok()) sorted.emplace(name, *entry);
  }
  std::vector<Entry> out;
  for (auto& [name, entry] : sorted) out.push_back(std::move(entry));
  return out;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Library::Add(const std::string& name,
                                                              std::vector<TokenizerFile> files) {
  if (!IsResourceName(name)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "'%s' cannot name a tokenizer; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit", name));
  }
  if (name == kByte)
    return absl::AlreadyExistsError("tokenizer 'byte' is built in; give this one another name");
  BDH_ASSIGN_OR_RETURN(auto loaded, LoadTokenizer(name, std::move(files)));

  const std::string staging = absl::StrFormat("%s/%s%s", folder_, kStagingPrefix, RandomHex(8));
  const absl::Cleanup remove_staging = [&] { RemoveAll(staging); };
  BDH_RETURN_IF_ERROR(MakeDirectories(staging));
  for (const TokenizerFile& file : loaded->files()) {
    BDH_RETURN_IF_ERROR(WriteFileAtomically(staging + "/" + file.name, file.bytes));
  }

  MutexLock lock(mutex_);
  if (const auto there = entries_.find(name); there != entries_.end()) {
    if (there->second.ok() && there->second->tokenizer->hash() == loaded->hash())
      return there->second->tokenizer;
    return absl::AlreadyExistsError(absl::StrFormat(
        "tokenizer '%s' exists and holds other content; give this one another name, or delete that one first",
        name));
  }
  BDH_RETURN_IF_ERROR(Rename(staging, FolderOf(name)));
  BDH_RETURN_IF_ERROR(SyncDirectory(folder_));
  entries_.emplace(name, Entry{loaded, TimeOf(FolderOf(name))});
  return loaded;
}

absl::Status Library::Delete(const std::string& name) {
  if (name.empty() || name == kByte) {
    return absl::InvalidArgumentError("tokenizer 'byte' is built in and cannot be deleted");
  }
  const std::string staging = absl::StrFormat("%s/%s%s", folder_, kStagingPrefix, RandomHex(8));
  {
    MutexLock lock(mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end())
      return absl::NotFoundError(absl::StrFormat("there is no tokenizer '%s'", name));
    BDH_RETURN_IF_ERROR(Rename(FolderOf(name), staging));
    entries_.erase(found);
  }
  const absl::Status synced = SyncDirectory(folder_);
  RemoveAll(staging);
  return synced;
}

}  // namespace bdh::tokenizer
