// Proves which files a path means, that the order is stable, what identifies them, and that what is no source
// is refused by name.
#include "bdh/documents/source_files.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "bdh/base/text.h"
#include "documents_testing.h"

namespace bdh::documents {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SourceFilesTest : public DocumentsTest {
 protected:
  std::vector<std::string> Names(const std::vector<std::string>& paths) {
    const auto list = ListSources(paths);
    EXPECT_TRUE(list.ok()) << list.status();
    std::vector<std::string> names;
    if (list.ok()) {
      for (const SourceFile& file : list->files) names.push_back(file.name);
    }
    return names;
  }
  std::string In(const std::string& path) { return folder_.path() + "/" + path; }
};

TEST_F(SourceFilesTest, AFolderIsItsTextFilesInOrder) {
  for (const char* const name : {"in/b.txt", "in/a.jsonl.gz", "in/deep/c.PARQUET", "in/d.md", "in/e.csv.zst",
                                 "in/x.png", "in/.hidden.txt", "in/.git/f.txt", "in/noend"}) {
    Put(name, "x");
  }
  std::filesystem::create_directory_symlink(In("in"), In("in/round"));
  EXPECT_THAT(Names({In("in")}), ElementsAre("a.jsonl.gz", "b.txt", "d.md", "deep/c.PARQUET", "e.csv.zst"));
  BDH_ASSERT_OK_AND_ASSIGN(const SourceList list, ListSources({In("in")}));
  EXPECT_EQ(list.skipped_files, 2);
  EXPECT_EQ(list.total_bytes(), 5);
  EXPECT_THAT(Names({In("in/noend"), In("in/deep")}), ElementsAre("noend", "c.PARQUET"));
}

TEST_F(SourceFilesTest, PatternsMatchNamesAndFolders) {
  for (const char* const name :
       {"p/a1.txt", "p/a2.txt", "p/b1.txt", "p/q/a3.txt", "p/q/r/a4.txt", "p/odd[1].txt"})
    Put(name, "x");
  EXPECT_THAT(Names({In("p/a*.txt")}), ElementsAre("a1.txt", "a2.txt"));
  EXPECT_THAT(Names({In("p/?[2-9].txt")}), ElementsAre("a2.txt"));
  EXPECT_THAT(Names({In("p/[!a]1.txt")}), ElementsAre("b1.txt"));
  EXPECT_THAT(Names({In("p/**/a*.txt")}), ElementsAre("a1.txt", "a2.txt", "q/a3.txt", "q/r/a4.txt"));
  EXPECT_THAT(Names({In("p/*/a*.txt")}), ElementsAre("q/a3.txt"));
  EXPECT_THAT(Names({In("p/odd[1].txt")}), ElementsAre("odd[1].txt")) << "a name that is there is itself";
}

TEST_F(SourceFilesTest, WrongSourcesAreRefusedByName) {
  const std::string file = Put("in/a.txt", "a"), pipe = In("pipe");
  Put("pictures/a.png", "x");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_directory(In("empty"));
  const struct {
    std::vector<std::string> paths;
    absl::StatusCode code;
    const char* says;
  } kCases[] = {
      {{"in/a.txt"}, absl::StatusCode::kInvalidArgument, "'in/a.txt' is not an absolute path"},
      {{""}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{In("none.txt")}, absl::StatusCode::kNotFound, "none.txt"},
      {{In("no*.txt")}, absl::StatusCode::kNotFound, "no file fits the pattern"},
      {{pipe}, absl::StatusCode::kInvalidArgument, "neither a regular file nor a folder"},
      {{"/dev/zero"}, absl::StatusCode::kInvalidArgument, "/dev/zero"},
      {{In("empty")}, absl::StatusCode::kInvalidArgument, "has no file that ends in .txt"},
      {{In("pictures")}, absl::StatusCode::kInvalidArgument, "(but 1 others)"},
      {{file, file}, absl::StatusCode::kInvalidArgument, "given twice"},
      {{file, In("in/../in")}, absl::StatusCode::kInvalidArgument, "given twice"},
  };
  for (const auto& test : kCases) {
    const auto status = ListSources(test.paths).status();
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.says));
  }
}

TEST_F(SourceFilesTest, WhatIdentifiesThem) {
  Put("one/a.txt", "same"), Put("two/a.txt", "same");
  BDH_ASSERT_OK_AND_ASSIGN(SourceList one, ListSources({In("one")}));
  BDH_ASSERT_OK_AND_ASSIGN(SourceList two, ListSources({In("two")}));
  BDH_ASSERT_OK(HashFiles(one.files));
  BDH_ASSERT_OK(HashFiles(two.files));
  EXPECT_EQ(one.files[0].sha256, Sha256Hex("same"));
  EXPECT_EQ(ManifestHash(one.files, "o"), ManifestHash(two.files, "o"))
      << "where a folder lies does not matter";
  EXPECT_NE(ManifestHash(one.files, "o"), ManifestHash(one.files, "p"));
  two.files[0].sha256 = "";
  EXPECT_NE(ManifestHash(one.files, "o"), ManifestHash(two.files, "o"));
  const std::string by_time = ManifestHash(two.files, "o");
  two.files[0].etag = "x";
  EXPECT_NE(ManifestHash(two.files, "o"), by_time);
}

TEST_F(SourceFilesTest, ChangesAreNoticed) {
  const std::string path = Put("a.txt", "one");
  BDH_ASSERT_OK_AND_ASSIGN(SourceList list, ListSources({path}));
  BDH_EXPECT_OK(CheckUnchanged(list.files[0]));
  SourceFile older = list.files[0];
  older.mtime_ns -= 1;
  EXPECT_THAT(std::string(CheckUnchanged(older).message()), HasSubstr("it was written at "));
  std::filesystem::remove(path);
  EXPECT_THAT(std::string(CheckUnchanged(list.files[0]).message()),
              HasSubstr("a.txt has changed since it was listed: it is gone"));
  EXPECT_FALSE(HashFiles(list.files).ok());
}

}  // namespace
}  // namespace bdh::documents
