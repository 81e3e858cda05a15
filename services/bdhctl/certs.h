// Certificates of a mesh on one machine: who needs one, and how `up --tls` comes by them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bdh/v1/config.pb.h"
#include "services/bdhctl/mesh_folder.h"

namespace bdh::bdhctl {

// Everybody who shows a certificate: the daemons and bdhctl.
std::vector<std::string> CertificateNames();

// Makes the certificates of DIR/tls that are missing and lets `config` use them, unless it names others.
// FailedPreconditionError: one of them is not fit for use.
absl::Status UseCertificatesOf(const MeshFolder& folder, v1::Config& config);

}  // namespace bdh::bdhctl
