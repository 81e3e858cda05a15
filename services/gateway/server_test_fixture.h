// A gateway in front of a scripted bdh-inference, both on loopback.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "bdh/testing/status_matchers.h"
#include "services/gateway/http_test_client.h"
#include "services/gateway/scripted_inference.h"
#include "services/gateway/server.h"

namespace bdh::gateway {

using nlohmann::json;

inline constexpr char kCompletions[] = "/v1/completions";
inline constexpr char kChat[] = "/v1/chat/completions";

class GatewayTest : public ::testing::Test {
 protected:
  Server::Options Defaults() {
    Server::Options options;
    options.inference = inference_.address();
    options.listen.credentials = ScriptedInference::kToken;
    options.threads = 2;
    return options;
  }
  void Start(Server::Options options) {
    gateway_.reset();
    auto gateway = Server::Start(std::move(options));
    BDH_ASSERT_OK(gateway.status());
    gateway_ = *std::move(gateway);
  }
  void SetUp() override { Start(Defaults()); }

  int port() const { return gateway_->http_port(); }
  Answer Post(const std::string& path, const json& body, const std::string& headers = "") {
    return TestClient(port()).Post(path, body.dump(), headers);
  }
  Answer Complete(json body) { return Post(kCompletions, body); }
  // A chat with one message of the user.
  static json ChatBody(const std::string& model, const std::string& content) {
    return {{"model", model}, {"messages", json::array({{{"role", "user"}, {"content", content}}})}};
  }
  template <class Condition>
  static void Await(Condition condition) {
    for (int i = 0; i < 20000 && !condition(); ++i) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(condition());
  }

  ScriptedInference inference_;
  std::unique_ptr<Server> gateway_;
};

}  // namespace bdh::gateway
