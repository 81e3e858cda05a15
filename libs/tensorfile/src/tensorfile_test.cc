// Tensor files: what is written is read back, and no damaged or lying file is opened. Each bad file is made
// by hand, byte for byte, and its error names what is wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/base/file.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::tensorfile {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class TensorfileTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name = "file.safetensors") const { return folder_.path() + "/" + name; }

  // A file of `json` as the header and `data_bytes` zeros. `length` is what it claims of its header.
  std::string Raw(const std::string& json, size_t data_bytes, uint64_t length) const {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i) & 0xff));
    std::ofstream(Path(), std::ios::binary) << bytes << json << std::string(data_bytes, '\0');
    return Path();
  }
  std::string Raw(const std::string& json, size_t data_bytes) const {
    return Raw(json, data_bytes, json.size());
  }

  static std::string Complaint(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }

  TempDirectory folder_;
};

TEST_F(TensorfileTest, WhatIsWrittenIsReadBack) {
  const std::vector<float> weights = {1, -2, 3.5, 0, 5, 6};
  const std::vector<int64_t> tokens = {7, -8};
  const std::vector<uint8_t> flags = {1, 0, 1};
  BDH_ASSERT_OK(WriteSafetensors(Path(),
                                 {{"flags", "BOOL", {3}, BytesOf(flags)},
                                  {"embed.weight", "F32", {2, 3}, BytesOf(weights)},
                                  {"tokens", "I64", {2}, BytesOf(tokens)},
                                  {"nothing", "F32", {0, 4}, ""},
                                  {"scalar", "F32", {}, BytesOf(weights).substr(0, 4)}},
                                 {{"config", R"({"n_layer": 2})"}, {"umlaut", "\xc3\xbc"}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(Path()));
  EXPECT_EQ(file.metadata().at("config"), R"({"n_layer": 2})");
  EXPECT_EQ(file.metadata().at("umlaut"), "\xc3\xbc");
  ASSERT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.tensors()[0].name, "tokens");  // The widest elements come first.
  EXPECT_THAT(file.Find("embed.weight")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file.Find("embed.weight")->element_count(), 6);
  EXPECT_EQ(file.Floats("embed.weight").value(), weights);
  EXPECT_EQ(file.Integers("tokens").value(), tokens);
  EXPECT_EQ(file.Bytes("flags").value(), BytesOf(flags));
  EXPECT_EQ(file.Bytes("nothing").value(), "");
  EXPECT_THAT(file.Find("scalar")->shape, ElementsAre());
}

TEST_F(TensorfileTest, WritingLeavesNoOtherFileAndReplacesTheOldOne) {
  const std::vector<float> values = {1};
  BDH_ASSERT_OK(WriteSafetensors(Path(), {{"old", "F32", {1}, BytesOf(values)}}));
  BDH_ASSERT_OK(WriteSafetensors(Path(), {{"new", "F32", {1}, BytesOf(values)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(Path()));
  EXPECT_NE(file.Find("new"), nullptr);
  EXPECT_EQ(file.Find("old"), nullptr);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(TensorfileTest, AFileWithoutTensorsIsAFile) {
  BDH_ASSERT_OK(WriteSafetensors(Path(), {}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(Path()));
  EXPECT_TRUE(file.tensors().empty());
}

TEST_F(TensorfileTest, AskingForWhatIsNotThereNamesIt) {
  const std::vector<float> values = {1};
  BDH_ASSERT_OK(WriteSafetensors(Path(), {{"a", "F32", {1}, BytesOf(values)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(Path()));
  EXPECT_EQ(file.Bytes("b").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.Bytes("b").status().message()), HasSubstr("has no tensor b"));
  EXPECT_THAT(Complaint(file.Integers("a").status()), HasSubstr("tensor a is of type F32; want I64"));
}

TEST_F(TensorfileTest, BadHeadersAreRefusedByName) {
  struct Case {
    const char* json;
    size_t data_bytes;
    const char* complaint;
  };
  const Case cases[] = {
      {"", 0, "does not begin with '{'"},
      {"[]", 0, "does not begin with '{'"},
      {"{\"a\":", 4, "is not JSON"},
      {"{\"a\xff\":1}", 0, "is not JSON"},
      {"{}x", 0, "is not JSON"},
      {"{}", 4, "describes 0 bytes, but 4 follow it"},
      {R"({"a":7})", 0, "tensor a is not described by an object"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "tensor a has no dtype"},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4, "tensor a has dtype F31"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "tensor a has no shape"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "tensor a has shape [-1]"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "tensor a has shape [1.0]"},
      {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4, "tensor a has shape"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "nests deeper"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor a has no data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", 4, "tensor a has 1 data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "tensor a lies at bytes 4 to 0 of 4"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "tensor a lies at bytes 0 to 8 of 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}})", 4,
       "tensor a has data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
       "tensor a takes 8 bytes by its shape, but has 4"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})", 4,
       "tensor a has a shape too"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "tensor a has a field besides"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "tensor b begins at byte 4, inside another tensor"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       12, "tensor b begins at byte 8 after a gap of 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8, "describes 4 bytes, but 8 follow it"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "tensor a is in the header twice"},
      {R"({"a\nb":7})", 0, "tensor a\\nb is not described"},
      {R"({"__metadata__":[]})", 0, "__metadata__ that is not an object"},
      {R"({"__metadata__":{"k":1}})", 0, "__metadata__ entry k that is not a string"},
  };
  for (const Case& test : cases) {
    const auto file = SafetensorsFile::Open(Raw(test.json, test.data_bytes));
    ASSERT_FALSE(file.ok()) << test.json;
    EXPECT_THAT(Complaint(file.status()), HasSubstr(test.complaint)) << test.json;
    EXPECT_THAT(Complaint(file.status()), HasSubstr(Path())) << test.json;
  }
}

TEST_F(TensorfileTest, AHeaderLengthThatLiesIsRefused) {
  for (uint64_t length : {uint64_t{3}, uint64_t{1} << 40, ~uint64_t{0}}) {
    EXPECT_THAT(Complaint(SafetensorsFile::Open(Raw("{}", 0, length)).status()), HasSubstr("header claims"));
  }
  EXPECT_THAT(Complaint(SafetensorsFile::Open(Raw("{}", 0, 1)).status()), HasSubstr("is not JSON"));
}

TEST_F(TensorfileTest, AHeaderOverTheLimitOfTheFormatIsRefused) {
  Raw("{}", 0, 100'000'001);
  std::filesystem::resize_file(Path(), 100'000'100);  // Sparse: takes no space.
  EXPECT_THAT(Complaint(SafetensorsFile::Open(Path()).status()), HasSubstr("format allows 100000000"));
}

TEST_F(TensorfileTest, DeepNestingDoesNotExhaustTheStack) {
  const std::string json = "{\"a\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  EXPECT_THAT(Complaint(SafetensorsFile::Open(Raw(json, 0)).status()), HasSubstr("nests deeper"));
}

TEST_F(TensorfileTest, AFileCutShortAnywhereIsRefused) {
  const std::vector<float> values(5, 1);
  BDH_ASSERT_OK(WriteSafetensors(Path(), {{"a", "F32", {5}, BytesOf(values)}}, {{"k", "v"}}));
  for (uint64_t size = std::filesystem::file_size(Path()); size-- > 0;) {
    std::filesystem::resize_file(Path(), size);
    Complaint(SafetensorsFile::Open(Path()).status());
  }
}

TEST_F(TensorfileTest, WhatIsNoFileIsRefused) {
  EXPECT_EQ(SafetensorsFile::Open(Path("absent")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Complaint(SafetensorsFile::Open(folder_.path()).status()), HasSubstr("not a file"));
}

TEST_F(TensorfileTest, NothingWrongIsWritten) {
  const std::vector<float> values = {1};
  const std::string_view bytes = BytesOf(values);
  struct Case {
    std::vector<TensorToWrite> tensors;
    std::map<std::string, std::string> metadata;
    const char* complaint;
  };
  const Case cases[] = {
      {{{"a", "F32", {2}, bytes}}, {}, "tensor a takes 8 bytes by its shape, but 4 are given"},
      {{{"a", "float", {1}, bytes}}, {}, "tensor a has dtype float"},
      {{{"a", "F32", {-1}, bytes}}, {}, "tensor a has a dimension of -1"},
      {{{"a", "F32", {1}, bytes}, {"a", "F32", {1}, bytes}}, {}, "tensor a is given twice"},
      {{{"\xff", "F32", {1}, bytes}}, {}, "not UTF-8"},
      {{{"__metadata__", "F32", {1}, bytes}}, {}, "keeps for metadata"},
      {{}, {{"k", "\xff"}}, "metadata entry k is not UTF-8"},
  };
  for (const Case& test : cases) {
    EXPECT_THAT(Complaint(WriteSafetensors(Path(), test.tensors, test.metadata)), HasSubstr(test.complaint));
    EXPECT_FALSE(std::filesystem::exists(Path()));
  }
  EXPECT_EQ(WriteSafetensors(Path("no/such/folder"), {}).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace bdh::tensorfile
