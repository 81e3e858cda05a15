#include "comments.h"

#include <google/protobuf/descriptor.pb.h>

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "bdh/base/log.h"

namespace bdh::config {

// Made by the build from config.proto.
extern const unsigned char kConfigProto[];
extern const std::size_t kConfigProtoSize;

namespace {

// config.proto once more, with its comments.
const google::protobuf::DescriptorPool& Pool() {
  static const auto* const kPool = [] {
    auto* const pool = new google::protobuf::DescriptorPool;  // Lives as long as the process.
    google::protobuf::FileDescriptorProto options;
    google::protobuf::FieldOptions::descriptor()->file()->CopyTo(&options);
    google::protobuf::FileDescriptorSet set;
    BDH_CHECK(set.ParseFromArray(kConfigProto, static_cast<int>(kConfigProtoSize)));
    BDH_CHECK(pool->BuildFile(options) != nullptr);
    for (const auto& file : set.file()) BDH_CHECK(pool->BuildFile(file) != nullptr) << file.name();
    return pool;
  }();
  return *kPool;
}

template <class Found>
std::string Comment(const Found* found) {
  google::protobuf::SourceLocation location;
  if (found == nullptr || !found->GetSourceLocation(&location)) return "";
  return std::string(absl::StripAsciiWhitespace(
      absl::StrReplaceAll(location.leading_comments, {{"\n ", " "}, {"\n", " "}})));
}

}  // namespace

std::string CommentOf(const FieldDescriptor& field) {
  return Comment(Pool().FindFieldByName(field.full_name()));
}

std::string CommentOf(const Descriptor& section) {
  return Comment(Pool().FindMessageTypeByName(section.full_name()));
}

}  // namespace bdh::config
