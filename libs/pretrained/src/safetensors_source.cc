#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/tensorfile/safetensors.h"
#include "json_files.h"
#include "tensor_source.h"

namespace bdh::pretrained {
namespace {

using tensorfile::SafetensorsFile;

// One file or several.
class SafetensorsSource : public TensorSource {
 public:
  absl::Status Add(const std::string& path) {
    BDH_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    for (const auto& tensor : file.tensors()) {
      if (!file_of_.emplace(tensor.name, files_.size()).second) {
        return absl::InvalidArgumentError(
            absl::StrFormat("tensor %s is in %s and in another shard", tensor.name, path));
      }
    }
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  std::vector<StoredTensor> List() const override {
    std::vector<StoredTensor> list;
    for (const SafetensorsFile& file : files_) {
      for (const auto& tensor : file.tensors()) {
        list.push_back({tensor.name, tensor.dtype, tensor.shape, static_cast<int64_t>(tensor.size_bytes)});
      }
    }
    return list;
  }

  absl::StatusOr<std::string> Bytes(const std::string& name) const override {
    const auto found = file_of_.find(name);
    if (found == file_of_.end()) return absl::NotFoundError(absl::StrFormat("there is no tensor %s", name));
    BDH_ASSIGN_OR_RETURN(const std::string_view bytes, files_[found->second].Bytes(name));
    return std::string(bytes);
  }

  std::string Config() const override {
    const auto found = files_[0].metadata().find("config");
    return found == files_[0].metadata().end() ? "" : found->second;
  }

  // Which of the files has the tensor; the number of files if none.
  size_t FileOf(const std::string& name) const {
    const auto found = file_of_.find(name);
    return found == file_of_.end() ? files_.size() : found->second;
  }

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;
};

// A name in this folder and no path out of it.
bool IsFileName(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
         name != "." && name != "..";
}

absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const std::string& index) {
  BDH_ASSIGN_OR_RETURN(const Json json, ReadJson(index));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError("has no weight_map; want an object of tensor names and file names");
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsFileName(file.get<std::string>())) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "weight_map gives tensor %s a file that is no plain name in the same folder", tensor));
    }
    weight_map[tensor] = file.get<std::string>();
  }
  return weight_map;
}

absl::Status CheckAgainst(const std::map<std::string, std::string>& weight_map,
                          const SafetensorsSource& source, const std::vector<std::string>& files) {
  for (const auto& [tensor, file] : weight_map) {
    const size_t found = source.FileOf(tensor);
    if (found < files.size() && files[found] == file) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s is not in %s, where the index says", tensor, file));
  }
  for (const StoredTensor& tensor : source.List()) {
    if (weight_map.contains(tensor.name)) continue;
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s is in %s, but not in the index", tensor.name,
                                                      files[source.FileOf(tensor.name)]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path) {
  auto source = std::make_unique<SafetensorsSource>();
  BDH_RETURN_IF_ERROR(source->Add(path));
  return source;
}

absl::StatusOr<std::unique_ptr<TensorSource>> OpenShards(const std::string& index) {
  auto weight_map = ReadWeightMap(index);
  if (!weight_map.ok()) return Annotate(weight_map.status(), index);
  std::set<std::string> names;
  for (const auto& [tensor, file] : *weight_map) names.insert(file);
  if (names.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: names %d files; want at most %d", index, names.size(), kMaxShards));
  }
  const std::vector<std::string> files(names.begin(), names.end());
  const auto folder = std::filesystem::path(index).parent_path();
  auto source = std::make_unique<SafetensorsSource>();
  for (const std::string& file : files) BDH_RETURN_IF_ERROR(source->Add((folder / file).string()));
  BDH_RETURN_IF_ERROR(Annotate(CheckAgainst(*weight_map, *source, files), index));
  return source;
}

}  // namespace bdh::pretrained
