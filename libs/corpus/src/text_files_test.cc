// Proves which files a path means, that every one of their bytes arrives, and that what is no text file is
// refused by name instead of read for ever.
#include "bdh/corpus/text_files.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "bdh/base/file.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

using ::testing::ElementsAre;

class TextFilesTest : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, const std::string& text) {
    const std::string path = folder_.path() + "/" + name;
    EXPECT_TRUE(MakeDirectories(std::filesystem::path(path).parent_path()).ok());
    EXPECT_TRUE(WriteFileAtomically(path, text).ok());
    return path;
  }
  absl::Status Refusal(const std::vector<std::string>& paths) { return ListTextFiles(paths).status(); }

  TempDirectory folder_;
};

TEST_F(TextFilesTest, AFolderIsItsTextFilesInOrder) {
  Put("in/b.txt", "bb");
  Put("in/a.txt", "a");
  Put("in/deep/c.txt", "");
  Put("in/ignored.md", "x");
  const std::string single = Put("no-suffix", "four");
  BDH_ASSERT_OK_AND_ASSIGN(const auto files, ListTextFiles({single, folder_.path() + "/in"}));
  std::vector<std::string> names;
  for (const TextFile& file : files) names.push_back(file.path.substr(folder_.path().size()));
  EXPECT_THAT(names, ElementsAre("/no-suffix", "/in/a.txt", "/in/b.txt", "/in/deep/c.txt"));
  EXPECT_EQ(files[0].size_bytes, 4);
}

TEST_F(TextFilesTest, AFileArrivesWholeInPieces) {
  const std::string text = Noise((2 << 20) + 17);
  std::string got;
  size_t largest = 0;
  BDH_ASSERT_OK(ReadTextFile(Put("big.txt", text), [&](std::string_view piece) {
    got += piece;
    largest = std::max(largest, piece.size());
    return absl::OkStatus();
  }));
  EXPECT_EQ(got, text);
  EXPECT_LE(largest, size_t{1} << 20);
}

TEST_F(TextFilesTest, ReadingStopsAtTheFirstError) {
  int pieces = 0;
  const auto status = ReadTextFile(Put("big.txt", Noise(3 << 20)), [&](std::string_view) {
    ++pieces;
    return absl::CancelledError("enough");
  });
  EXPECT_EQ(status, absl::CancelledError("enough"));
  EXPECT_EQ(pieces, 1);
}

TEST_F(TextFilesTest, WrongSourcesAreRefusedByName) {
  const std::string file = Put("in/a.txt", "a");
  const std::string pipe = folder_.path() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_directory(folder_.path() + "/empty");
  const struct {
    std::vector<std::string> paths;
    absl::StatusCode code;
    const char* says;
  } kCases[] = {
      {{"in/a.txt"}, absl::StatusCode::kInvalidArgument, "'in/a.txt' is not an absolute path"},
      {{""}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{folder_.path() + "/none.txt"}, absl::StatusCode::kNotFound, "none.txt"},
      {{pipe}, absl::StatusCode::kInvalidArgument, "neither a regular file nor a folder"},
      {{"/dev/zero"}, absl::StatusCode::kInvalidArgument, "/dev/zero"},
      {{folder_.path() + "/empty"}, absl::StatusCode::kInvalidArgument, "has no *.txt"},
      {{file, file}, absl::StatusCode::kInvalidArgument, "given twice"},
      {{file, folder_.path() + "/in/../in"}, absl::StatusCode::kInvalidArgument, "given twice"},
  };
  for (const auto& test : kCases) {
    const auto status = Refusal(test.paths);
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
  EXPECT_FALSE(ReadTextFile(pipe, [](std::string_view) { return absl::OkStatus(); }).ok())
      << "and does not wait";
}

}  // namespace
}  // namespace bdh::corpus
