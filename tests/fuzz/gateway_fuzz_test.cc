// No request body is understood half, and no bytes on the HTTP port stop the server: what is wrong gets a 4xx
// in words, what is right goes on being answered.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bdh/base/text.h"
#include "bdh/testing/status_matchers.h"
#include "services/gateway/http_server.h"
#include "services/gateway/http_test_client.h"
#include "services/gateway/openai_json.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

using gateway::ApiError;
using gateway::CompletionRequest;

constexpr std::string_view kCompletions[] = {
    R"({"model":"m","prompt":"p","max_tokens":5,"temperature":0.5,"stop":["a","b"],"stream":true})",
    R"({"model":"m","prompt":["p","q"],"n":2,"seed":7,"stream_options":{"include_usage":true},"top_p":1})",
    R"({"model":"m","prompt":[1,2,3],"echo":false,"user":"u","logit_bias":null})",
};
constexpr std::string_view kChats[] = {
    R"({"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"\u00e9\n"}],"n":1})",
    R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"c"}]}],"max_completion_tokens":3})",
};

Mutator JsonMutator(uint64_t seed) {
  return {seed,
          {"{",
           "}",
           "[",
           "]",
           ",",
           ":",
           "\"",
           "\\",
           "\\u0000",
           "\\ud800",
           "null",
           "true",
           "false",
           "-1",
           "0.5",
           "1e999",
           "2147483648",
           "9223372036854775808",
           "\"n\":",
           "\"prompt\":",
           "\"messages\":",
           "\"role\":",
           "\"stream\":true,",
           "[[[[[[[[",
           "\xff",
           "\xc3",
           "\n"}};
}

// Still JSON, but with one or two values of other kinds and sizes in it.
std::string WithOtherValues(const std::string& body, Mutator& mutator) {
  constexpr std::string_view kValues[] = {"null",
                                          "true",
                                          "0",
                                          "-1",
                                          "1",
                                          "2.5",
                                          "1e30",
                                          "129",
                                          "\"\"",
                                          "\"a\"",
                                          "\"\\ud83d\\ude00\"",
                                          "[]",
                                          "{}",
                                          "[\"a\"]",
                                          "[[1]]",
                                          "[1,2,255]",
                                          "{\"type\":\"text\"}",
                                          "9223372036854775807"};
  constexpr std::string_view kMore[] = {"n",       "seed",     "top_k", "presence_penalty",
                                        "best_of", "logprobs", "tools"};
  auto json = nlohmann::json::parse(body);
  for (uint64_t i = 1 + mutator.Below(2); i > 0; --i) {
    auto at = json.begin();
    std::advance(at, mutator.Below(json.size()));
    const std::string key = mutator.Below(4) == 0 ? std::string(mutator.Pick(kMore)) : at.key();
    json[key] = nlohmann::json::parse(mutator.Pick(kValues));
  }
  return json.dump();
}

// The request, or null after what must hold of an error.
const CompletionRequest* Checked(const std::variant<CompletionRequest, ApiError>& parsed,
                                 const std::string& body) {
  if (const auto* const error = std::get_if<ApiError>(&parsed)) {
    EXPECT_GE(error->status, 400) << body;
    EXPECT_LT(error->status, 500) << body;
    EXPECT_FALSE(error->message.empty()) << body;
    const std::string answer = gateway::ErrorBody(*error);
    EXPECT_TRUE(IsUtf8(answer)) << body;
    EXPECT_LT(answer.size(), 2000u) << body;
    return nullptr;
  }
  return std::get_if<CompletionRequest>(&parsed);
}

template <class Seeds, class Parse>
void ExpectStrict(uint64_t seed, const Seeds& seeds, Parse parse) {
  Mutator mutator = JsonMutator(seed);
  const int rounds = Rounds(4000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const std::string seed_body(mutator.Pick(seeds));
    const std::string body =
        mutator.Below(2) == 0 ? mutator.Mutated(seed_body) : WithOtherValues(seed_body, mutator);
    const auto parsed = parse(body);
    const CompletionRequest* const request = Checked(parsed, body);
    if (request == nullptr) continue;
    ++accepted;
    EXPECT_FALSE(request->model.empty()) << body;
    EXPECT_GE(request->choices(), 1) << body;
    EXPECT_LE(request->choices(), gateway::kMaxChoices) << body;
    for (int c = 0; c < request->choices(); ++c) {
      const v1::GenerateRequest choice = request->ForChoice(c);
      EXPECT_NE(choice.prompt_case(), v1::GenerateRequest::PROMPT_NOT_SET) << body;
      EXPECT_LE(choice.sampling().stop_size(), gateway::kMaxStops) << body;
      // What protobuf could not send is refused here.
      EXPECT_TRUE(IsUtf8(choice.text()) && IsUtf8(request->model) && IsUtf8(request->user)) << body;
    }
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations are too wild to test anything but the parser";
}

TEST(GatewayFuzz, CompletionsAreUnderstoodWholeOrRefused) {
  ExpectStrict(5, kCompletions, &gateway::ParseCompletion);
}

TEST(GatewayFuzz, ChatsAreUnderstoodWholeOrRefused) {
  ExpectStrict(6, kChats, &gateway::ParseChatCompletion);
}

constexpr std::string_view kRequests[] = {
    "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: "
    "close\r\n\r\nhi",
    "GET /echo?a=b HTTP/1.0\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
};

std::unique_ptr<gateway::HttpServer> StartEcho() {
  gateway::HttpServer::Options options;
  options.threads = 2;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 500;
  options.admit = [](const gateway::Request&) {
    return gateway::Admission{.route = "/echo",
                              .handler = [](const std::shared_ptr<gateway::Exchange>& exchange) {
                                exchange->Send({.body = exchange->request().body});
                              }};
  };
  options.make_error = [](int status, const std::string& message) {
    return gateway::Response{.status = status, .body = message};
  };
  auto server = gateway::HttpServer::Start(std::move(options));
  BDH_EXPECT_OK(server);
  return server.ok() ? *std::move(server) : nullptr;
}

TEST(GatewayFuzz, NoBytesStopTheHttpServer) {
  const auto server = StartEcho();
  ASSERT_NE(server, nullptr);
  Mutator mutator(7, {"\r\n",
                      "\n",
                      "\r\n\r\n",
                      "\r",
                      " ",
                      ":",
                      "GET",
                      "POST",
                      "HEAD",
                      "HTTP/9.9",
                      "Content-Length: ",
                      "Content-Length: 99999999999999999999\r\n",
                      "Transfer-Encoding: chunked\r\n",
                      "ffffffffffffffff",
                      "-1",
                      "0\r\n\r\n",
                      "\x16\x03\x01",
                      std::string_view("\0", 1),
                      "\xff",
                      "PRI * HTTP/2.0",
                      "Upgrade: websocket\r\n"});
  const int rounds = Rounds(600);
  int answered = 0;
  for (int i = 0; i < rounds; ++i) {
    gateway::TestClient client(server->port());
    client.Send(mutator.Mutated(std::string(mutator.Pick(kRequests))));
    client.FinishSending();
    const gateway::Answer answer = client.Read();
    if (answer.status == 0) continue;  // Cut short: there is nothing to answer.
    ++answered;
    EXPECT_TRUE(answer.status == 100 || answer.status == 200 || (answer.status >= 400 && answer.status < 600))
        << answer.status;
    EXPECT_NE(answer.status, 500);
  }
  EXPECT_GT(answered, rounds / 10);
  EXPECT_EQ(gateway::TestClient(server->port()).Post("/echo", "still here").body, "still here");
}

}  // namespace
}  // namespace bdh::fuzz
