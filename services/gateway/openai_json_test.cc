// Proves that request bodies are read strictly: every wrong or unsupported parameter is an error that names
// it.
#include "services/gateway/openai_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "services/gateway/openai_response.h"
#include "services/gateway/sse.h"

namespace bdh::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kText[] = R"({"model":"m","prompt":"p"})";
constexpr char kChat[] = R"({"model":"m","messages":[{"role":"user","content":"c"}]})";

// `base` with the fields of `change` put in; null is put in as null.
std::string With(const char* base, const char* change) {
  json body = json::parse(base);
  body.update(json::parse(change));
  return body.dump();
}

const CompletionRequest& Good(const OrError<CompletionRequest>& parsed) {
  static const CompletionRequest kNone;
  if (const auto* error = std::get_if<ApiError>(&parsed)) ADD_FAILURE() << error->message;
  const auto* request = std::get_if<CompletionRequest>(&parsed);
  return request != nullptr ? *request : kNone;
}

struct Wrong {
  std::string change;   // Put into a good request.
  std::string param;    // "" is null.
  std::string message;  // Part of it.
};

void ExpectWrong(bool chat, const Wrong& wrong) {
  const std::string body = With(chat ? kChat : kText, wrong.change.c_str());
  const auto parsed = chat ? ParseChatCompletion(body) : ParseCompletion(body);
  const auto* error = std::get_if<ApiError>(&parsed);
  ASSERT_NE(error, nullptr) << "accepted: " << body;
  EXPECT_EQ(error->status, 400);
  EXPECT_EQ(error->type, "invalid_request_error");
  EXPECT_EQ(error->param.value_or(""), wrong.param) << body;
  EXPECT_THAT(error->message, HasSubstr(wrong.message)) << body;
}

class EitherEndpoint : public ::testing::TestWithParam<Wrong> {};
TEST_P(EitherEndpoint, RefusesAndNamesTheParameter) {
  ExpectWrong(false, GetParam());
  ExpectWrong(true, GetParam());
}
INSTANTIATE_TEST_SUITE_P(
    Wrong, EitherEndpoint,
    ::testing::Values(
        Wrong{R"({"model":null})", "model", "must provide a model"},
        Wrong{R"({"model":""})", "model", "model"},
        Wrong{R"({"model":7})", "model", "expected a string, but got an integer"},
        Wrong{R"({"temperature":2.1})", "temperature", "0 to 2"},
        Wrong{R"({"temperature":-0.1})", "temperature", "0 to 2"},
        Wrong{R"({"temperature":"hot"})", "temperature", "a number"},
        Wrong{R"({"top_p":1.5})", "top_p", "0 to 1"}, Wrong{R"({"top_k":-1})", "top_k", "0 to 2147483647"},
        Wrong{R"({"n":0})", "n", "1 to 128"}, Wrong{R"({"n":129})", "n", "1 to 128"},
        Wrong{R"({"n":1.5})", "n", "an integer"}, Wrong{R"({"seed":9223372036854775808})", "seed", "want"},
        Wrong{R"({"max_tokens":-1})", "max_tokens", " to 2147483647"},
        Wrong{R"({"max_tokens":18446744073709551615})", "max_tokens", " to 2147483647"},
        Wrong{R"({"stop":""})", "stop", "1 to 256"}, Wrong{R"({"stop":["a",""]})", "stop", "1 to 256"},
        Wrong{R"({"stop":["a","b","c","d","e"]})", "stop", "at most 4"},
        Wrong{R"({"stop":[1]})", "stop", "strings"}, Wrong{R"({"stop":{}})", "stop", "strings"},
        Wrong{R"({"stream":"yes"})", "stream", "a boolean"},
        Wrong{R"({"stream_options":{}})", "stream_options", "only allowed when 'stream'"},
        Wrong{R"({"stream":true,"stream_options":7})", "stream_options", "an object"},
        Wrong{R"({"stream":true,"stream_options":{"include_usage":1}})", "stream_options.include_usage",
              "a boolean"},
        Wrong{R"({"stream":true,"stream_options":{"x":1}})", "stream_options.x", "Unknown"},
        Wrong{R"({"frequency_penalty":0.5})", "frequency_penalty", "not supported"},
        Wrong{R"({"presence_penalty":-1})", "presence_penalty", "not supported"},
        Wrong{R"({"logit_bias":{"5":1}})", "logit_bias", "not supported"},
        Wrong{R"({"logprobs":1})", "logprobs", "not supported"}, Wrong{R"({"user":5})", "user", "a string"},
        Wrong{R"({"temprature":1})", "temprature", "Unknown parameter: 'temprature'"}));

class TextOnly : public ::testing::TestWithParam<Wrong> {};
TEST_P(TextOnly, RefusesAndNamesTheParameter) {
  ExpectWrong(false, GetParam());
}
INSTANTIATE_TEST_SUITE_P(
    Wrong, TextOnly,
    ::testing::Values(Wrong{R"({"prompt":null})", "prompt", "must provide a prompt"},
                      Wrong{R"({"prompt":""})", "prompt", "empty"},
                      Wrong{R"({"prompt":[]})", "prompt", "empty"},
                      Wrong{R"({"prompt":{}})", "prompt", "expected"},
                      Wrong{R"({"prompt":true})", "prompt", "expected"},
                      Wrong{R"({"prompt":["a",""]})", "prompt[1]", "empty"},
                      Wrong{R"({"prompt":["a",5]})", "prompt[1]", "one kind"},
                      Wrong{R"({"prompt":[5,"a"]})", "prompt", "token id"},
                      Wrong{R"({"prompt":[5,-1]})", "prompt", "token id"},
                      Wrong{R"({"prompt":[5,1.5]})", "prompt", "token id"},
                      Wrong{R"({"prompt":[5,4294967296]})", "prompt", "token id"},
                      Wrong{R"({"prompt":[[5],[]]})", "prompt[1]", "empty"},
                      Wrong{R"({"prompt":[[5],"a"]})", "prompt[1]", "one kind"},
                      Wrong{R"({"prompt":["a","b"],"n":65})", "n", "130 choices; want at most 128"},
                      Wrong{R"({"prompt":[5],"echo":true})", "echo", "given as text"},
                      Wrong{R"({"best_of":3})", "best_of", "same value as 'n'"},
                      Wrong{R"({"suffix":"end"})", "suffix", "not supported"},
                      Wrong{R"({"logprobs":0})", "logprobs", "not supported"},
                      Wrong{R"({"max_completion_tokens":5})", "max_completion_tokens", "Unknown"}));

class ChatOnly : public ::testing::TestWithParam<Wrong> {};
TEST_P(ChatOnly, RefusesAndNamesTheParameter) {
  ExpectWrong(true, GetParam());
}
INSTANTIATE_TEST_SUITE_P(
    Wrong, ChatOnly,
    ::testing::Values(
        Wrong{R"({"messages":null})", "messages", "Missing"},
        Wrong{R"({"messages":[]})", "messages", "1 to 4096"},
        Wrong{R"({"messages":"hi"})", "messages", "array"},
        Wrong{R"({"messages":["hi"]})", "messages[0]", "object"},
        Wrong{R"({"messages":[{"role":"user"}]})", "messages[0].content", "must be"},
        Wrong{R"({"messages":[{"role":"robot","content":"x"}]})", "messages[0].role", "want system"},
        Wrong{R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role", "tools are not"},
        Wrong{R"({"messages":[{"content":"x"}]})", "messages[0].role", "want system"},
        Wrong{R"({"messages":[{"role":"user","content":5}]})", "messages[0].content", "must be"},
        Wrong{R"({"messages":[{"role":"user","content":[]}]})", "messages[0].content", "empty"},
        Wrong{R"({"messages":[{"role":"user","content":["x"]}]})", "messages[0].content[0]", "object"},
        Wrong{R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})",
              "messages[0].content[0].type", "only 'text'"},
        Wrong{R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text",
              "missing"},
        Wrong{R"({"messages":[{"role":"user","content":"x","name":"Bob"}]})", "messages[0].name",
              "not supported"},
        Wrong{R"({"messages":[{"role":"user","content":"x","color":"red"}]})", "messages[0].color",
              "Unknown"},
        Wrong{R"({"tools":[]})", "tools", "not supported"},
        Wrong{R"({"tool_choice":"auto"})", "tool_choice", "not supported"},
        Wrong{R"({"functions":[{"name":"f"}]})", "functions", "not supported"},
        Wrong{R"({"response_format":{"type":"json_object"}})", "response_format", "plain text"},
        Wrong{R"({"logprobs":true})", "logprobs", "not implemented"},
        Wrong{R"({"top_logprobs":2})", "top_logprobs", "not implemented"},
        Wrong{R"({"store":true})", "store", "not stored"},
        Wrong{R"({"metadata":{"a":"b"}})", "metadata", "not stored"},
        Wrong{R"({"modalities":["audio"]})", "modalities", "only text"},
        Wrong{R"({"reasoning_effort":"high"})", "reasoning_effort", "not supported"},
        Wrong{R"({"max_tokens":0})", "max_tokens", "1 to"},
        Wrong{R"({"max_completion_tokens":0})", "max_completion_tokens", "1 to"},
        Wrong{R"({"prompt":"x"})", "prompt", "Unknown"}, Wrong{R"({"best_of":1})", "best_of", "Unknown"}));

TEST(OpenAiJson, AcceptsDefaultsOfWhatIsNotSupported) {
  Good(ParseCompletion(
      With(kText, R"({"best_of":1,"echo":false,"frequency_penalty":0,"presence_penalty":0.0,"logit_bias":{},
    "logprobs":null,"stop":[],"suffix":null,"stream":false,"stream_options":null,"temperature":null,"top_p":null,"n":null})")));
  Good(ParseChatCompletion(
      With(kChat, R"({"frequency_penalty":0,"logit_bias":null,"logprobs":false,"top_logprobs":null,
    "tools":null,"tool_choice":"none","parallel_tool_calls":true,"response_format":{"type":"text"},"store":false,"metadata":{},
    "modalities":["text"],"service_tier":"auto","verbosity":"medium","prompt_cache_key":"k","safety_identifier":"s"})")));
}

TEST(OpenAiJson, AcceptsTheEdgesOfRanges) {
  const auto parsed =
      ParseCompletion(With(kText, R"({"temperature":2,"top_p":0,"top_k":0,"seed":-9223372036854775808,
    "max_tokens":2147483647,"n":128})"));
  const CompletionRequest& request = Good(parsed);
  ASSERT_EQ(request.prompts.size(), 1u);
  EXPECT_EQ(request.prompts[0].sampling().temperature(), 2);
  EXPECT_TRUE(request.prompts[0].sampling().has_top_p());
  EXPECT_EQ(request.prompts[0].sampling().seed(), INT64_MIN);
  EXPECT_EQ(request.n, 128);
}

TEST(OpenAiJson, MaxCompletionTokensWins) {
  for (const char* change : {R"({"max_tokens":5,"max_completion_tokens":9})",
                             R"({"max_tokens":9,"max_completion_tokens":null})"}) {
    const auto parsed = ParseChatCompletion(With(kChat, change));
    EXPECT_EQ(Good(parsed).prompts.at(0).sampling().max_tokens(), 9) << change;
  }
}

struct Malformed {
  std::string body;
  std::string message;
};
class MalformedJson : public ::testing::TestWithParam<Malformed> {};
TEST_P(MalformedJson, IsRefusedWithItsPosition) {
  for (const auto& parsed : {ParseCompletion(GetParam().body), ParseChatCompletion(GetParam().body)}) {
    const auto* error = std::get_if<ApiError>(&parsed);
    ASSERT_NE(error, nullptr) << GetParam().body;
    EXPECT_EQ(error->status, 400);
    EXPECT_THAT(error->message, HasSubstr(GetParam().message));
    EXPECT_TRUE(json::accept(ErrorBody(*error)));
  }
}
INSTANTIATE_TEST_SUITE_P(
    Bodies, MalformedJson,
    ::testing::Values(Malformed{"", "line 1, column 1"}, Malformed{"{", "line 1, column 2"},
                      Malformed{"{\n  \"model\": oops\n}", "line 2, column"},
                      Malformed{"[]", "an array; want a JSON object"},
                      Malformed{"\"text\"", "a string; want"}, Malformed{"null", "null; want"},
                      Malformed{"{} trailing", "line 1, column"},
                      Malformed{"{\"a\":1e999}", "could not parse"},
                      Malformed{"{\"a\":\"\xff\"}", "could not parse"},
                      Malformed{"{\"a\":\"\\ud800\"}", "could not parse"},
                      Malformed{"{\"a\":" + std::string(100, '['), "nested deeper than 64 levels"},
                      Malformed{"{\"a\":" + std::string(100000, '{'), "nested deeper than 64 levels"},
                      Malformed{std::string("{\"a\":\"\0\"}", 9), "could not parse"}));

TEST(OpenAiJson, BracketsInTextsAreNotNesting) {
  Good(ParseCompletion(R"({"model":"m","prompt":")" + std::string(1000, '[') + R"(\"[["})"));
}

TEST(OpenAiJson, ErrorsSurviveNamesThatAreNotText) {
  const auto parsed =
      ParseCompletion(R"({"model":"m","prompt":"p",")" + std::string(99, 'a') + "\u00e9" + R"(":1})");
  const auto* error = std::get_if<ApiError>(&parsed);
  ASSERT_NE(error, nullptr);
  EXPECT_TRUE(json::accept(ErrorBody(*error)));  // The name is cut inside a character.
}

TEST(OpenAiError, NamesTheParameterAsTheClientKnowsIt) {
  const auto param = [](const char* message, bool chat) {
    return FromInference(absl::InvalidArgumentError(message), "m", chat, "id").param.value_or("");
  };
  EXPECT_EQ(param("sampling.top_p is 7", false), "top_p");
  EXPECT_EQ(param("temperature is 7; want 0 to 2", false), "temperature");
  EXPECT_EQ(param("stop[1] is empty", true), "stop");
  EXPECT_EQ(param("text is empty", false), "prompt");
  EXPECT_EQ(param("tokens.ids[3] is 300, outside the vocabulary", false), "prompt");
  EXPECT_EQ(param("chat.messages[0].role is 'x'", true), "messages");
  EXPECT_EQ(param("something else", false), "");
  EXPECT_EQ(param("", false), "");
}

TEST(OpenAiResponse, TextThatIsNotUtf8BecomesReplacementCharacters) {
  CompletionHeader header{.id = "cmpl-1", .created = 1, .model = "m"};
  const auto body =
      json::parse(CompletionBody(header, {{.text = "a\xff", .finish_reason = v1::FINISH_REASON_STOP}}, {}));
  EXPECT_EQ(body["choices"][0]["text"], "a\uFFFD");
  EXPECT_TRUE(body["system_fingerprint"].is_null());
}

TEST(Sse, EventsAreOneDataLine) {
  EXPECT_EQ(SseEvent("{}"), "data: {}\n\n");
  EXPECT_EQ(kSseDone, "data: [DONE]\n\n");
}

}  // namespace
}  // namespace bdh::gateway
