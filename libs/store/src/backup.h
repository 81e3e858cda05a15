#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "bdh/store/care.h"
#include "database.h"
#include "packs.h"

namespace bdh::store {

// Copies the store as it is at one moment into `folder`; `sequence` is of a change that is in it for sure.
absl::Status BackUpInto(const std::string& store_folder, const Database& database, Packs& packs,
                        uint64_t sequence, const std::string& folder,
                        const std::function<bool(const BackUpProgress&)>& progress);

}  // namespace bdh::store
