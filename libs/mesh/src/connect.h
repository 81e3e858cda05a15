#pragma once

#include <memory>
#include <string>

#include "bdh/mesh/credentials.h"
#include "grpcpp/channel.h"

namespace bdh::mesh {

struct ConnectOptions {
  std::string daemon = "";  // What its certificate must be for, if daemons' names count.
  Credentials credentials = {};
  int max_message_bytes = 8 << 20;
  std::string host = "";            // What it must be for otherwise; empty: the host in the target.
  std::string health_service = "";  // Not empty: a daemon that says this does not serve counts as not there.
};

// A channel as everybody in the mesh uses them: connects in the background and again after a loss, repeats
// calls that may be repeated, notices a peer that is gone.
std::shared_ptr<grpc::Channel> Connect(const std::string& target, const ConnectOptions& options);

}  // namespace bdh::mesh
