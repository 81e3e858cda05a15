// Every method of the mesh, as the protos describe it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bdh::mesh {

struct Method {
  std::string service;  // "bdh.v1.InferenceService"
  std::string name;     // "Generate"; no two services have a method of one name.
  bool streams = false;
  bool may_be_repeated = false;  // Its proto says NO_SIDE_EFFECTS or IDEMPOTENT.
};

const std::vector<Method>& AllMethods();
// Null when the mesh has no such method.
const Method* FindMethod(std::string_view name);

}  // namespace bdh::mesh
