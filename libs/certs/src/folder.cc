#include "bdh/certs/folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::certs {
namespace {

absl::Status CheckKeyFile(const std::string& file, const std::string& certificate) {
  BDH_ASSIGN_OR_RETURN(const std::string key, ReadFile(file));
  struct stat info;
  if (stat(file.c_str(), &info) != 0) return ErrnoStatus(errno, file);
  if ((info.st_mode & S_IRWXO) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s can be read by everybody; run: chmod 600 %s", file, file));
  }
  return Annotate(CheckPair(certificate, key), file);
}

}  // namespace

std::string Folder::CertificateFile(std::string_view name) const {
  return absl::StrFormat("%s/%s.pem", path_, name);
}

std::string Folder::KeyFile(std::string_view name) const {
  return absl::StrFormat("%s/%s.key", path_, name);
}

absl::StatusOr<bool> Folder::EnsureAuthority(int days) const {
  BDH_RETURN_IF_ERROR(MakeDirectories(path_));
  std::error_code ignored;
  if (std::filesystem::exists(AuthorityFile(), ignored)) return false;
  // The fingerprint of two authorities differs, their name may not: tell meshes apart by when they began.
  const std::string name =
      "bdh mesh authority " + absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  BDH_ASSIGN_OR_RETURN(const Pair pair, MakeAuthority(name, DaysFromNow(days)));
  BDH_RETURN_IF_ERROR(WriteFileAtomically(KeyFile(kAuthority), pair.key, 0600));
  BDH_RETURN_IF_ERROR(WriteFileAtomically(AuthorityFile(), pair.certificate));
  return true;
}

absl::Status Folder::Issue(const Subject& subject, int days) const {
  Pair authority;
  BDH_ASSIGN_OR_RETURN(authority.certificate, ReadFile(AuthorityFile()));
  BDH_ASSIGN_OR_RETURN(authority.key, ReadFile(KeyFile(kAuthority)));
  BDH_ASSIGN_OR_RETURN(const Pair pair, certs::Issue(authority, subject, DaysFromNow(days)));
  // One right after the other: a daemon that reads between the two reads again a moment later.
  BDH_RETURN_IF_ERROR(WriteFileAtomically(KeyFile(subject.name), pair.key, 0600));
  return WriteFileAtomically(CertificateFile(subject.name), pair.certificate);
}

FileEntry Folder::Read(const std::string& name) const {
  FileEntry entry{.name = name,
                  .certificate_file = CertificateFile(name),
                  .key_file = KeyFile(name),
                  .certificate = absl::UnknownError(""),
                  .key = absl::OkStatus()};
  const auto pem = ReadFile(entry.certificate_file);
  if (!pem.ok()) {
    entry.certificate = pem.status();
    return entry;
  }
  entry.certificate = Describe(*pem);
  entry.key = CheckKeyFile(entry.key_file, *pem);
  return entry;
}

absl::StatusOr<std::vector<FileEntry>> Folder::List() const {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(path_, error)) {
    if (file.path().extension() == ".pem") names.push_back(file.path().stem().string());
  }
  const auto authority = std::find(names.begin(), names.end(), kAuthority);
  if (authority == names.end()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s holds no authority (ca.pem); make one: bdhctl certs make --dir %s", path_, path_));
  }
  names.erase(authority);
  std::sort(names.begin(), names.end());
  std::vector<FileEntry> entries{Read(kAuthority)};
  for (const std::string& name : names) entries.push_back(Read(name));
  return entries;
}

}  // namespace bdh::certs
