// Proves the gateway against a real gRPC server: what an OpenAI client sends to generate, and every byte it
// gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "services/gateway/server_test_fixture.h"

namespace bdh::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The events of a stream, which must be nothing but "data:" lines.
std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    EXPECT_NE(end, body.npos) << "an event without its end: " << body.substr(at);
    const std::string event = body.substr(at, end - at);
    EXPECT_THAT(event, StartsWith("data: "));
    EXPECT_EQ(event.find('\n'), event.npos) << event;
    events.push_back(event.substr(6));
    if (end == body.npos) break;
    at = end + 2;
  }
  return events;
}

// ---- Plain answers

TEST_F(GatewayTest, CompletionHasEveryRequiredField) {
  const Answer answer = Complete({{"model", "echo"}, {"prompt", "hé"}, {"max_tokens", 5}});
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  EXPECT_EQ(answer.headers.count("openai-processing-ms"), 1u);
  json body = json::parse(answer.body);
  EXPECT_THAT(body["id"], StartsWith("cmpl-"));
  EXPECT_GT(body["created"], 1700000000);
  body.erase("id");
  body.erase("created");
  EXPECT_EQ(body,
            json::parse(R"({"object":"text_completion","model":"echo","system_fingerprint":"fp_0123456789ab",
    "choices":[{"text":"hé","index":0,"logprobs":null,"finish_reason":"stop"}],
    "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}})"));
}

TEST_F(GatewayTest, ChatHasEveryRequiredField) {
  json request = ChatBody("echo", "hello");
  request["max_tokens"] = 100;
  request["max_completion_tokens"] = 4;
  const Answer answer = Post(kChat, request);
  ASSERT_EQ(answer.status, 200) << answer.body;
  json body = json::parse(answer.body);
  EXPECT_THAT(body["id"], StartsWith("chatcmpl-"));
  body.erase("id");
  body.erase("created");
  EXPECT_EQ(body,
            json::parse(R"({"object":"chat.completion","model":"echo","system_fingerprint":"fp_0123456789ab",
    "choices":[{"index":0,"message":{"role":"assistant","content":"hell","refusal":null},"logprobs":null,
    "finish_reason":"length"}],
    "usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}})"));
}

TEST_F(GatewayTest, PassesEveryParameterOn) {
  const Answer answer = Complete({{"model", "request"},
                                  {"prompt", "p"},
                                  {"max_tokens", 7},
                                  {"temperature", 0.5},
                                  {"top_p", 0.25},
                                  {"top_k", 3},
                                  {"seed", -9},
                                  {"stop", {"a", "b"}},
                                  {"user", "ann"}});
  EXPECT_EQ(json::parse(answer.body)["choices"][0]["text"],
            "model: \"request\" text: \"p\" sampling { temperature: 0.5 top_k: 3 top_p: 0.25 seed: -9 "
            "max_tokens: 7 "
            "stop: \"a\" stop: \"b\" } tenant: \"anonymous/ann\"");
}

TEST_F(GatewayTest, LeavesOutWhatTheClientLeftOut) {
  const Answer answer = Complete({{"model", "request"}, {"prompt", {65, 66}}, {"max_tokens", nullptr}});
  EXPECT_EQ(json::parse(answer.body)["choices"][0]["text"],
            "model: \"request\" tokens { ids: 65 ids: 66 } sampling { } tenant: \"anonymous\"");
}

TEST_F(GatewayTest, ChatPassesRolesAndJoinsTextParts) {
  const json request = json::parse(R"({"model":"request","messages":[{"role":"system","content":"be"},
    {"role":"user","content":[{"type":"text","text":"one "},{"type":"text","text":"two"}]},
    {"role":"assistant","content":"three","refusal":null,"tool_calls":null}]})");
  const Answer answer = Post(kChat, request);
  EXPECT_THAT(
      json::parse(answer.body)["choices"][0]["message"]["content"],
      HasSubstr(
          "chat { messages { role: \"system\" content: \"be\" } messages { role: \"user\" content: \"one "
          "two\" } messages { role: \"assistant\" content: \"three\" } }"));
}

TEST_F(GatewayTest, ChoicesArePromptsTimesN) {
  const Answer answer = Complete({{"model", "echo"}, {"prompt", {"ab", "cd", "ef"}}, {"n", 2}});
  const json body = json::parse(answer.body);
  ASSERT_EQ(body["choices"].size(), 6u);
  const char* texts[] = {"ab", "ab", "cd", "cd", "ef", "ef"};
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], texts[i]);
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 6);  // Each prompt once.
  EXPECT_EQ(body["usage"]["completion_tokens"], 12);
}

TEST_F(GatewayTest, PromptsMayBeTokens) {
  const Answer answer = Complete({{"model", "echo"}, {"prompt", json::parse("[[104,105],[33]]")}});
  const json body = json::parse(answer.body);
  EXPECT_EQ(body["choices"][0]["text"], "hi");
  EXPECT_EQ(body["choices"][1]["text"], "!");
}

TEST_F(GatewayTest, EachChoiceHasItsOwnSeed) {
  const Answer answer = Complete({{"model", "seed"}, {"prompt", {"a", "b"}}, {"n", 2}, {"seed", INT64_MAX}});
  const json body = json::parse(answer.body);
  const char* texts[] = {"seed=9223372036854775807", "seed=-9223372036854775808", "seed=-9223372036854775807",
                         "seed=-9223372036854775806"};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(body["choices"][i]["text"], texts[i]);
}

TEST_F(GatewayTest, ManyChoicesAreNotAllGeneratedAtOnce) {
  const Answer answer = Complete({{"model", "echo"}, {"prompt", "abc"}, {"n", 128}});
  const json body = json::parse(answer.body);
  ASSERT_EQ(body["choices"].size(), 128u);
  for (const json& choice : body["choices"]) EXPECT_EQ(choice["text"], "abc");
  EXPECT_LE(inference_.most_at_once(), 8);
}

TEST_F(GatewayTest, EchoPutsThePromptFirst) {
  EXPECT_EQ(
      json::parse(Complete({{"model", "echo"}, {"prompt", "ab"}, {"echo", true}}).body)["choices"][0]["text"],
      "abab");
  const Answer stream = Complete({{"model", "echo"}, {"prompt", "ab"}, {"echo", true}, {"stream", true}});
  std::string text;
  for (const auto& event : Events(stream.body)) {
    if (event != "[DONE]") text += json::parse(event)["choices"][0]["text"];
  }
  EXPECT_EQ(text, "abab");
}

// ---- Streams

TEST_F(GatewayTest, ChatStreamIsExactToTheByte) {
  json request = ChatBody("echo", "a\n");
  request["stream"] = true;
  request["stream_options"] = {{"include_usage", true}};
  const Answer answer = Post(kChat, request);
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.headers.at("content-type"), StartsWith("text/event-stream"));
  EXPECT_EQ(answer.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(answer.headers.at("x-accel-buffering"), "no");
  EXPECT_TRUE(answer.complete);
  const json first = json::parse(Events(answer.body).at(0));
  const std::string head = "data: {\"id\":" + first["id"].dump() +
                           ",\"object\":\"chat.completion.chunk\",\"created\":" + first["created"].dump() +
                           ",\"model\":\"echo\",\"system_fingerprint\":\"fp_0123456789ab\",\"choices\":[";
  const auto chunk = [&](const std::string& delta, const std::string& reason) {
    return head + "{\"index\":0,\"delta\":" + delta + ",\"logprobs\":null,\"finish_reason\":" + reason +
           "}],\"usage\":null}\n\n";
  };
  EXPECT_EQ(answer.body, chunk(R"({"role":"assistant","content":""})", "null") +
                             chunk(R"({"content":"a"})", "null") + chunk(R"({"content":"\n"})", "null") +
                             chunk("{}", "\"stop\"") + head +
                             "],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2,\"total_tokens\":4,"
                             "\"prompt_tokens_details\":{\"cached_tokens\":1}}}\n\n" +
                             "data: [DONE]\n\n");
}

TEST_F(GatewayTest, CompletionStreamWithoutUsageSaysNothingOfIt) {
  const Answer answer =
      Complete({{"model", "echo"}, {"prompt", "日本"}, {"stream", true}, {"max_tokens", 1}});
  const auto events = Events(answer.body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2], "[DONE]");
  json first = json::parse(events[0]), last = json::parse(events[1]);
  EXPECT_EQ(first["choices"],
            json::parse(R"([{"text":"日","index":0,"logprobs":null,"finish_reason":null}])"));
  EXPECT_EQ(last["choices"],
            json::parse(R"([{"text":"","index":0,"logprobs":null,"finish_reason":"length"}])"));
  EXPECT_EQ(first.count("usage"), 0u);
  EXPECT_EQ(first["id"], last["id"]);
}

TEST_F(GatewayTest, StreamedChoicesTogetherEqualThePlainAnswer) {
  json request = {{"model", "echo"}, {"prompt", {"first", "second", "third"}}, {"n", 3}, {"max_tokens", 5}};
  const json plain = json::parse(Complete(request).body);
  request["stream"] = true;
  const Answer stream = Complete(request);
  std::map<int, std::string> texts;
  std::map<int, int> finishes;
  for (const auto& event : Events(stream.body)) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    texts[choice["index"]] += choice["text"];
    finishes[choice["index"]] += !choice["finish_reason"].is_null();
  }
  ASSERT_EQ(texts.size(), 9u);
  for (const json& choice : plain["choices"]) {
    EXPECT_EQ(texts[choice["index"]], choice["text"]);
    EXPECT_EQ(finishes[choice["index"]], 1);
  }
}

TEST_F(GatewayTest, ASilentStreamIsKeptOpenByComments) {
  auto options = Defaults();
  options.ping = absl::Milliseconds(20);
  Start(options);
  TestClient client(port());
  client.Send(TestClient::PostText(kCompletions, R"({"model":"held","prompt":"x","stream":true})"));
  EXPECT_EQ(client.ReadHead().status, 200);
  EXPECT_EQ(client.ReadChunk(), ":\n\n");
  EXPECT_EQ(client.ReadChunk(), ":\n\n");
  inference_.Release();
  std::string chunk;
  while ((chunk = client.ReadChunk()) == ":\n\n") {
  }
  EXPECT_THAT(chunk, HasSubstr("\"text\":\"done\""));
}

TEST_F(GatewayTest, AnErrorAfterTheFirstWordsIsAnEventAndThenDone) {
  const Answer answer = Complete({{"model", "late/8"}, {"prompt", "x"}, {"stream", true}});
  EXPECT_EQ(answer.status, 200);
  const auto events = Events(answer.body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(json::parse(events[0])["choices"][0]["text"], "begun");
  EXPECT_EQ(json::parse(events[1])["error"]["code"], "rate_limit_exceeded");
  EXPECT_EQ(events[2], "[DONE]");
  EXPECT_TRUE(answer.complete);
}

TEST_F(GatewayTest, AnErrorBeforeTheFirstWordsIsAStatus) {
  const Answer answer = Complete({{"model", "fail/8"}, {"prompt", "x"}, {"stream", true}});
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
}

// ---- Clients that leave or do not read

TEST_F(GatewayTest, AClientThatLeavesEndsTheGeneration) {
  for (const char* stream : {"true", "false"}) {
    const int before = inference_.cancelled();
    TestClient client(port());
    client.Send(TestClient::PostText(
        kCompletions, absl::StrFormat(R"({"model":"silent","prompt":"x","n":3,"stream":%s})", stream)));
    Await([&] { return inference_.running() == 3; });
    client.Close();
    Await([&] { return inference_.running() == 0; });
    EXPECT_EQ(inference_.cancelled(), before + 3) << stream;
  }
}

TEST_F(GatewayTest, OneFailedChoiceEndsTheOthers) {
  // The model name is shared, so the failure comes from a deadline instead: see also EveryStatus below.
  auto options = Defaults();
  options.request_timeout = absl::Milliseconds(200);
  Start(options);
  const Answer answer = Complete({{"model", "silent"}, {"prompt", "x"}, {"n", 4}});
  EXPECT_EQ(answer.status, 504);
  Await([&] { return inference_.running() == 0; });
}

TEST_F(GatewayTest, ASlowReaderSlowsTheGeneration) {
  TestClient client(port(), /*receive_buffer_bytes=*/16384);
  client.Send(TestClient::PostText(kCompletions, R"({"model":"flood","prompt":"x","stream":true})"));
  ASSERT_EQ(client.ReadHead().status, 200);
  int before = -1;
  while (before != inference_.flood_messages()) {
    before = inference_.flood_messages();
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_LT(before, 500);  // Of 64 KiB: what kernels and gRPC's flow control windows hold, and no more.
  int64_t read = 0;
  while (read < 8 << 20) read += static_cast<int64_t>(client.ReadChunk().size());
  EXPECT_GT(inference_.flood_messages(), before);
  client.Close();
  Await([&] { return inference_.running() == 0; });
}

TEST_F(GatewayTest, AGenerationThatTakesTooLongEndsWithWhatItHas) {
  auto options = Defaults();
  options.request_timeout = absl::Seconds(3);  // Enough for the first words on any machine.
  Start(options);
  const json plain = json::parse(Complete({{"model", "slow"}, {"prompt", "x"}}).body);
  EXPECT_EQ(plain["choices"][0]["text"], "part");
  EXPECT_EQ(plain["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(plain["usage"]["completion_tokens"], 4);
  const auto events = Events(Complete({{"model", "slow"}, {"prompt", "x"}, {"stream", true}}).body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(json::parse(events[1])["choices"][0]["finish_reason"], "length");
}

TEST_F(GatewayTest, SixtyFourClientsAtOnceAllGetTheirOwnAnswer) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&, i] {
      const std::string text = absl::StrFormat("client-%d", i);
      const bool stream = i % 2 == 0;
      json request = ChatBody("echo", text);
      request["stream"] = stream;
      const Answer answer = Post(kChat, request);
      std::string got;
      if (!stream) got = json::parse(answer.body)["choices"][0]["message"]["content"];
      for (const auto& event : stream ? Events(answer.body) : std::vector<std::string>()) {
        if (event != "[DONE]") got += json::parse(event)["choices"][0]["delta"].value("content", "");
      }
      right += got == text;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 64);
}

// ---- Errors of the mesh

struct StatusCase {
  int code;
  int status;
  const char *type, *param, *error_code;  // "" is null.
  bool retry_after;
};
class EveryStatus : public GatewayTest, public ::testing::WithParamInterface<StatusCase> {};

TEST_P(EveryStatus, HasItsHttpForm) {
  const StatusCase& want = GetParam();
  const Answer answer = Complete({{"model", absl::StrFormat("fail/%d", want.code)}, {"prompt", "x"}});
  EXPECT_EQ(answer.status, want.status) << answer.body;
  const json error = json::parse(answer.body).at("error");
  ASSERT_EQ(error.size(), 4u) << answer.body;
  EXPECT_FALSE(error.at("message").get<std::string>().empty());
  EXPECT_EQ(error.at("type"), want.type);
  EXPECT_EQ(error.at("param"), *want.param ? json(want.param) : json());
  EXPECT_EQ(error.at("code"), *want.error_code ? json(want.error_code) : json());
  EXPECT_EQ(answer.headers.count("retry-after"), want.retry_after ? 1u : 0u);
  EXPECT_EQ(answer.headers.count("retry-after-ms"), want.retry_after ? 1u : 0u);
  if (want.status == 500) {
    EXPECT_THAT(answer.body, ::testing::Not(HasSubstr("script")));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Codes, EveryStatus,
    ::testing::Values(StatusCase{1, 503, "server_error", "", "service_unavailable", true},
                      StatusCase{2, 500, "server_error", "", "internal_error", false},
                      StatusCase{3, 400, "invalid_request_error", "temperature", "", false},
                      StatusCase{4, 504, "server_error", "", "timeout", false},
                      StatusCase{5, 404, "invalid_request_error", "", "model_not_found", false},
                      StatusCase{7, 500, "server_error", "", "internal_error", false},
                      StatusCase{8, 429, "requests", "", "rate_limit_exceeded", true},
                      StatusCase{9, 500, "server_error", "", "internal_error", false},
                      StatusCase{10, 503, "server_error", "", "service_unavailable", true},
                      StatusCase{11, 400, "invalid_request_error", "prompt", "context_length_exceeded",
                                 false},
                      StatusCase{12, 500, "server_error", "", "internal_error", false},
                      StatusCase{13, 500, "server_error", "", "internal_error", false},
                      StatusCase{14, 503, "server_error", "", "service_unavailable", true},
                      StatusCase{15, 500, "server_error", "", "internal_error", false},
                      StatusCase{16, 500, "server_error", "", "internal_error", false}),
    [](const auto& info) { return "grpc_" + std::to_string(info.param.code); });

TEST_F(GatewayTest, AModelThatIsNotLoadedIsNamedWithTheWayToLoadIt) {
  const Answer answer = Complete({{"model", "my/model"}, {"prompt", "x"}});
  EXPECT_EQ(answer.status, 404);
  EXPECT_THAT(answer.body, HasSubstr("The model `my/model` does not exist or you do not have access to it."));
  EXPECT_THAT(answer.body, HasSubstr("bdhctl models load my/model"));
}

TEST_F(GatewayTest, AGenerationWithoutAReasonToEndIsAnError) {
  EXPECT_EQ(Complete({{"model", "careless"}, {"prompt", "x"}}).status, 500);
}

TEST_F(GatewayTest, WithoutInferenceTheAnswerIs503AndSaysWhere) {
  inference_.Stop();
  const Answer answer = Complete({{"model", "echo"}, {"prompt", "x"}});
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr("bdh-inference"));
  EXPECT_THAT(answer.body, HasSubstr("bdhctl status"));
  EXPECT_EQ(TestClient(port()).Get("/readyz").status, 503);
  EXPECT_EQ(TestClient(port()).Get("/healthz").status, 200);
}

TEST_F(GatewayTest, AWrongMeshTokenIsOurFaultAndNotTheClients) {
  auto options = Defaults();
  options.listen.credentials = "another-token";
  Start(options);
  const Answer answer = Complete({{"model", "echo"}, {"prompt", "x"}});
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, ::testing::Not(HasSubstr("token")));
}

TEST_F(GatewayTest, WithTwoInferencesTheLossOfOneIsMadeGoodByTheOther) {
  auto second = std::make_unique<ScriptedInference>();
  Server::Options options = Defaults();
  options.inference = inference_.address() + "," + second->address();
  Start(options);
  // Prompts that begin differently go to both.
  const auto all_answered = [&] {
    for (int i = 0; i < 40; ++i) {
      const auto prompt = absl::StrFormat("%d is a number", i);
      if (Complete({{"model", "echo"}, {"prompt", prompt}, {"max_tokens", 2}}).status != 200) return false;
    }
    return true;
  };
  Await(all_answered);
  EXPECT_GT(inference_.generations(), 0);
  EXPECT_GT(second->generations(), 0);
  second.reset();
  Await(all_answered);
}

}  // namespace
}  // namespace bdh::gateway
