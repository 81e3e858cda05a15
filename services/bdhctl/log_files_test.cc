// Logs are read from their ends and followed through rotations without losing or repeating a line; several
// come out in the order of their times.
#include "services/bdhctl/log_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "services/bdhctl/log_printer.h"

namespace bdh::bdhctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LogFilesTest : public ::testing::Test {
 protected:
  void Append(std::string_view text) { std::ofstream(path_, std::ios::app) << text; }
  static void AppendTo(const std::string& path, std::string_view text) {
    std::ofstream(path, std::ios::app) << text;
  }

  // What a printer of these logs writes the first time.
  static std::string Printed(const std::vector<LogSource>& sources, size_t lines, LogStyle style) {
    char* text = nullptr;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    EXPECT_TRUE(LogPrinter(sources, lines, style, out).Print());
    fclose(out);
    std::string printed(text, size);
    free(text);
    return printed;
  }

  TempDirectory temp_;
  const std::string path_ = temp_.path() + "/log";
};

TEST_F(LogFilesTest, TheLastLinesAreThoseOfTheFileAndThenOfTheOneBefore) {
  EXPECT_THAT(ReadLastLines(path_, 3), IsEmpty());
  EXPECT_THAT(LastLines(path_, 3), HasSubstr("nothing in"));
  AppendTo(path_ + ".1", "one\ntwo\n");
  Append("three\nfour\nfi");
  EXPECT_THAT(ReadLastLines(path_, 1), ElementsAre("fi"));
  EXPECT_THAT(ReadLastLines(path_, 2), ElementsAre("four", "fi"));
  EXPECT_THAT(ReadLastLines(path_, 4), ElementsAre("two", "three", "four", "fi"));
  EXPECT_THAT(ReadLastLines(path_, 100), ElementsAre("one", "two", "three", "four", "fi"));
  EXPECT_EQ(LastLines(path_, 2), "    four\n    fi");
}

TEST_F(LogFilesTest, TheEndOfALargeFileIsFoundAcrossBlocks) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += absl::StrFormat("line %d %s\n", i, std::string(i % 13, 'x'));
  Append(text);
  const std::vector<std::string> last = ReadLastLines(path_, 15'000);
  ASSERT_EQ(last.size(), 15'000u);
  EXPECT_THAT(last.front(), HasSubstr("line 5000 "));
  EXPECT_THAT(last.back(), HasSubstr("line 19999 "));
}

TEST_F(LogFilesTest, AReaderFollowsThroughRotationsAndLosesNothing) {
  LogReader reader(path_);
  EXPECT_THAT(reader.Read(), IsEmpty());
  Append("one\ntw");
  EXPECT_THAT(reader.Read(), ElementsAre("one"));
  const std::ofstream::openmode append = std::ios::app;
  std::ofstream writer(path_, append);
  writer << "o\nthree\n" << std::flush;
  RotateLog(path_, {});
  // The daemon has not noticed yet, and another begins the new file.
  writer << "four\n" << std::flush;
  Append("five\n");
  EXPECT_THAT(reader.Read(), ElementsAre("two", "three", "four", "five"));
  Append("six\n");
  EXPECT_THAT(reader.Read(), ElementsAre("six"));
}

TEST_F(LogFilesTest, AReaderThatBeginsLateHasTheLastLinesAndAllThatCome) {
  AppendTo(path_ + ".1", "one\ntwo\n");
  Append("three\n");
  LogReader reader(path_, 2);
  Append("four\n");
  EXPECT_THAT(reader.Read(), ElementsAre("two", "three", "four"));
}

TEST_F(LogFilesTest, ALineWithoutEndIsCutInsteadOfFillingTheMemory) {
  Append(std::string(9 << 20, 'x'));
  LogReader reader(path_, 1);
  size_t bytes = 0;
  for (auto lines = reader.Read(); !lines.empty(); lines = reader.Read()) {
    for (const std::string& line : lines) bytes += line.size();
    EXPECT_LT(lines.front().size(), size_t{5} << 20);
  }
  EXPECT_EQ(bytes + reader.unfinished().size(), size_t{9} << 20);
}

TEST_F(LogFilesTest, AWriterRotatesByItselfAndKeepsAsManyAsItShould) {
  LogWriter writer(path_, {.file_bytes = 100, .files = 2});
  for (int i = 0; i < 20; ++i) writer.Write(absl::StrFormat("line %d, of some forty bytes", i));
  EXPECT_TRUE(std::filesystem::exists(path_ + ".2"));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".3"));
  EXPECT_THAT(ReadLastLines(path_, 1).at(0), HasSubstr("line 19"));
  EXPECT_LT(std::filesystem::file_size(path_), 200u);
  RotateLog(path_, {.files = 0});
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(LogFilesTest, TimesAreReadInEveryFormThatDaemonsWrite) {
  const absl::Time time = absl::FromUnixMillis(1795259847250);
  EXPECT_EQ(TimeOfLine("I20261121 11:17:27.250000 4711 server.cc:12] started"), time);
  EXPECT_EQ(TimeOfLine("2026-11-21T11:17:27.25+00:00 the mesh is up"), time);
  EXPECT_EQ(TimeOfLine(R"({"time": "2026-11-21T12:17:27.25+01:00", "text": "started"})"), time);
  for (const char* line :
       {"", "    indented", "{\"time\": 3}", "I am no time at all, whatever it may seem", "{"}) {
    EXPECT_EQ(TimeOfLine(line), std::nullopt) << line;
  }
}

TEST_F(LogFilesTest, SeveralLogsComeInTheOrderOfTheirTimesWithTheirNames) {
  const std::string other = temp_.path() + "/other";
  Append("2026-11-21T11:00:01+00:00 one\n    more of one\n2026-11-21T11:00:03+00:00 three\n");
  AppendTo(other, "2026-11-21T11:00:02+00:00 two\n");
  const std::vector<LogSource> sources{{"trainer", path_}, {"store", other}};
  EXPECT_EQ(Printed(sources, 10, LogStyle::kPlain),
            "trainer | 2026-11-21T11:00:01+00:00 one\n"
            "trainer |     more of one\n"
            "store   | 2026-11-21T11:00:02+00:00 two\n"
            "trainer | 2026-11-21T11:00:03+00:00 three\n");
  EXPECT_EQ(Printed(sources, 1, LogStyle::kPlain), "trainer | 2026-11-21T11:00:03+00:00 three\n");
  EXPECT_EQ(Printed(sources, 1, LogStyle::kColoured),
            "\033[36mtrainer |\033[0m 2026-11-21T11:00:03+00:00 three\n");
  EXPECT_EQ(Printed({{"store", other}}, 1, LogStyle::kPlain), "2026-11-21T11:00:02+00:00 two\n") << "alone";
  EXPECT_EQ(Printed(sources, 1, LogStyle::kJson),
            "{\"daemon\":\"trainer\",\"time\":\"2026-11-21T11:00:03+00:00\","
            "\"line\":\"2026-11-21T11:00:03+00:00 three\"}\n");
}

}  // namespace
}  // namespace bdh::bdhctl
