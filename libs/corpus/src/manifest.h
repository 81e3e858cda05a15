#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"

namespace bdh::corpus {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kIndexFile[] = "documents.index";
inline constexpr char kScoresFile[] = "scores.index";

std::string ManifestToJson(const DatasetInfo& info);

// `path` names the manifest in errors. Everything that could lead a reader astray is checked: file names that
// leave the folder, sizes that contradict each other.
absl::StatusOr<DatasetInfo> ManifestFromJson(std::string_view json, const std::string& path);

}  // namespace bdh::corpus
