#pragma once

#include "bdh/base/sha256.h"

namespace bdh::store {

using bdh::Sha256;
using Digest = Sha256Digest;  // The name of a chunk.

}  // namespace bdh::store
