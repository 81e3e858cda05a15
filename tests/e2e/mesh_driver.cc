#include "tests/e2e/mesh_driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace bdh::e2e {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(90);

template <class Condition>
bool WaitFor(Condition condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(50));
  }
  return true;
}

}  // namespace

std::string Binary(const std::string& name) {
  return std::string(BDH_BIN_DIR) + "/" + name;
}

MeshDriver::MeshDriver(const std::string& folder, const std::string& bdhctl)
    : data_(folder + "/mesh"), state_(folder + "/state"), bdhctl_(bdhctl) {}

MeshDriver::~MeshDriver() {
  Execute(Bdhctl({"down"}));
}

Command MeshDriver::BdhctlAnywhere(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), bdhctl_);
  return {.arguments = std::move(arguments),
          .input = "",
          .environment = {{"BDH_STATE_DIR", state_}, {"BDH_DATA", ""}}};
}

Command MeshDriver::Bdhctl(std::vector<std::string> arguments, const std::string& input) const {
  arguments.insert(arguments.end(), {"--data", data_});
  Command command = BdhctlAnywhere(std::move(arguments));
  command.input = input;
  return command;
}

Outcome MeshDriver::Do(std::vector<std::string> arguments, const std::string& input) const {
  return Execute(Bdhctl(std::move(arguments), input));
}

std::string MeshDriver::Ok(std::vector<std::string> arguments, const std::string& input) const {
  const std::string typed = absl::StrJoin(arguments, " ");
  const Outcome outcome = Do(std::move(arguments), input);
  EXPECT_EQ(outcome.exit_code, 0) << "bdhctl " << typed << "\n" << outcome.out << outcome.err;
  return outcome.out;
}

Json MeshDriver::OkJson(std::vector<std::string> arguments, const std::string& input) const {
  arguments.push_back("--json");
  const std::string out = Ok(std::move(arguments), input);
  Json json = Json::parse(out, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(json.is_discarded()) << out;
  return json.is_discarded() ? Json() : json;
}

Outcome MeshDriver::Up(std::vector<std::string> more) const {
  std::vector<std::string> arguments{"up", "--detach", "--set", "mesh.drain_timeout_seconds=5"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Do(std::move(arguments));
}

Json MeshDriver::Status() const {
  const Json status = Json::parse(Do({"status", "--json"}).out, nullptr, /*allow_exceptions=*/false);
  return status.is_object() ? status : Json::object();
}

bool MeshDriver::WaitUntilHealthy() const {
  return WaitFor([&] {
    const Json status = Status();
    return status.value("healthy", false) && status.value("state", "") == "up";
  });
}

Json MeshDriver::Daemon(const std::string& name) const {
  for (const Json& daemon : Status().value("daemons", Json::array())) {
    if (daemon.value("name", "") == name) return daemon;
  }
  return Json::object();
}

std::vector<pid_t> MeshDriver::Processes() const {
  std::ifstream file(data_ + "/mesh.json");
  const Json state = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object()) return {};
  std::vector<pid_t> processes{state.at("supervisor").at("pid").get<pid_t>()};
  for (const Json& daemon : state.at("daemons"))
    processes.push_back(daemon.at("process").at("pid").get<pid_t>());
  return processes;
}

bool AllGone(const std::vector<pid_t>& processes) {
  return WaitFor([&] { return std::all_of(processes.begin(), processes.end(), IsGone); });
}

}  // namespace bdh::e2e
