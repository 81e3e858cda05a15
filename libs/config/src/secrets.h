#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "document.h"

namespace bdh::config {

// Far above what keys take.
inline constexpr size_t kMaxSecretFileBytes = 64 * 1024;

// What may stand for a secret, for errors.
inline constexpr char kSecretForms[] = "{file: PATH} or {env: NAME}";

// Whether `node` says where a secret is to be found: a map with the one key `file` or `env`.
bool IsSecretReference(const Node& node);

// The secrets found there, one a line; empty lines and those that begin with # are passed over. `folder` is
// what a relative path is relative to. The error is a sentence without its subject and shows no secret:
// "names the file k, which everybody can read (mode 0644); run: chmod 600 k".
absl::StatusOr<std::vector<std::string>> ReadSecrets(const Node& reference, const std::string& folder);

}  // namespace bdh::config
