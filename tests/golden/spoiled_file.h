// Golden files with something wrong in them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh {

inline std::string GoldenPath(const std::string& name) {
  return absl::StrFormat("%s/tests/golden/%s.safetensors", BDH_SOURCE_DIR, name);
}

// One file in a folder of its own.
class SpoiledFile {
 public:
  using Metadata = std::map<std::string, std::string>;
  using Tensors = std::map<std::string, tensorfile::TensorToWrite>;

  const std::string path() const { return folder_.path() + "/spoiled.safetensors"; }

  // Writes the golden file `name` as `spoil` leaves it, and returns where.
  std::string Write(const std::string& name, const std::function<void(Tensors&, Metadata&)>& spoil) {
    const auto file = tensorfile::SafetensorsFile::Open(GoldenPath(name));
    EXPECT_TRUE(file.ok()) << file.status();
    Tensors tensors;
    for (const auto& tensor : file->tensors()) {
      tensors[tensor.name] = {tensor.name, tensor.dtype, tensor.shape, file->Bytes(tensor.name).value()};
    }
    Metadata metadata = file->metadata();
    spoil(tensors, metadata);
    std::vector<tensorfile::TensorToWrite> list;
    for (const auto& [key, tensor] : tensors) list.push_back(tensor);
    BDH_EXPECT_OK(tensorfile::WriteSafetensors(path(), list, metadata));
    return path();
  }

  // Lets `change` work on the elements of a tensor. They are kept here: a TensorToWrite only points to them.
  template <class T>
  void Change(tensorfile::TensorToWrite& tensor, const std::function<void(std::vector<T>&)>& change) {
    std::vector<T> values(tensor.bytes.size() / sizeof(T));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    change(values);
    changed_.emplace_back(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    tensor.bytes = changed_.back();
  }

 private:
  TempDirectory folder_;
  std::list<std::string> changed_;
};

}  // namespace bdh
