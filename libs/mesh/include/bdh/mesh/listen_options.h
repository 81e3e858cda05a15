// What of a listening daemon comes from the configuration and is the same for all five.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "bdh/mesh/credentials.h"
#include "bdh/v1/config.pb.h"

namespace bdh::mesh {

struct ListenOptions {
  std::string address = "127.0.0.1:0";        // Port 0 picks a free one.
  std::string admin_address = "127.0.0.1:0";  // Empty: no admin port.
  Credentials credentials = {};
  int max_message_bytes = 8 << 20;
  int max_calls = 256;  // Handled at once; one more is RESOURCE_EXHAUSTED.
  absl::Duration max_idle = absl::Minutes(10);
  absl::Duration handshake_timeout = absl::Seconds(10);
  absl::Duration slow_call = absl::Seconds(5);  // Logged as a warning when it takes longer.
};

// `section` is the daemon's own: it has `listen` and `admin_listen`.
template <class Section>
ListenOptions ListenOptionsFromConfig(const v1::MeshConfig& mesh, const Section& section,
                                      const Credentials& credentials) {
  return {.address = section.listen(),
          .admin_address = section.admin_listen(),
          .credentials = credentials,
          .max_message_bytes = mesh.max_message_bytes(),
          .max_calls = mesh.limits().max_calls(),
          .max_idle = absl::Seconds(mesh.limits().max_idle_seconds()),
          .handshake_timeout = absl::Seconds(mesh.limits().handshake_seconds()),
          .slow_call = absl::Seconds(mesh.log().slow_call_seconds())};
}

}  // namespace bdh::mesh
