// Whether protos still mean what they meant: what two releases say to each other must be understood.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace bdh::protos {

// What an older release would misread in `now`, of one file; each a sentence that names file, message and
// field, and says the fix. Additions are fine. Empty: compatible. `now` may be null: the file is gone.
std::vector<std::string> Incompatibilities(const google::protobuf::FileDescriptor& released,
                                           const google::protobuf::FileDescriptor* now);

}  // namespace bdh::protos
