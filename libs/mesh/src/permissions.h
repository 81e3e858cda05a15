// Who may call what.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"

namespace bdh::mesh {

// Immutable, so thread-safe.
class Permissions {
 public:
  // What each of the daemons and bdhctl needs for its work, and nothing more.
  Permissions();
  // The same with the rows of mesh.permissions in place of theirs. InvalidArgumentError: a row is not of the
  // form "CALLER: METHOD, ...", or the mesh has no such method.
  static absl::StatusOr<Permissions> FromConfig(const google::protobuf::RepeatedPtrField<std::string>& rows);

  // OK for a caller without a name: who shares one token with everybody is the mesh itself.
  // PermissionDeniedError names caller, method and the key to change.
  absl::Status Check(std::string_view caller, std::string_view method) const;

 private:
  absl::Status Set(std::string_view row);
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> allowed_;
};

}  // namespace bdh::mesh
