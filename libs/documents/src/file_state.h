// Whether a file is still what it was when it was listed.
#pragma once

#include "absl/status/status.h"
#include "bdh/documents/source_files.h"

namespace bdh::documents {

// As CheckUnchanged(file), of a file that is open.
absl::Status CheckUnchanged(const SourceFile& file, int descriptor);

}  // namespace bdh::documents
