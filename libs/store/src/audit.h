#pragma once

#include "absl/status/statusor.h"
#include "bdh/store/store.h"
#include "catalog.h"
#include "chunks.h"
#include "database.h"

namespace bdh::store {

// Walks all checkpoints and all chunks of one moment and reads every byte.
absl::StatusOr<Store::Audit> CheckEverything(const Database& database, const Catalog& catalog,
                                             const Chunks& chunks);

}  // namespace bdh::store
