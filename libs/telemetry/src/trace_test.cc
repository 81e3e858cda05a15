// Ids of a request: read as W3C's trace context says, made anew when they are not of that form, and in every
// log line of the thread that works for the request.

#include "bdh/telemetry/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace bdh::telemetry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Trace, ContinuesWhatItIsGiven) {
  const auto parsed = Trace::Parse(kParent);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->ids.trace_id, kTraceId);
  EXPECT_EQ(parsed->ids.span_id, "00f067aa0ba902b7");
  EXPECT_EQ(parsed->ToString(), kParent);
  const Trace step = Trace::Continue(kParent);
  EXPECT_EQ(step.ids.trace_id, kTraceId);
  EXPECT_NE(step.ids.span_id, parsed->ids.span_id) << "a step of its own";
  EXPECT_TRUE(Trace::Parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").has_value())
      << "a later version may be longer";
}

TEST(Trace, WhatIsNotOfThatFormBeginsANewOne) {
  for (const char* bad : {"", "hello", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                          "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                          "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"}) {
    EXPECT_FALSE(Trace::Parse(bad).has_value()) << bad;
    const Trace fresh = Trace::Continue(bad);
    EXPECT_TRUE(Trace::Parse(fresh.ToString()).has_value()) << fresh.ToString();
    EXPECT_NE(fresh.ids.trace_id, kTraceId);
  }
}

TEST(Trace, IsInTheLinesOfItsThreadWhileItsScopeLasts) {
  ::testing::internal::CaptureStderr();
  {
    const ScopedTrace outer(*Trace::Parse(kParent));
    {
      const ScopedTrace inner(Trace::New());
      EXPECT_NE(Trace::Current().ids.trace_id, kTraceId);
    }
    EXPECT_EQ(Trace::Current().ids.trace_id, kTraceId);
    BDH_LOG(INFO) << "within";
    std::thread([] { BDH_LOG(INFO) << "elsewhere"; }).join();
  }
  EXPECT_TRUE(Trace::Current().empty());
  BDH_LOG(INFO) << "after";
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(std::string("within trace=") + kTraceId + "\n"));
  EXPECT_THAT(log, HasSubstr("elsewhere\n"));
  EXPECT_THAT(log, HasSubstr("after\n"));
}

}  // namespace
}  // namespace bdh::telemetry
