// What bdhctl prints: tables line up whatever is in them, JSON is what scripts expect of the protos, and
// progress suits a log.
#include "services/bdhctl/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/testing/temp_directory.h"
#include "bdh/v1/config.pb.h"
#include "bdh/v1/trainer.pb.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/proto_json.h"
#include "services/bdhctl/train_watch.h"

namespace bdh::bdhctl {
namespace {

TEST(TableTest, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({"NAME", ">BYTES", "NOTE"});
  table.Add({"a", "12345678", ""});
  table.Add({"longer", "1", "x"});
  EXPECT_EQ(table.ToString(),
            "NAME       BYTES  NOTE\n"
            "a       12345678\n"
            "longer         1  x\n");
}

TEST(TableTest, CharactersCountNotBytes) {
  Table table({"A", "B"});
  table.Add({"\xc3\xa4\xc3\xb6", "x"});
  EXPECT_EQ(table.ToString(), "A   B\n\xc3\xa4\xc3\xb6  x\n");
}

TEST(TableTest, WithoutRowsTheHeadingsStand) {
  EXPECT_EQ(Table({"A", ">B"}).ToString(), "A  B\n");
}

TEST(BarTest, ShowsTheFractionAndNeverMoreThanAll) {
  EXPECT_EQ(Bar(0, 4), "[----]");
  EXPECT_EQ(Bar(0.5, 4), "[##--]");
  EXPECT_EQ(Bar(7, 4), "[####]");
  EXPECT_EQ(Bar(-1, 4), "[----]");
}

TEST(ProgressLineTest, ALogGetsALineNowAndThenNotEveryOne) {
  FILE* log = std::tmpfile();
  {
    ProgressLine line(log, absl::Hours(1));
    line.Show("first");
    line.Show("skipped");
    line.Show("last", /*important=*/true);
    line.Print("saved");
  }
  std::rewind(log);
  char text[256] = {};
  const size_t size = std::fread(text, 1, sizeof(text), log);
  std::fclose(log);
  EXPECT_EQ(std::string(text, size), "first\nlast\nsaved\n");
}

TEST(ProgressTextTest, SaysStepLossSpeedAndTimeLeft) {
  v1::Progress progress;
  progress.set_step(450);
  progress.set_max_steps(1000);
  progress.set_train_loss(1.8249);
  progress.set_tokens_per_second(3100);
  progress.set_seconds_left(80);
  EXPECT_THAT(ProgressText(progress), ::testing::StartsWith("step 450/1000  loss 1.825  3.1k tok/s"));
  EXPECT_THAT(ProgressText(progress), ::testing::EndsWith(" left"));
  progress.set_validation_loss(1.9);
  EXPECT_THAT(ProgressText(progress), ::testing::HasSubstr("val 1.900"));
}

TEST(ProtoJsonTest, NumbersAreNumbersEnumsAreWordsAndTimesAreRfc3339) {
  v1::Run run;
  run.set_name("r");
  run.set_state(v1::Run::STATE_RUNNING);
  run.set_parameter_count(int64_t{1} << 40);
  run.mutable_start_time()->set_seconds(0);
  run.mutable_progress()->set_step(7);
  const auto json = ToJson(run);
  EXPECT_EQ(json.at("name"), "r");
  EXPECT_EQ(json.at("state"), "running");
  EXPECT_EQ(json.at("parameter_count"), int64_t{1} << 40);
  EXPECT_EQ(json.at("start_time"), "1970-01-01T00:00:00+00:00");
  EXPECT_EQ(json.at("progress").at("step"), 7);
  EXPECT_FALSE(json.at("progress").contains("validation_loss"));
}

TEST(ProtoJsonTest, SecretsAreNotPrinted) {
  v1::Config config;
  config.mutable_gateway()->add_api_keys("hush");
  EXPECT_EQ(ToJson(config).at("gateway").at("api_keys").at(0), "***");
}

TEST(ExitCodeTest, TellsScriptsWhatToDo) {
  EXPECT_EQ(ExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCode(absl::NotFoundError("")), 1);
  EXPECT_EQ(ExitCode(absl::InvalidArgumentError("")), 2);
  EXPECT_EQ(ExitCode(absl::UnavailableError("")), 3);
  EXPECT_EQ(ExitCode(absl::UnauthenticatedError("")), 3);
}

}  // namespace
}  // namespace bdh::bdhctl
