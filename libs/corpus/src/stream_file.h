// stream.json: what a data set that is served while it is made is made of.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bdh/corpus/dataset_store.h"

namespace bdh::corpus {

inline constexpr char kStreamFile[] = "stream.json";

std::string StreamToJson(const DatasetStore::StreamSpec& spec);
absl::StatusOr<DatasetStore::StreamSpec> StreamFromJson(std::string_view json, const std::string& path);

}  // namespace bdh::corpus
