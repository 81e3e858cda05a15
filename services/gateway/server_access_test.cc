// Proves the gateway around generation, against a real gRPC server: its other endpoints, who is let in, what
// a server without keys refuses, limits, and how it shuts down.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "bdh/mesh/peer.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/gateway/server_test_fixture.h"

namespace bdh::gateway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// ---- Other endpoints

TEST_F(GatewayTest, ListsModelsAndFindsOne) {
  TestClient client(port());
  const json list = json::parse(client.Get("/v1/models").body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], "echo");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["created"], 1700000000);
  EXPECT_EQ(list["data"][0]["owned_by"], "bdh");
  for (const char* path : {"/v1/models/runs/a:b/1", "/v1/models/runs%2Fa%3Ab%2F1"}) {
    EXPECT_EQ(json::parse(client.Get(path).body)["id"], "runs/a:b/1") << path;
  }
  const Answer missing = client.Get("/v1/models/nobody");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(json::parse(missing.body)["error"]["code"], "model_not_found");
}

TEST_F(GatewayTest, ProbesMetricsAndHint) {
  TestClient client(port());
  EXPECT_EQ(client.Get("/healthz").body, "ok\n");
  EXPECT_EQ(client.Get("/readyz").body, "ready: 2 models loaded\n");
  EXPECT_THAT(client.Get("/").body, HasSubstr("/v1/chat/completions"));
  EXPECT_EQ(client.Get("/nowhere").status, 404);
  const std::string metrics = client.Get("/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("bdh_gateway_requests_total{code=\"200\",path=\"/healthz\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("bdh_gateway_requests_total{code=\"404\",path=\"other\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("bdh_gateway_active_connections 1"));
}

TEST_F(GatewayTest, WrongPathsAndMethodsHaveOpenAisShape) {
  TestClient client(port());
  const Answer path = client.Get("/v1/nothing");
  EXPECT_EQ(path.status, 404);
  EXPECT_THAT(json::parse(path.body)["error"]["message"], HasSubstr("Invalid URL (GET /v1/nothing)"));
  const Answer method = client.Get(kChat);
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.headers.at("allow"), "POST");
  EXPECT_EQ(json::parse(method.body)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(client.Request("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
}

TEST_F(GatewayTest, BodiesOfTheServerItselfHaveOpenAisShapeToo) {
  auto options = Defaults();
  options.max_body_bytes = 1024;
  Start(options);
  const Answer large = Complete({{"model", "echo"}, {"prompt", std::string(2000, 'x')}});
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(json::parse(large.body)["error"]["type"], "invalid_request_error");
  const Answer broken = TestClient(port()).Request("nonsense\r\n\r\n");
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(json::parse(broken.body)["error"].size(), 4u);
}

TEST_F(GatewayTest, BodiesMustFitIntoAMessageOfTheMesh) {
  auto options = Defaults();
  options.max_body_bytes = options.listen.max_message_bytes;
  const auto refused = Server::Start(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("gateway.max_body_bytes is 8388608"), HasSubstr("want at most 8384512"),
                    HasSubstr("mesh.max_message_bytes to at least 8392704")));
  options.max_body_bytes = 8384512;
  Start(options);
  // The longest body there can be comes through.
  const std::string frame = R"({"model":"echo","max_tokens":1,"prompt":""})";
  const Answer answer = Complete({{"model", "echo"},
                                  {"max_tokens", 1},
                                  {"prompt", std::string(options.max_body_bytes - frame.size(), 'x')}});
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(GatewayTest, FormsAreNotJson) {
  const std::string body = R"({"model":"echo","prompt":"x"})";
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 29\r\n";
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n";
  const Answer refused = TestClient(port()).Request(head + form + body);
  EXPECT_EQ(refused.status, 415);
  EXPECT_THAT(refused.body, HasSubstr("-H 'Content-Type: application/json'"));
  EXPECT_EQ(TestClient(port()).Request(head + "\r\n" + body).status, 200);
  EXPECT_EQ(TestClient(port())
                .Request(head + "Content-Type: Application/JSON; charset=utf-8\r\n\r\n" + body)
                .status,
            200);
}

TEST_F(GatewayTest, AnswersTheMeshToo) {
  EXPECT_EQ(Complete({{"model", "echo"}, {"prompt", "x"}}).status, 200);
  const mesh::Peer peer("bdh-gateway", gateway_->address(), ScriptedInference::kToken);
  const auto stub = v1::MeshService::NewStub(peer.channel());
  absl::StatusOr<v1::GetStatusResponse> status;
  Await([&] {  // The answer is out a moment before its request is counted as ended.
    status = peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(20));
    return !status.ok() || status->key_figure() == "1 requests, 0 open";
  });
  BDH_ASSERT_OK(status.status());
  EXPECT_EQ(status->daemon(), "bdh-gateway");
  EXPECT_TRUE(status->ready());
  EXPECT_EQ(status->key_figure(), "1 requests, 0 open");
  EXPECT_EQ(gateway_->public_address(), absl::StrFormat("http://127.0.0.1:%d", port()));
}

// ---- Keys and addresses

TEST_F(GatewayTest, KeysAreAskedForUnderV1Only) {
  auto options = Defaults();
  options.api_keys = {"sk-first-key-1234", "sk-second-key-5678"};
  Start(options);
  const json request = {{"model", "request"}, {"prompt", "x"}};
  for (const char* header :
       {"", "Authorization: Bearer sk-wrong-key-9999\r\n", "Authorization: Basic abc\r\n",
        "Authorization: Bearer \r\n", "Authorization: Bearer sk-first-key-123\r\n"}) {
    const Answer answer = Post(kCompletions, request, header);
    EXPECT_EQ(answer.status, 401) << header;
    EXPECT_EQ(answer.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(json::parse(answer.body)["error"]["code"], "invalid_api_key");
    EXPECT_EQ(answer.body.find("sk-wrong-key-9999"), answer.body.npos);
  }
  EXPECT_EQ(TestClient(port()).Get("/v1/models").status, 401);
  EXPECT_EQ(TestClient(port()).Get("/healthz").status, 200);
  const Answer first = Post(kCompletions, request, "Authorization: Bearer sk-first-key-1234\r\n");
  const Answer second = Post(kCompletions, request, "authorization: bearer sk-second-key-5678\r\n");
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(second.status, 200);
  EXPECT_THAT(first.body, HasSubstr("tenant: \\\"key-"));
  EXPECT_EQ(first.body.find("sk-first"), first.body.npos);
  EXPECT_NE(json::parse(first.body)["choices"], json::parse(second.body)["choices"]);  // Two tenants.
}

TEST_F(GatewayTest, WithoutKeysOnlyLoopbackIsListenedOn) {
  auto options = Defaults();
  options.http_listen = "0.0.0.0:0";
  const auto refused = Server::Start(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  for (const char* hint :
       {"gateway.http_listen", "0.0.0.0", "gateway.api_keys", "127.0.0.1", "gateway.insecure=true"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(hint));
  }
  options.insecure = true;
  BDH_EXPECT_OK(Server::Start(options));
  options.insecure = false;
  options.api_keys = {"key"};
  BDH_EXPECT_OK(Server::Start(options));
  options.api_keys = {"no good\n"};
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GatewayTest, WithoutKeysOtherHostNamesAreRefused) {
  const auto get = [&](const std::string& host) {
    return TestClient(port()).Request("GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
  };
  for (const char* host :
       {"localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "a.localhost"}) {
    EXPECT_EQ(get(host), 200) << host;
  }
  for (const char* host :
       {"evil.example", "evil.example:8000", "localhost.evil.example", "cafe", "12.evil.de"}) {
    EXPECT_EQ(get(host), 403) << host;
  }
}

TEST_F(GatewayTest, BrowsersAreLetInOnlyWhenConfigured) {
  EXPECT_EQ(TestClient(port()).Get("/v1/models").headers.count("access-control-allow-origin"), 0u);
  auto options = Defaults();
  options.cors_allow_origin = "https://chat.example.org";
  options.api_keys = {"key"};
  Start(options);
  const Answer preflight = TestClient(port()).Request(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example.org\r\n"
      "Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), "https://chat.example.org");
  EXPECT_EQ(preflight.headers.at("access-control-allow-headers"),
            "authorization,content-type,x-stainless-os");
  EXPECT_EQ(TestClient(port()).Get("/v1/models").headers.at("access-control-allow-origin"),
            "https://chat.example.org");
}

// ---- Drain

TEST_F(GatewayTest, DrainWaitsForOpenGenerations) {
  TestClient client(port());
  client.Send(TestClient::PostText(kCompletions, R"({"model":"held","prompt":"x"})"));
  Await([&] { return inference_.running() == 1; });
  std::thread drain([&] { gateway_->Drain(absl::Seconds(20)); });
  inference_.Release();
  const Answer answer = client.Read();
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("done"));
  drain.join();
}

TEST_F(GatewayTest, DrainEndsStreamsThatTakeTooLongWithAnErrorEvent) {
  TestClient client(port());
  client.Send(TestClient::PostText(kCompletions, R"({"model":"slow","prompt":"x","stream":true})"));
  EXPECT_EQ(client.ReadHead().status, 200);
  EXPECT_THAT(client.ReadChunk(), HasSubstr("part"));
  gateway_->Drain(absl::Seconds(1));
  const std::string rest = client.ReadToEnd();
  EXPECT_THAT(rest, HasSubstr("shutting down"));
  EXPECT_THAT(rest, HasSubstr("data: [DONE]\n\n"));
  Await([&] { return inference_.running() == 0; });
}

}  // namespace
}  // namespace bdh::gateway
