// The vocabulary of coordination's tests: a folder, a clock that the test moves, workers.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "bdh/store/coordination.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::store {

// For waits that are to wait as long as it takes.
inline absl::Status GoOn() {
  return absl::OkStatus();
}
// For waits that are to look once.
inline absl::Status TimeIsOver() {
  return absl::DeadlineExceededError("");
}

class CoordinationTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  Coordination::Options Options() {
    const auto clock = [this] {
      return absl::FromUnixSeconds(1'000'000) + absl::Milliseconds(now_ms_.load());
    };
    return {.folder = folder_.path() + "/coordination", .clock = clock, .steady_clock = clock};
  }
  void Reopen() { Reopen(Options()); }
  void Reopen(Coordination::Options options) {
    all_.reset();
    auto opened = Coordination::Open(std::move(options));
    ASSERT_TRUE(opened.ok()) << opened.status();
    all_ = *std::move(opened);
  }
  void Pass(absl::Duration time) { now_ms_ += absl::ToInt64Milliseconds(time); }

  // Registers and answers the lease, or "" where that fails.
  std::string Join(const std::string& worker, const GroupSpec& spec, const std::string& group = "runs/a") {
    const auto joined = all_->Register(group, spec, {.name = worker, .address = worker + ":1"});
    EXPECT_TRUE(joined.ok()) << joined.status();
    return joined.ok() ? joined->lease : "";
  }
  Group Look(const std::string& group = "runs/a") {
    const auto found = all_->GetGroup(group);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *found : Group();
  }
  // "3: a b c", with a question mark in front while the group forms.
  std::string Members(const std::string& group = "runs/a") {
    const Group found = Look(group);
    std::string text = absl::StrFormat("%s%d:", found.formed ? "" : "?", found.generation.number);
    for (const Member& member : found.generation.members) text += " " + member.worker.name;
    return text;
  }

  TempDirectory folder_;
  std::atomic<int64_t> now_ms_{0};
  std::unique_ptr<Coordination> all_;
};

}  // namespace bdh::store
