#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "document.h"
#include "findings.h"

namespace bdh::config {

// Bounds of `extends`: files on one way down, and files in all.
inline constexpr size_t kMaxChain = 8;
inline constexpr int kMaxFiles = 32;

// Reads a file and, before it, those it extends: each overrides the ones before it, key by key.
class FileReader {
 public:
  // Both are written to by Read, and live longer.
  FileReader(Findings& findings, google::protobuf::Message& out) : findings_(findings), out_(out) {}

  void Read(const std::string& path) { ReadOne(path, ""); }

 private:
  // `place` is where the file was named, for errors; empty for the first.
  void ReadOne(const std::string& path, const std::string& place);
  void ReadBases(const Node& extends, const Origin& origin);

  Findings& findings_;
  google::protobuf::Message& out_;
  std::vector<std::string> chain_;  // Files being read, the outermost first.
  int files_ = 0;
};

}  // namespace bdh::config
