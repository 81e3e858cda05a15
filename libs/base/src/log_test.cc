// What reaches the log: levels for all files or some, changed while the process runs; text and JSON, one line
// an event whatever is in it.

#include "bdh/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/testing/status_matchers.h"

namespace bdh {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    BDH_EXPECT_OK(SetLogLevels("info"));
    SetLogFormat(LogFormat::kText);
  }

  template <class Action>
  static std::string Logged(Action action) {
    ::testing::internal::CaptureStderr();
    action();
    return ::testing::internal::GetCapturedStderr();
  }
  static bool Wants(const char* file, LogSeverity severity) { return log_internal::Enabled(file, severity); }
};

TEST_F(LogTest, DebugLinesAreLeftOutUntilTheyAreWanted) {
  int formatted = 0;
  const auto log = [&] { BDH_LOG(DEBUG) << "number " << ++formatted; };
  EXPECT_EQ(Logged(log), "");
  EXPECT_EQ(formatted, 0) << "what is not wanted costs nothing";
  BDH_ASSERT_OK(SetLogLevels("debug"));
  EXPECT_THAT(Logged(log), HasSubstr("number 1"));
}

TEST_F(LogTest, AModuleIsAFileOrAFolder) {
  BDH_ASSERT_OK(SetLogLevels("warning,gateway=debug,http_server=error,mesh=info"));
  EXPECT_EQ(LogLevels(), "warning,gateway=debug,http_server=error,mesh=info");
  EXPECT_FALSE(Wants("services/inference/service.cc", LogSeverity::kInfo));
  EXPECT_TRUE(Wants("services/inference/service.cc", LogSeverity::kWarning));
  EXPECT_TRUE(Wants("services/gateway/service.cc", LogSeverity::kDebug));
  EXPECT_TRUE(Wants("/build/libs/mesh/src/gate.cc", LogSeverity::kInfo));
  EXPECT_FALSE(Wants("services/gateway/http_server.cc", LogSeverity::kWarning))
      << "a file counts over its folder";
  EXPECT_TRUE(Wants("services/gateway/http_server.cc", LogSeverity::kError));
}

TEST_F(LogTest, WhatIsNoLevelIsRefusedAndNothingChanges) {
  BDH_ASSERT_OK(SetLogLevels("error"));
  for (const char* bad : {"", "loud", "gateway=", "=debug", "info,,", "info,gateway=loud"}) {
    const absl::Status status = SetLogLevels(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("want debug, info, warning or error"));
    EXPECT_EQ(LogLevels(), "error") << bad;
  }
}

TEST_F(LogTest, TextIsForPeople) {
  const std::string line = Logged([] {
    BDH_LOG(WARNING) << "disk is full path="
                     << "/x";
  });
  EXPECT_THAT(line, StartsWith("W"));
  EXPECT_THAT(line, EndsWith("] disk is full path=/x\n"));
  EXPECT_THAT(line, HasSubstr(" log_test.cc:"));
}

TEST_F(LogTest, JsonIsOneObjectALineWhateverIsInIt) {
  SetLogFormat(LogFormat::kJson);
  const ScopedLogTrace trace({.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736", .span_id = "00f067aa0ba902b7"});
  const std::string line = Logged([] { BDH_LOG(ERROR) << "a \"quote\"\n\x01 and ü"; });
  EXPECT_THAT(line, MatchesRegex("\\{\"time\":\"[0-9T:.-]*Z\",\"severity\":\"ERROR\",\"daemon\":.*\\}\n"));
  EXPECT_THAT(line, HasSubstr(R"("message":"a \"quote\"\u000a\u0001 and ü")"));
  EXPECT_THAT(line,
              HasSubstr(R"("trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"})"));
  EXPECT_THAT(Logged([] { BDH_LOG(INFO) << "\xff\xfe"; }), HasSubstr(R"(\u00ff\u00fe)")) << "no UTF-8";
}

}  // namespace
}  // namespace bdh
