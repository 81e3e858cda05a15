// What of a listening daemon comes from the configuration and is the same for all five.
#pragma once

#include <string>

#include "bdh/mesh/credentials.h"
#include "bdh/v1/config.pb.h"

namespace bdh::mesh {

struct ListenOptions {
  std::string address = "127.0.0.1:0";        // Port 0 picks a free one.
  std::string admin_address = "127.0.0.1:0";  // Empty: no admin port.
  Credentials credentials = {};
  int max_message_bytes = 8 << 20;
};

// `section` is the daemon's own: it has `listen` and `admin_listen`.
template <class Section>
ListenOptions ListenOptionsFromConfig(const v1::MeshConfig& mesh, const Section& section,
                                      const Credentials& credentials) {
  return {.address = section.listen(),
          .admin_address = section.admin_listen(),
          .credentials = credentials,
          .max_message_bytes = mesh.max_message_bytes()};
}

}  // namespace bdh::mesh
