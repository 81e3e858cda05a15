#include "bdh/tokenizer/library.h"

#include <sys/stat.h>
#include <cerrno>
#include <cstdio>
#include <set>

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

// Where a tokenizer is written before it is there, and goes before it is gone. No resource begins with a dot.
constexpr char kStagingPrefix[] = ".staging-";
constexpr char kByte[] = "byte";
// Nobody takes longer to write one.
constexpr absl::Duration kStagingKept = absl::Hours(1);

absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrFormat("rename %s to %s", from, to));
  return absl::OkStatus();
}

absl::Time TimeOf(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? absl::TimeFromTimespec(info.st_mtim) : absl::UnixEpoch();
}

// Empty: there is no such folder.
std::string VersionOf(const std::string& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return "";
  return absl::StrFormat("%d %d %d", info.st_ino, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
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
  BDH_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(folder_));
  for (const std::string& name : names) {
    const std::string path = folder_ + "/" + name;
    if (name.starts_with(kStagingPrefix) && TimeOf(path) < absl::Now() - kStagingKept) RemoveAll(path);
  }
  MutexLock lock(mutex_);
  RefreshAll();
  return absl::OkStatus();
}

void Library::Refresh(const std::string& name) const {
  if (!IsResourceName(name) || name == kByte) return;
  const std::string version = VersionOf(FolderOf(name));
  const auto known = entries_.find(name);
  if (known != entries_.end() && known->second.version == version) return;
  if (known != entries_.end()) entries_.erase(known);
  if (version.empty()) return;
  auto entry = OpenEntry(name, FolderOf(name));
  if (!entry.ok()) BDH_LOG(ERROR) << "tokenizer is damaged name=" << name << " error=" << entry.status();
  entries_.emplace(name, Known{std::move(entry), version});
}

void Library::RefreshAll() const {
  std::set<std::string> all;
  for (const auto& [name, known] : entries_) all.insert(name);
  const auto names = NamesIn(folder_);
  if (names.ok()) all.insert(names->begin(), names->end());
  for (const std::string& name : all) Refresh(name);
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
  Refresh(std::string(name));
  if (const auto found = entries_.find(name); found != entries_.end()) return found->second.entry;
  RefreshAll();
  std::vector<std::string> known = {kByte};
  for (const auto& [other, there] : entries_) {
    if (there.entry.ok()) known.push_back(other);
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
  RefreshAll();
  for (const auto& [name, known] : entries_) {
    if (known.entry.ok()) sorted.emplace(name, *known.entry);
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

  return Publish(staging, std::move(loaded));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Library::Publish(
    const std::string& staging, std::shared_ptr<const Tokenizer> tokenizer) {
  const std::string name(tokenizer->name());
  MutexLock lock(mutex_);
  // A folder that is there already, of this process or another, is not replaced.
  if (std::rename(staging.c_str(), FolderOf(name).c_str()) == 0) {
    BDH_RETURN_IF_ERROR(SyncDirectory(folder_));
    entries_.insert_or_assign(name,
                              Known{Entry{tokenizer, TimeOf(FolderOf(name))}, VersionOf(FolderOf(name))});
    return tokenizer;
  }
  if (errno != ENOTEMPTY && errno != EEXIST) {
    return ErrnoStatus(errno, absl::StrFormat("rename %s to %s", staging, FolderOf(name)));
  }
  Refresh(name);
  const auto there = entries_.find(name);
  if (there != entries_.end() && there->second.entry.ok() &&
      there->second.entry->tokenizer->hash() == tokenizer->hash()) {
    return there->second.entry->tokenizer;
  }
  return absl::AlreadyExistsError(absl::StrFormat(
      "tokenizer '%s' exists and holds other content; give this one another name, or delete that one first",
      name));
}

absl::Status Library::Delete(const std::string& name) {
  if (name.empty() || name == kByte) {
    return absl::InvalidArgumentError("tokenizer 'byte' is built in and cannot be deleted");
  }
  const std::string staging = absl::StrFormat("%s/%s%s", folder_, kStagingPrefix, RandomHex(8));
  {
    MutexLock lock(mutex_);
    Refresh(name);
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
