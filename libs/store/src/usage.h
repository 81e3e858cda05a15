#pragma once

#include "absl/status/statusor.h"
#include "bdh/store/care.h"
#include "catalog.h"
#include "chunks.h"

namespace bdh::store {

// Where the bytes are, at one moment; all but what the ledger knows. Walks all references.
absl::StatusOr<Usage> MeasureUsage(const Database& database, const Catalog& catalog, const Chunks& chunks,
                                   const std::string& folder, Files& files);

}  // namespace bdh::store
