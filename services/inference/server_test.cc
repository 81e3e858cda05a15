// Proves bdh-inference over the wire, with a real daemon, a real checkpoint store and a real client: the
// reference's greedy tokens come out; what is damaged, foreign or too large is refused while the old model
// serves; a client that goes away, a full queue, wrong parameters, a restart and a shutdown each get what
// inference.proto says.
#include <gmock/gmock.h>

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/pretrained/pretrained.h"
#include "services/inference/server_test_fixture.h"
#include "services/inference/weights_in_transit.h"

namespace bdh::inference {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

// Reads in the background until the call ends, so that it never waits for its reader.
class BusyCall {
 public:
  explicit BusyCall(std::unique_ptr<OpenCall> call) : call_(std::move(call)) {
    EXPECT_TRUE(call_->Read()) << "it was not admitted";
    reader_ = std::jthread([this] { call_->Finish(); });
  }
  ~BusyCall() { call_->Cancel(); }
  void Cancel() { call_->Cancel(); }
  const Answer& Await() {
    reader_.join();
    return call_->answer();
  }

 private:
  const std::unique_ptr<OpenCall> call_;
  std::jthread reader_;
};

class InferenceTest : public InferenceFixture {
 protected:
  void LoadGolden(const std::string& id = "tiny") {
    BDH_ASSERT_OK(Put(Golden("golden")));
    BDH_ASSERT_OK(Load("runs/golden/steps/1", id));
  }
  // A generation that ends only when somebody ends it: its prompt takes minutes to read.
  std::unique_ptr<BusyCall> StartEndless() {
    v1::GenerateRequest request = Request("tiny", 1);
    request.mutable_tokens()->mutable_ids()->Resize(6 << 20, 1);
    return std::make_unique<BusyCall>(Open(request));
  }
  void StartWith(const std::function<void(Server::Options&)>& change) {
    StartInference([&](Server::Options& options) {
      options.max_context_tokens = 1 << 24;
      change(options);
    });
  }
};

TEST_F(InferenceTest, GreedyTokensAreTheReferences) {
  LoadGolden();
  const auto golden = GoldenTokens();
  const Answer answer = Generate(Request("tiny", static_cast<int>(golden.size()) - 8));
  BDH_ASSERT_OK(answer.status);
  EXPECT_EQ(answer.tokens, std::vector<int32_t>(golden.begin() + 8, golden.end()));
  EXPECT_EQ(answer.text, std::string(golden.begin() + 8, golden.end()));
  EXPECT_EQ(answer.finish_reason, v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.usage.prompt_tokens(), 8);
  EXPECT_EQ(answer.usage.completion_tokens(), static_cast<int64_t>(golden.size()) - 8);
}

TEST_F(InferenceTest, ADirectoryIsServedWithoutTheStoreAndAgainAfterARestart) {
  const TestCheckpoint golden = Golden("golden");
  std::vector<std::vector<float>> values;
  std::vector<pretrained::Weight> weights;
  values.reserve(golden.tensors.size());
  for (const auto& [name, bytes] : golden.tensors) {
    if (name.starts_with("optimizer/")) continue;
    values.emplace_back(bytes.size() / sizeof(float));
    std::memcpy(values.back().data(), bytes.data(), bytes.size());
    const auto info =
        std::find_if(golden.header.tensors().begin(), golden.header.tensors().end(),
                     [&, wanted = name](const auto& tensor) { return tensor.name() == wanted; });
    weights.push_back({name, {info->shape().begin(), info->shape().end()}, values.back()});
  }
  BDH_ASSERT_OK_AND_ASSIGN(const spec::ModelConfig config, ConfigOf(golden.header));
  const std::string path = folder_.path() + "/exported model";
  BDH_ASSERT_OK(pretrained::SavePretrained(path, {.title = "tiny", .config = config, .record = {}}, weights));
  StopStore();
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Model model, Load(path, "tiny"));
  EXPECT_EQ(model.checkpoint(), path);
  const auto tokens = GoldenTokens();
  const auto expected = std::vector<int32_t>(tokens.begin() + 8, tokens.end());
  EXPECT_EQ(Generate(Request("tiny", static_cast<int>(expected.size()))).tokens, expected);
  StartInference();
  AwaitModel("tiny");
  EXPECT_EQ(Generate(Request("tiny", static_cast<int>(expected.size()))).tokens, expected);

  std::filesystem::resize_file(path + "/model.safetensors", 5000);
  EXPECT_THAT(Message(Load(path, "tiny").status()), HasSubstr("which is cut short"));
  EXPECT_EQ(Load(path + "/none", "tiny").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(Load("/" + std::string(1024, 'x'), "tiny").status()), HasSubstr("path of 1025 bytes"));
  EXPECT_THAT(Message(Load("/a\nb", "tiny").status()), HasSubstr("no control characters"));
  EXPECT_EQ(Generate(Request("tiny", static_cast<int>(expected.size()))).tokens, expected);
}

TEST_F(InferenceTest, AModelSaysWhatItIs) {
  BDH_ASSERT_OK(Put(Golden("golden")));
  BDH_ASSERT_OK(Tag("best", "runs/golden/steps/1"));
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Model model, Load("best"));
  EXPECT_EQ(model.id(), "best");
  EXPECT_EQ(model.reference(), "best");
  EXPECT_EQ(model.checkpoint(), "runs/golden/steps/1");
  EXPECT_EQ(model.config().n_embd(), 32);
  EXPECT_EQ(model.tokenizer(), "byte");
  EXPECT_EQ(model.parameter_count(), 28672);
  EXPECT_GT(model.weight_bytes(), 4 * 28672);
  EXPECT_GT(model.state_bytes(), 4 * 2 * 256 * 32);
  EXPECT_EQ(model.max_context_tokens(), 32768);
  EXPECT_EQ(model.fingerprint().size(), 64u);
  EXPECT_EQ(Generate(Request("best", 1)).fingerprint, model.fingerprint());
  EXPECT_THAT(ModelIds(), ElementsAre("best"));
}

TEST_F(InferenceTest, TheConfigurationSaysHowAModelIsKept) {
  v1::Config config;
  config.mutable_inference()->set_weight_dtype("bf16");
  config.mutable_inference()->set_phases("precise");
  config.mutable_inference()->set_grid(16);
  const Server::Options read = OptionsFromConfig(config, {});
  EXPECT_EQ(read.weight_dtype, kernels::DType::kBf16);
  EXPECT_EQ(read.phases, kernels::PhaseMode::kPrecise);
  EXPECT_EQ(read.grid, 16);

  BDH_ASSERT_OK(Put(Golden("golden")));
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Model plain, Load("runs/golden/steps/1", "tiny"));
  StartInference([&](Server::Options& options) {
    options.weight_dtype = read.weight_dtype;
    options.phases = read.phases;
    options.grid = read.grid;
  });
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Model narrow, Load("runs/golden/steps/1", "tiny"));
  EXPECT_LT(narrow.weight_bytes(), plain.weight_bytes());
  // Rounded weights are another model, which all the same says almost what the reference says.
  const auto golden = GoldenTokens();
  const Answer answer = Generate(Request("tiny", 4));
  BDH_ASSERT_OK(answer.status);
  EXPECT_EQ(answer.tokens, std::vector<int32_t>(golden.begin() + 8, golden.begin() + 12));
}

TEST_F(InferenceTest, ASeedGivesTheSameAnswerAgainAndIsReportedWhenDrawn) {
  LoadGolden();
  v1::GenerateRequest request = Request("tiny", 40);
  request.mutable_sampling()->set_temperature(1);
  const Answer drawn = Generate(request);
  BDH_ASSERT_OK(drawn.status);
  EXPECT_GE(drawn.seed, 0);
  request.mutable_sampling()->set_seed(drawn.seed);
  EXPECT_EQ(Generate(request).tokens, drawn.tokens);
  request.mutable_sampling()->set_seed(-5);
  EXPECT_EQ(Generate(request).seed, -5);
}

TEST_F(InferenceTest, AStopTextEndsTheAnswerAndIsNotReturned) {
  LoadGolden();
  const Answer whole = Generate(Request("tiny", 24));
  v1::GenerateRequest request = Request("tiny", 24);
  request.mutable_sampling()->add_stop(whole.text.substr(5, 3));
  const Answer answer = Generate(request);
  EXPECT_EQ(answer.text, whole.text.substr(0, whole.text.find(whole.text.substr(5, 3))));
  EXPECT_EQ(answer.finish_reason, v1::FINISH_REASON_STOP);
  EXPECT_GT(answer.usage.completion_tokens(), static_cast<int64_t>(answer.tokens.size()));
}

TEST_F(InferenceTest, TextIsEncodedAndDefaultsTo16Tokens) {
  LoadGolden();
  v1::GenerateRequest request;
  request.set_model("tiny");
  request.set_text("0123");
  const Answer answer = Generate(request);
  BDH_ASSERT_OK(answer.status);
  EXPECT_EQ(answer.usage.prompt_tokens(), 4);
  EXPECT_EQ(answer.usage.completion_tokens(), 16);
}

struct BadRequest {
  std::string name;
  std::function<void(v1::GenerateRequest&)> spoil;
  absl::StatusCode code;
  std::string message;
};

v1::SamplingParams& Sampling(v1::GenerateRequest& request) {
  return *request.mutable_sampling();
}
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kRange = absl::StatusCode::kOutOfRange;

const BadRequest kBadRequests[] = {
    BadRequest{"model", [](auto& r) { r.set_model(""); }, kInvalid, "model is empty"},
    BadRequest{"unknown", [](auto& r) { r.set_model("x"); }, kNotFound,
               "model 'x' is not loaded; loaded are: tiny"},
    BadRequest{"no_prompt", [](auto& r) { r.clear_prompt(); }, kInvalid, "prompt is not given"},
    BadRequest{"empty_text", [](auto& r) { r.set_text(""); }, kInvalid, "text is empty"},
    BadRequest{"foreign_text", [](auto& r) { r.set_text("abc"); }, kInvalid,
               "text has a character whose token 97"},
    BadRequest{"no_tokens", [](auto& r) { r.mutable_tokens()->clear_ids(); }, kInvalid, "tokens is empty"},
    BadRequest{"big_token", [](auto& r) { r.mutable_tokens()->set_ids(3, 64); }, kInvalid,
               "tokens.ids[3] is 64, outside the model's vocabulary; want 0 to 63"},
    BadRequest{"negative_token", [](auto& r) { r.mutable_tokens()->set_ids(0, -1); }, kInvalid,
               "tokens.ids[0] is -1"},
    BadRequest{"no_messages", [](auto& r) { r.mutable_chat(); }, kInvalid, "chat.messages is empty"},
    BadRequest{"role", [](auto& r) { r.mutable_chat()->add_messages()->set_role("god"); }, kInvalid,
               "chat.messages[0].role is 'god'"},
    BadRequest{"cold", [](auto& r) { Sampling(r).set_temperature(-1); }, kInvalid, "temperature is -1"},
    BadRequest{"hot", [](auto& r) { Sampling(r).set_temperature(2.5); }, kInvalid, "temperature is 2.5"},
    BadRequest{"nan", [](auto& r) { Sampling(r).set_temperature(std::numeric_limits<double>::quiet_NaN()); },
               kInvalid, "temperature is nan"},
    BadRequest{"top_k", [](auto& r) { Sampling(r).set_top_k(-1); }, kInvalid, "top_k is -1"},
    BadRequest{"top_p", [](auto& r) { Sampling(r).set_top_p(1.01); }, kInvalid, "top_p is 1.01"},
    BadRequest{"max_tokens", [](auto& r) { Sampling(r).set_max_tokens(-1); }, kInvalid, "max_tokens is -1"},
    BadRequest{"context", [](auto& r) { Sampling(r).set_max_tokens(32761); }, kRange,
               "max_tokens is 32761 and the prompt has 8 tokens, together 32769; this model's context "
               "holds 32768"},
    BadRequest{"prompt", [](auto& r) { r.mutable_tokens()->mutable_ids()->Resize(32768, 1); }, kRange,
               "prompt has 32768 tokens and this model's context holds 32768"},
    BadRequest{"stop", [](auto& r) { Sampling(r).add_stop(""); }, kInvalid, "stop[0] is 0 bytes long"},
    BadRequest{"long_stop", [](auto& r) { Sampling(r).add_stop(std::string(257, 'a')); }, kInvalid,
               "stop[0] is 257 bytes long"},
    BadRequest{"stops",
               [](auto& r) {
                 for (int i = 0; i < 17; ++i) Sampling(r).add_stop("a");
               },
               kInvalid, "stop holds 17 texts"}};

TEST_F(InferenceTest, ABadRequestIsRefusedByTheNameOfItsField) {
  LoadGolden();
  for (const BadRequest& bad : kBadRequests) {
    SCOPED_TRACE(bad.name);
    v1::GenerateRequest request = Request("tiny", 4);
    bad.spoil(request);
    const Answer answer = Generate(request);
    EXPECT_EQ(answer.status.code(), bad.code);
    EXPECT_THAT(Message(answer.status), StartsWith(bad.message));
    EXPECT_THAT(answer.tokens, IsEmpty());
    EXPECT_EQ(answer.seed, -1) << "nothing comes before the refusal";
  }
  BDH_EXPECT_OK(Generate(Request("tiny", 1)).status);
}

TEST_F(InferenceTest, AChatIsContinuedAsATranscript) {
  // The golden model knows 64 tokens, too few for letters: so this one is as large as the byte vocabulary.
  TestCheckpoint checkpoint = Golden("bytes");
  checkpoint.header.mutable_model()->set_vocab_size(256);
  for (const char* name : {"embed.weight", "lm_head"}) {
    std::string& bytes = checkpoint.Bytes(name);
    bytes = bytes + bytes + bytes + bytes;
    checkpoint.Info(name).set_size_bytes(static_cast<int64_t>(bytes.size()));
  }
  checkpoint.Info("embed.weight").set_shape(0, 256);
  checkpoint.Info("lm_head").set_shape(1, 256);
  BDH_ASSERT_OK(Put(checkpoint));
  BDH_ASSERT_OK(Load("runs/bytes/steps/1", "bytes"));
  v1::GenerateRequest request;
  request.set_model("bytes");
  auto& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("Hi");
  request.mutable_sampling()->set_max_tokens(5);
  const Answer chat = Generate(request);
  BDH_ASSERT_OK(chat.status);
  EXPECT_EQ(chat.usage.prompt_tokens(), static_cast<int64_t>(std::string("user: Hi\nassistant: ").size()));
  request.set_text("user: Hi\nassistant: ");
  request.mutable_sampling()->set_seed(chat.seed);
  EXPECT_EQ(Generate(request).tokens, chat.tokens);
}

struct Refusal {
  std::string name;
  std::function<void(TestCheckpoint&)> spoil;
  std::string message;
};
const Refusal kRefusals[] = {
    Refusal{"missing", [](auto& c) { c.Remove("encoder_v"); }, "tensor encoder_v [2, 32, 128] is missing"},
    Refusal{"foreign", [](auto& c) { c.Add("wte", {1}, "1234"); }, "tensor wte is not a weight"},
    Refusal{"shape",
            [](auto& c) {
              c.Info("decoder").set_shape(0, 32);
              c.Info("decoder").set_shape(1, 256);
            },
            "tensor decoder has shape [32, 256]; the model's config wants [256, 32]"},
    Refusal{"type", [](auto& c) { c.Info("encoder").set_dtype(v1::DTYPE_I32); },
            "tensor encoder is of type DTYPE_I32"},
    Refusal{"nan",
            [](auto& c) {
              const float nan = std::numeric_limits<float>::quiet_NaN();
              std::memcpy(c.Bytes("lm_head").data() + 40, &nan, sizeof(nan));
            },
            "tensor lm_head is damaged: element 10 is nan"},
    Refusal{"no_config", [](auto& c) { c.header.mutable_model()->clear_n_head(); },
            "does not say what its model is"},
    Refusal{"bad_config", [](auto& c) { c.header.mutable_model()->set_n_head(3); }, "n_head is 3"},
    Refusal{"tokenizer", [](auto& c) { c.header.set_tokenizer("klingon"); }, "klingon"}};

TEST_F(InferenceTest, ACheckpointThatIsNoModelIsRefusedAndTheOldModelServes) {
  LoadGolden();
  const auto golden = GoldenTokens();
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.name);
    TestCheckpoint checkpoint = Golden(refusal.name);
    refusal.spoil(checkpoint);
    BDH_ASSERT_OK(Put(checkpoint));
    const auto refused = Load(checkpoint.header.name(), "tiny");
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(refused.status()),
                AllOf(StartsWith("load " + checkpoint.header.name()), HasSubstr(refusal.message)));
    EXPECT_EQ(Generate(Request("tiny", 24)).tokens, std::vector<int32_t>(golden.begin() + 8, golden.end()));
  }
}

TEST_F(InferenceTest, WhatIsNotThereCannotBeLoaded) {
  EXPECT_EQ(Load("nothing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(Load("").status()), StartsWith("reference is ''; want 1 to 128"));
  EXPECT_THAT(Message(Load("best", "a b").status()), StartsWith("id is 'a b'"));
  EXPECT_EQ(Unload("nothing").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(Generate(Request("tiny", 1)).status), HasSubstr("no model is"));
}

// A store that takes the call and says nothing. The real one cannot be made to.
class SilentStore : public v1::CheckpointStoreService::Service {
 public:
  SilentStore() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~SilentStore() override { server_->Shutdown(std::chrono::system_clock::now()); }
  std::string address() const { return absl::StrFormat("127.0.0.1:%d", port_); }
  int begun() const { return begun_; }
  int left() const { return left_; }

  grpc::Status GetCheckpoint(grpc::ServerContext* context, const v1::GetCheckpointRequest*,
                             grpc::ServerWriter<v1::GetCheckpointResponse>*) override {
    ++begun_;
    while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++left_;
    return grpc::Status::CANCELLED;
  }

 private:
  int port_ = 0;
  std::atomic<int> begun_{0}, left_{0};
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(InferenceTest, AStoreThatHangsHoldsNoLoadWhoseClientLeft) {
  SilentStore store;
  StartInference([&](Server::Options& options) { options.store_address = store.address(); });
  const auto context = peer_->NewContext(kTimeout);
  absl::Status status;
  std::jthread load([&] {
    v1::LoadModelRequest request;
    request.set_reference("best");
    v1::LoadModelResponse response;
    status = peer_->Outcome(stub_->LoadModel(context.get(), request, &response));
  });
  while (store.begun() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  context->TryCancel();
  load.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  while (store.left() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST_F(InferenceTest, AModelThatDoesNotFitIsRefusedAndTheOldOneServes) {
  // Three models of 700 KiB, with what they work in and keep; a second copy while one loads; a state.
  StartInference([](Server::Options& options) {
    options.threads = 1;
    options.max_memory_bytes = 2'400'000;
  });
  LoadGolden();
  BDH_ASSERT_OK(Load("runs/golden/steps/1", "second"));
  BDH_ASSERT_OK(Load("runs/golden/steps/1", "third"));
  const auto refused = Load("runs/golden/steps/1", "fourth");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(refused.status()), HasSubstr("inference.max_memory_bytes"));
  EXPECT_EQ(ModelIds().size(), 3u);
  BDH_EXPECT_OK(Generate(Request("tiny", 1)).status);
  BDH_EXPECT_OK(Unload("third"));
  BDH_EXPECT_OK(Load("runs/golden/steps/1", "fourth"));
}

TEST_F(InferenceTest, AReplacedModelFinishesWhatItBegan) {
  LoadGolden();
  const Answer before = Generate(Request("tiny", 10000));
  const auto call = Open(Request("tiny", 10000));
  ASSERT_TRUE(call->Read());
  TestCheckpoint other = Golden("other");
  other.Bytes("lm_head") = std::string(other.Bytes("lm_head").rbegin(), other.Bytes("lm_head").rend());
  for (size_t i = 0; i < other.Bytes("lm_head").size(); i += 4) {
    std::reverse(other.Bytes("lm_head").begin() + i, other.Bytes("lm_head").begin() + i + 4);
  }
  BDH_ASSERT_OK(Put(other));
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Model replaced, Load("runs/other/steps/1", "tiny"));
  EXPECT_NE(replaced.fingerprint(), before.fingerprint);
  EXPECT_EQ(Generate(Request("tiny", 5)).fingerprint, replaced.fingerprint());
  EXPECT_EQ(call->Finish().tokens, before.tokens);
  EXPECT_EQ(call->answer().fingerprint, before.fingerprint);
  EXPECT_THAT(ModelIds(), ElementsAre("tiny"));
}

TEST_F(InferenceTest, AnUnloadedModelFinishesWhatItBegan) {
  LoadGolden();
  const auto call = Open(Request("tiny", 10000));
  ASSERT_TRUE(call->Read());
  BDH_ASSERT_OK(Unload("tiny"));
  EXPECT_EQ(Generate(Request("tiny", 1)).status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(call->Finish().tokens.size(), 10000u);
}

TEST_F(InferenceTest, AClientThatGoesAwayFreesItsPlace) {
  StartWith([](Server::Options& options) {
    options.max_active = 1;
    options.max_queue = 0;
  });
  LoadGolden();
  {
    const auto endless = StartEndless();
    EXPECT_EQ(Generate(Request("tiny", 1)).status.code(), absl::StatusCode::kResourceExhausted);
    endless->Cancel();
    EXPECT_EQ(endless->Await().status.code(), absl::StatusCode::kCancelled);
  }
  while (!Generate(Request("tiny", 1)).status.ok()) {  // The test's own time limit is the bound.
  }
}

TEST_F(InferenceTest, AFullQueueIsRefusedWithASentence) {
  StartWith([](Server::Options& options) {
    options.max_active = 1;
    options.max_queue = 1;
  });
  LoadGolden();
  const auto endless = StartEndless();
  const BusyCall waiting(Open(Request("tiny", 1)));
  const Answer refused = Generate(Request("tiny", 1));
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(refused.status), HasSubstr("1 generations are active and 1 wait"));
  EXPECT_THAT(KeyFigure(), StartsWith("1 model, 1 active, 1 queued"));
  EXPECT_THAT(Metrics(), AllOf(HasSubstr("bdh_inference_active 1\n"), HasSubstr("bdh_inference_queued 1\n")));
}

TEST_F(InferenceTest, AReaderThatDoesNotReadBlocksNobody) {
  StartWith([](Server::Options& options) {
    options.threads = 1;
    options.max_active = 2;  // What it does not read lies in the sockets for long before it must wait.
  });
  LoadGolden();
  const auto unread = Open(Request("tiny", 1 << 23));
  EXPECT_EQ(Generate(Request("tiny", 24)).tokens.size(), 24u);
  unread->Cancel();
}

TEST_F(InferenceTest, ModelsAreLoadedAgainAfterARestart) {
  LoadGolden("mine");
  BDH_ASSERT_OK(Load("runs/golden/steps/1", "other"));
  BDH_ASSERT_OK(Unload("other"));
  StartInference();
  AwaitModel("mine");
  EXPECT_THAT(ModelIds(), ElementsAre("mine"));
  EXPECT_EQ(Generate(Request("mine", 24)).tokens.size(), 24u);
}

TEST_F(InferenceTest, ConfiguredModelsWaitForTheStoreAndForTheirTag) {
  BDH_ASSERT_OK(Put(Golden("golden")));
  StopStore();
  StartInference([](Server::Options& options) { options.models = {"prod"}; });
  const auto away = Generate(Request("prod", 1)).status;
  EXPECT_EQ(away.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(away), StartsWith("model 'prod' is not loaded"));
  StartStore();
  BDH_ASSERT_OK(Tag("prod", "runs/golden/steps/1"));
  AwaitModel("prod");
  BDH_EXPECT_OK(Generate(Request("prod", 1)).status);
}

TEST_F(InferenceTest, AnEditedListOfModelsIsAnErrorWithASentence) {
  StopInference();
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/inference/models.json", "{\"models\": 3}"));
  const auto started =
      Server::Start({.data_dir = folder_.path() + "/inference", .store_address = store_address_});
  EXPECT_EQ(started.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(started.status()), HasSubstr("models.json is not a list of models"));
}

TEST_F(InferenceTest, OneFolderServesOneDaemon) {
  const auto second =
      Server::Start({.data_dir = folder_.path() + "/inference", .store_address = store_address_});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(InferenceTest, TheMeshTokenIsDemanded) {
  const mesh::Peer stranger("bdh-inference", server_->address(), "wrong");
  const auto stub = v1::InferenceService::NewStub(stranger.channel());
  EXPECT_EQ(stranger.Call(*stub, &v1::InferenceService::Stub::ListModels, v1::ListModelsRequest(), kTimeout)
                .status()
                .code(),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(InferenceTest, DrainingCutsOffWhatTakesTooLong) {
  StartWith([](Server::Options&) {});
  LoadGolden();
  const auto endless = StartEndless();
  server_->Drain(absl::ZeroDuration());
  EXPECT_EQ(endless->Await().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Generate(Request("tiny", 1)).status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(InferenceTest, DrainingLetsGenerationsFinish) {
  LoadGolden();
  auto finishing = BusyCall(Open(Request("tiny", 10000)));
  server_->Drain(kTimeout);
  const Answer& answer = finishing.Await();
  BDH_EXPECT_OK(answer.status);
  EXPECT_EQ(answer.tokens.size(), 10000u);
}

TEST_F(InferenceTest, TokensModelsAndTimesAreCounted) {
  LoadGolden();
  BDH_EXPECT_OK(Generate(Request("tiny", 24)).status);
  const std::string metrics = Metrics();
  EXPECT_THAT(metrics, HasSubstr("bdh_inference_tokens_total{kind=\"prompt\"} 8\n"));
  EXPECT_THAT(metrics, HasSubstr("bdh_inference_tokens_total{kind=\"completion\"} 24\n"));
  EXPECT_THAT(metrics, HasSubstr("bdh_inference_models 1\n"));
  EXPECT_THAT(metrics, HasSubstr("bdh_inference_first_token_seconds_count 1\n"));
  EXPECT_THAT(metrics, HasSubstr("bdh_inference_next_token_seconds_count 23\n"));
  EXPECT_THAT(KeyFigure(), AllOf(StartsWith("1 model, 0 active"), HasSubstr("tok/s last")));
}

}  // namespace
}  // namespace bdh::inference
