// A folder with the certificates of a small mesh:
//
//   ca.pem, ca.key                  the authority
//   bdh-inference.pem, .key, ...    one pair a daemon, and one for bdhctl
//
// Keys are readable by their owner only. Files are replaced as a whole, so that a daemon that watches them
// never reads half of one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/certs/certificate.h"

namespace bdh::certs {

struct FileEntry {
  std::string name;  // "ca", "bdh-inference".
  std::string certificate_file, key_file;
  absl::StatusOr<Description> certificate;
  absl::Status key;  // Why the key is not fit: absent, not this certificate's, readable by others.
};

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string CertificateFile(std::string_view name) const;
  std::string KeyFile(std::string_view name) const;
  std::string AuthorityFile() const { return CertificateFile(kAuthority); }

  // Makes the folder and an authority unless they are there. True: it was made now.
  absl::StatusOr<bool> EnsureAuthority(int days) const;
  // Issues a certificate for `subject` in place of what is there. NotFoundError: there is no authority here.
  absl::Status Issue(const Subject& subject, int days) const;
  // What is there, the authority first, then by name. NotFoundError: no authority.
  absl::StatusOr<std::vector<FileEntry>> List() const;

  static constexpr char kAuthority[] = "ca";

 private:
  FileEntry Read(const std::string& name) const;
  const std::string path_;
};

}  // namespace bdh::certs
