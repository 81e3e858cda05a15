// Groups as messages: so they stand on disk, and so they are sent.
#pragma once

#include "bdh/store/coordination.h"
#include "bdh/v1/coordination.pb.h"

namespace bdh::store {

google::protobuf::Duration ToMessage(absl::Duration duration);
absl::Duration FromMessage(const google::protobuf::Duration& message);
google::protobuf::Timestamp ToMessage(absl::Time time);
absl::Time FromMessage(const google::protobuf::Timestamp& message);

v1::GroupSpec ToMessage(const GroupSpec& spec);
GroupSpec FromMessage(const v1::GroupSpec& message);
v1::Worker ToMessage(const Worker& worker);
Worker FromMessage(const v1::Worker& message);
v1::Generation ToMessage(const Generation& generation);
Generation FromMessage(const v1::Generation& message);

}  // namespace bdh::store
