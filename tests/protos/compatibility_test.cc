// Holds the protos to what the last release said (protos/released.binpb), and proves of each way to break
// that that it is found. CONTRIBUTING.md says what to do at a release:
//
//   BDH_UPDATE_RELEASED=1 protos_test --gtest_filter='Protos.*'
#include "tests/protos/compatibility.h"

#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "bdh/base/file.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::protos {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;

const std::string kProtos = BDH_SOURCE_DIR "/protos";
const std::string kReleased = kProtos + "/released.binpb";

// What protoc makes of files under `root`, those they import included; empty when it refuses them.
std::string Compiled(const std::string& root, const std::string& files) {
  const TempDirectory folder;
  const std::string out = folder.path() + "/set.binpb";
  const std::string command =
      "cd '" + root + "' && " BDH_PROTOC " -I. --include_imports --descriptor_set_out='" + out + "' " + files;
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  const auto bytes = ReadFile(out);
  return bytes.ok() ? *bytes : "";
}

// Descriptors of a serialized FileDescriptorSet.
class Files {
 public:
  explicit Files(const std::string& bytes) {
    FileDescriptorSet set;
    EXPECT_TRUE(!bytes.empty() && set.ParseFromString(bytes));
    for (const FileDescriptorProto& file : set.file()) {  // In the order of what they import.
      const FileDescriptor* const built = pool_.BuildFile(file);
      EXPECT_NE(built, nullptr) << file.name();
      if (built != nullptr && !file.name().starts_with("google/")) files_.push_back(built);
    }
  }

  const std::vector<const FileDescriptor*>& all() const { return files_; }
  const FileDescriptor* Find(const std::string& name) const { return pool_.FindFileByName(name); }

 private:
  DescriptorPool pool_;
  std::vector<const FileDescriptor*> files_;
};

TEST(Protos, SayToTheLastReleaseWhatItUnderstands) {
  const std::string now_bytes = Compiled(kProtos, "bdh/v1/*.proto");
  const Files now(now_bytes);
  const Files released(*ReadFile(kReleased));
  EXPECT_GE(released.all().size(), 8u);
  bool compatible = true;
  for (const FileDescriptor* const then : released.all()) {
    for (const std::string& sentence : Incompatibilities(*then, now.Find(then->name()))) {
      ADD_FAILURE() << sentence;
      compatible = false;
    }
  }
  if (compatible && std::getenv("BDH_UPDATE_RELEASED") != nullptr) {
    BDH_ASSERT_OK(WriteFileAtomically(kReleased, now_bytes));
  }
}

// A small file of every construct, and a change to it.
constexpr char kBefore[] = R"(syntax = "proto3"; package p;
message M {
  int32 a = 1; string b = 2; repeated string c = 3; optional int64 d = 4; N n = 5; E e = 6;
  oneof o { string x = 7; string y = 8; }
  map<string, int32> m = 9;
  reserved 20 to 22; reserved "gone";
  message Inner { int32 i = 1; }
}
message N {}
enum E { E_UNSPECIFIED = 0; E_ONE = 1; E_TWO = 2; reserved 7; }
service S { rpc R(M) returns (stream N); rpc Q(N) returns (N); }
)";

std::string CompiledText(const std::string& text) {
  const TempDirectory folder;
  std::ofstream(folder.path() + "/f.proto") << text;
  return Compiled(folder.path(), "f.proto");
}

std::vector<std::string> AfterChange(const std::string& from, const std::string& to) {
  static const Files then(CompiledText(kBefore));
  std::string changed = kBefore;
  const size_t at = changed.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at == std::string::npos) return {};
  const Files now(CompiledText(changed.replace(at, from.size(), to)));
  if (now.all().empty()) return {"does not compile"};
  return Incompatibilities(*then.all()[0], now.all()[0]);
}

using Sentences = std::vector<std::string>;

TEST(Incompatibilities, AdditionsAreFine) {
  const std::pair<const char*, const char*> fine[] = {
      {"reserved 20", "int32 young = 10; reserved 20"},
      {"message N {}", "message N { int32 young = 1; } message Young {}"},
      {"E_TWO = 2;", "E_TWO = 2; E_THREE = 3;"},
      {"rpc Q(N)", "rpc Young(N) returns (N); rpc Q(N)"},
      {"service S", "service Young { rpc R(N) returns (N); } service S"},
      {"string y = 8;", "string y = 8; string z = 10;"},
      {"string b = 2;", "reserved 2; reserved \"b\";"},
      {"E_TWO = 2;", "reserved 2; reserved \"E_TWO\";"},
      {"message M {", "// A comment.\nmessage M {"},
  };
  for (const auto& [from, to] : fine) EXPECT_EQ(AfterChange(from, to), Sentences{}) << to;
}

TEST(Incompatibilities, EveryWayToBreakIsFoundAndNamed) {
  const std::pair<std::pair<const char*, const char*>, const char*> broken[] = {
      {{"string b = 2;", ""},
       "f.proto: p.M: field b, number 2, is gone, and others may take its place; write: reserved 2; reserved "
       "\"b\";"},
      {{"string b = 2;", "reserved 2;"},
       "f.proto: p.M: field b, number 2, is gone, and others may take its place; write: reserved 2; reserved "
       "\"b\";"},
      {{"string b = 2;", "string renamed = 2;"},
       "f.proto: p.M: number 2 was field b and is renamed now; give renamed the next free number, 23, and "
       "write: "
       "reserved 2; reserved \"b\";"},
      {{"string b = 2;", "string b = 11;"},
       "f.proto: p.M: field b had number 2 and has 11 now; give it its number back"},
      {{"int32 a = 1;", "int64 a = 1;"},
       "f.proto: p.M: field a was int32 and is int64 now; keep it, and add a field with another name and the "
       "next "
       "free number, 23"},
      {{"repeated string c", "string c"},
       "f.proto: p.M: field c was repeated string and is string now; keep it, and add a field with another "
       "name and "
       "the next free number, 23"},
      {{"optional int64 d", "int64 d"},
       "f.proto: p.M: field d was optional int64 and is int64 now; keep it, and add a field with another "
       "name and "
       "the next free number, 23"},
      {{"N n = 5;", "Inner n = 5;"},
       "f.proto: p.M: field n was p.N and is p.M.Inner now; keep it, and add a field with another name and "
       "the next "
       "free number, 23"},
      {{"E e = 6;", "int32 e = 6;"},
       "f.proto: p.M: field e was p.E and is int32 now; keep it, and add a field with another name and the "
       "next free "
       "number, 23"},
      {{"string y = 8; }", "} string y = 8;"},
       "f.proto: p.M: field y was in oneof o and is in no oneof now; leave it where it was"},
      {{"E e = 6;", "oneof q { E e = 6; }"},
       "f.proto: p.M: field e was in no oneof and is in oneof q now; leave it where it was"},
      {{"map<string, int32>", "map<string, int64>"},
       "f.proto: p.M.MEntry: field value was int32 and is int64 now; keep it, and add a field with another "
       "name and "
       "the next free number, 3"},
      {{"reserved 20 to 22;", "int32 young = 21;"},
       "f.proto: p.M: field young takes number 21, which was reserved; give it the next free one, 22"},
      {{"reserved \"gone\";", "int32 gone = 30;"},
       "f.proto: p.M: field gone takes a name that was reserved; give it another"},
      {{"message Inner { int32 i = 1; }", ""},
       "f.proto: message p.M.Inner is gone; keep it; a change that cannot do so is a new package, bdh.v2, "
       "beside "
       "this one"},
      {{"E_TWO = 2;", ""},
       "f.proto: p.E: value E_TWO, number 2, is gone, and others may take its place; write: reserved 2; "
       "reserved "
       "\"E_TWO\";"},
      {{"E_TWO = 2;", "E_TWO = 3;"}, "f.proto: p.E: value E_TWO was 2 and is 3 now; give it its number back"},
      {{"E_TWO = 2;", "E_ZWEI = 2;"},
       "f.proto: p.E: number 2 was value E_TWO and is E_ZWEI now; give E_ZWEI the next free number, 8, and "
       "write: "
       "reserved 2; reserved \"E_TWO\";"},
      {{"reserved 7;", "E_SEVEN = 7;"},
       "f.proto: p.E: value E_SEVEN takes number 7, which was reserved; give it the next free one, 8"},
      {{"rpc Q(N) returns (N);", ""},
       "f.proto: p.S: method Q is gone; keep it, and let it answer UNIMPLEMENTED with what to call instead"},
      {{"rpc Q(N)", "rpc Q(M)"},
       "f.proto: p.S: method Q was (p.N) returns (p.N) and is (p.M) returns (p.N) now; keep it, and add a "
       "method with "
       "another name"},
      {{"(stream N)", "(N)"},
       "f.proto: p.S: method R was (p.M) returns (stream p.N) and is (p.M) returns (p.N) now; keep it, and "
       "add a "
       "method with another name"},
      {{"package p;", "package q;"},
       "f.proto: its package was p and is q now; keep it; a change that cannot do so is a new package, "
       "bdh.v2, beside "
       "this one"},
  };
  for (const auto& [change, sentence] : broken) {
    EXPECT_EQ(AfterChange(change.first, change.second), Sentences{sentence}) << change.second;
  }
}

TEST(Incompatibilities, AFileThatIsGoneIsFound) {
  const Files then(CompiledText(kBefore));
  EXPECT_EQ(
      Incompatibilities(*then.all()[0], nullptr),
      Sentences{"f.proto: the file is gone; keep it; a change that cannot do so is a new package, bdh.v2, "
                "beside this one"});
}

}  // namespace
}  // namespace bdh::protos
