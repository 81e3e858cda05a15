#pragma once

namespace bdh::mesh {

// Lets what gRPC has to say about refused handshakes and unreadable certificates into our log, as warnings,
// at most a few a second. The rest it would log we return as errors with a sentence. Once a process, before
// gRPC is used.
void RouteGrpcLog();

}  // namespace bdh::mesh
