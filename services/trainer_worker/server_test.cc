// The trainer-worker as the mesh sees it: a real server with a real data loader and a real checkpoint store
// behind it, all over sockets. Text becomes checkpoints; stops, drains and restarts of any of the three
// change no loss by a bit; and every bad request is answered with a sentence.

#include "services/trainer_worker/server.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/config/config.h"
#include "bdh/mesh/grpc_status.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "bdh/v1/trainer.grpc.pb.h"
#include "services/checkpoint_store/server.h"
#include "services/data_loader/server.h"

namespace bdh::trainer_worker {
namespace {

constexpr char kToken[] = "test-token";
constexpr absl::Duration kTimeout = absl::Seconds(60);
using Stub = v1::TrainerService::Stub;

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += absl::StrFormat("And line %d begat line %d.\n", i, i + 1);
  return text;
}

class TrainerServerTest : public testing::Test {
 protected:
  void SetUp() override {
    StartLoader("127.0.0.1:0");
    StartStore("127.0.0.1:0");
    AddDataset("kjv", SomeText());
    StartTrainer();
  }

  void StartLoader(const std::string& address) {
    auto server = data_loader::Server::Start(
        {.listen = {.address = address, .credentials = kToken}, .data_dir = folder_.path() + "/loader"});
    ASSERT_TRUE(server.ok()) << server.status();
    loader_ = *std::move(server);
    loader_address_ = loader_->address();
  }
  void StartStore(const std::string& address) {
    auto server = checkpoint_store::Server::Start(
        {.listen = {.address = address, .credentials = kToken}, .data_dir = folder_.path() + "/store"});
    ASSERT_TRUE(server.ok()) << server.status();
    store_ = *std::move(server);
    store_address_ = store_->address();
    store_peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", store_address_, kToken);
  }
  void StartTrainer(int64_t max_model_bytes = int64_t{1} << 30) {
    auto server = Server::Start({.listen = {.credentials = kToken},
                                 .data_dir = folder_.path() + "/trainer",
                                 .data_loader = loader_address_,
                                 .checkpoint_store = store_address_,
                                 .threads = 1,
                                 .max_model_bytes = max_model_bytes,
                                 .patience = patience_});
    ASSERT_TRUE(server.ok()) << server.status();
    trainer_ = *std::move(server);
    peer_ = std::make_unique<mesh::Peer>("bdh-trainer-worker", trainer_->address(), kToken);
    stub_ = v1::TrainerService::NewStub(peer_->channel());
  }

  void AddDataset(const std::string& name, const std::string& text) {
    const mesh::Peer peer("bdh-data-loader", loader_address_, kToken);
    const auto stub = v1::DataLoaderService::NewStub(peer.channel());
    const auto context = peer.NewContext(kTimeout);
    const auto stream = stub->CreateDataset(context.get());
    v1::CreateDatasetRequest request;
    request.mutable_spec()->set_name(name);
    ASSERT_TRUE(stream->Write(request));
    request.mutable_chunk()->set_document("text");
    request.mutable_chunk()->set_data(text);
    ASSERT_TRUE(stream->Write(request));
    stream->WritesDone();
    v1::CreateDatasetResponse response;
    while (stream->Read(&response)) {
    }
    BDH_ASSERT_OK(peer.Outcome(stream->Finish()));
  }

  // A run that takes milliseconds a step.
  static v1::StartRunRequest Request(const std::string& name, int64_t max_steps) {
    v1::StartRunRequest request;
    request.set_name(name);
    request.set_dataset("kjv");
    v1::ModelConfig& model = *request.mutable_model();
    model.set_n_layer(2);
    model.set_n_embd(16);
    model.set_n_head(2);
    model.set_mlp_internal_dim_multiplier(8);
    v1::TrainConfig& train = *request.mutable_train();
    train.set_max_steps(max_steps);
    train.set_batch_size(4);
    train.set_block_size(24);
    train.set_eval_interval(0);
    train.set_eval_batches(2);
    train.set_checkpoint_interval(0);
    train.set_log_interval(1);
    return request;
  }

  absl::StatusOr<v1::Run> Start(const v1::StartRunRequest& request) {
    auto response = peer_->Call(*stub_, &Stub::StartRun, request, kTimeout);
    if (!response.ok()) return response.status();
    return response->run();
  }
  absl::StatusOr<v1::Run> Stop(const std::string& name) {
    v1::StopRunRequest request;
    request.set_name(name);
    auto response = peer_->Call(*stub_, &Stub::StopRun, request, kTimeout);
    if (!response.ok()) return response.status();
    return response->run();
  }
  absl::StatusOr<v1::Run> Resume(const std::string& name) {
    v1::StartRunRequest request;
    request.set_name(name);
    request.set_resume(true);
    return Start(request);
  }
  // Watches until the run is over or `seen` says enough.
  absl::Status Watch(const std::string& name, const std::function<bool(const v1::RunEvent&)>& seen) {
    const auto context = peer_->NewContext(kTimeout);
    v1::WatchRunRequest request;
    request.set_name(name);
    const auto reader = stub_->WatchRun(context.get(), request);
    v1::RunEvent event;
    while (reader->Read(&event)) {
      if (!seen(event)) continue;
      context->TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
    return peer_->Outcome(reader->Finish());
  }
  void WaitForStep(const std::string& name, int64_t step) {
    BDH_ASSERT_OK(Watch(name, [&](const v1::RunEvent& event) { return event.progress().step() >= step; }));
  }
  // The losses of all steps that the worker remembers, and the end of the run.
  v1::Run WaitUntilOver(const std::string& name, std::map<int64_t, double>* losses = nullptr) {
    v1::Run last;
    BDH_EXPECT_OK(Watch(name, [&](const v1::RunEvent& event) {
      if (event.has_progress() && losses != nullptr) {
        const auto known = losses->insert({event.progress().step(), event.progress().train_loss()});
        EXPECT_EQ(known.first->second, event.progress().train_loss()) << "step " << event.progress().step();
      }
      if (event.has_run()) last = event.run();
      return false;
    }));
    return last;
  }
  absl::StatusOr<v1::Checkpoint> Describe(const std::string& reference) {
    const auto stub = v1::CheckpointStoreService::NewStub(store_peer_->channel());
    v1::DescribeCheckpointRequest request;
    request.set_reference(reference);
    auto response =
        store_peer_->Call(*stub, &v1::CheckpointStoreService::Stub::DescribeCheckpoint, request, kTimeout);
    if (!response.ok()) return response.status();
    return response->checkpoint();
  }
  std::map<int64_t, double> UninterruptedLosses(const v1::StartRunRequest& like) {
    v1::StartRunRequest request = like;
    request.set_name("uninterrupted");
    BDH_EXPECT_OK(Start(request).status());
    std::map<int64_t, double> losses;
    EXPECT_EQ(WaitUntilOver("uninterrupted", &losses).state(), v1::Run::STATE_FINISHED);
    return losses;
  }

  void RestartTrainerWithPatience(absl::Duration patience) {
    patience_ = patience;
    trainer_.reset();
    StartTrainer();
  }
  // Where the worker keeps what the store did not take.
  std::string Kept(const std::string& run) const {
    return absl::StrFormat("%s/trainer/kept/%s.safetensors", folder_.path(), run);
  }
  // Through ends that are none, because the run goes on when the store is back.
  v1::Run WaitUntilFinished(const std::string& name, std::map<int64_t, double>* losses) {
    v1::Run run;
    while (run.state() != v1::Run::STATE_FINISHED && run.state() != v1::Run::STATE_FAILED) {
      run = WaitUntilOver(name, losses);
    }
    return run;
  }
  // Copies a checkpoint in the store; a weight of the copy is not a number.
  void PutSpoiled(const std::string& from, const std::string& to, int64_t step) {
    const auto stub = v1::CheckpointStoreService::NewStub(store_peer_->channel());
    v1::GetCheckpointRequest get;
    get.set_reference(from);
    const auto read_context = store_peer_->NewContext(kTimeout),
               write_context = store_peer_->NewContext(kTimeout);
    const auto reader = stub->GetCheckpoint(read_context.get(), get);
    v1::PutCheckpointResponse put;
    const auto writer = stub->PutCheckpoint(write_context.get(), &put);
    v1::GetCheckpointResponse got;
    while (reader->Read(&got)) {
      v1::PutCheckpointRequest request;
      if (got.has_checkpoint()) {
        *request.mutable_checkpoint() = got.checkpoint();
        request.mutable_checkpoint()->set_name(to);
        request.mutable_checkpoint()->set_step(step);
      } else {
        *request.mutable_chunk() = got.chunk();
        const float nan = std::numeric_limits<float>::quiet_NaN();
        std::string& data = *request.mutable_chunk()->mutable_data();
        if (got.chunk().tensor() == "encoder") std::memcpy(data.data(), &nan, sizeof(nan));
        if (got.chunk().tensor() == "optimizer/step") std::memcpy(data.data(), &step, sizeof(step));
      }
      ASSERT_TRUE(writer->Write(request));
    }
    BDH_ASSERT_OK(store_peer_->Outcome(reader->Finish()));
    writer->WritesDone();
    BDH_ASSERT_OK(store_peer_->Outcome(writer->Finish()));
  }

  TempDirectory folder_;
  absl::Duration patience_ = absl::Seconds(30);
  std::string loader_address_, store_address_;
  std::unique_ptr<data_loader::Server> loader_;
  std::unique_ptr<checkpoint_store::Server> store_;
  std::unique_ptr<mesh::Peer> store_peer_;
  std::unique_ptr<Server> trainer_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(TrainerServerTest, TextBecomesATaggedCheckpoint) {
  v1::StartRunRequest request = Request("first", 12);
  request.mutable_train()->set_eval_interval(4);
  request.mutable_train()->set_checkpoint_interval(6);
  request.set_tag("kjv");
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Run started, Start(request));
  EXPECT_EQ(started.model().vocab_size(), 256) << "taken from the data set";
  EXPECT_GT(started.parameter_count(), 0);
  std::vector<std::string> checkpoints;
  int64_t progress_events = 0, last_sequence = 0;
  v1::Run last;
  BDH_ASSERT_OK(Watch("first", [&](const v1::RunEvent& event) {
    EXPECT_EQ(event.sequence(), ++last_sequence);
    if (event.has_progress()) ++progress_events;
    if (!event.checkpoint().empty()) checkpoints.push_back(event.checkpoint());
    if (event.has_run()) last = event.run();
    return false;
  }));
  EXPECT_EQ(progress_events, 12);
  EXPECT_EQ(checkpoints, (std::vector<std::string>{"runs/first/steps/6", "runs/first/steps/12"}));
  EXPECT_EQ(last.state(), v1::Run::STATE_FINISHED);
  EXPECT_TRUE(last.progress().has_best_validation_loss());
  EXPECT_EQ(last.checkpoint(), "runs/first/steps/12");

  for (const char* tag : {"first/latest", "first/best", "kjv"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint checkpoint, Describe(tag));
    EXPECT_EQ(checkpoint.name(), "runs/first/steps/12") << tag;
  }
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint checkpoint, Describe("kjv"));
  EXPECT_EQ(checkpoint.parent(), "runs/first/steps/6");
  EXPECT_EQ(checkpoint.tokens_seen(), 12 * 4 * 24);
  EXPECT_EQ(checkpoint.cursor().next_step(), 12);
  EXPECT_EQ(checkpoint.validation_loss(), last.progress().validation_loss());
  v1::Config config;
  BDH_ASSERT_OK(config::ReadYaml(checkpoint.config_yaml(), "checkpoint", config));
  EXPECT_EQ(config.train().max_steps(), 12);
  EXPECT_EQ(config.model().vocab_size(), 256);
}

TEST_F(TrainerServerTest, AStoppedRunResumesToTheBit) {
  const v1::StartRunRequest request = Request("stopped", 150);
  const auto uninterrupted = UninterruptedLosses(request);
  BDH_ASSERT_OK(Start(request));
  WaitForStep("stopped", 5);
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Run stopped, Stop("stopped"));
  ASSERT_EQ(stopped.state(), v1::Run::STATE_STOPPED);
  EXPECT_EQ(stopped.checkpoint(), absl::StrFormat("runs/stopped/steps/%d", stopped.progress().step()));
  EXPECT_EQ(Stop("stopped").status().code(), absl::StatusCode::kFailedPrecondition);
  std::map<int64_t, double> losses;
  WaitUntilOver("stopped", &losses);
  ASSERT_LT(losses.size(), uninterrupted.size());
  BDH_ASSERT_OK(Resume("stopped"));
  EXPECT_EQ(WaitUntilOver("stopped", &losses).state(), v1::Run::STATE_FINISHED);
  EXPECT_EQ(losses, uninterrupted);
}

TEST_F(TrainerServerTest, ARestartedWorkerGoesOnByItself) {
  v1::StartRunRequest request = Request("restarted", 150);
  request.mutable_train()->set_eval_interval(40);
  const auto uninterrupted = UninterruptedLosses(request);
  BDH_ASSERT_OK(Start(request));
  WaitForStep("restarted", 5);
  std::map<int64_t, double> losses;
  trainer_->Drain(absl::Seconds(20));
  trainer_.reset();
  StartTrainer();
  const v1::Run run = WaitUntilOver("restarted", &losses);
  EXPECT_EQ(run.state(), v1::Run::STATE_FINISHED);
  ASSERT_LT(losses.size(), uninterrupted.size()) << "it did not begin anew";
  for (const auto& [step, loss] : losses) EXPECT_EQ(loss, uninterrupted.at(step)) << "step " << step;
  // And what is over stays known.
  trainer_.reset();
  StartTrainer();
  EXPECT_EQ(WaitUntilOver("restarted").state(), v1::Run::STATE_FINISHED);
  BDH_ASSERT_OK_AND_ASSIGN(const auto runs,
                           peer_->Call(*stub_, &Stub::ListRuns, v1::ListRunsRequest(), kTimeout));
  ASSERT_EQ(runs.runs_size(), 2);
  EXPECT_EQ(runs.runs(0).name(), "restarted") << "newest first";
}

TEST_F(TrainerServerTest, OtherDaemonsMayRestart) {
  v1::StartRunRequest request = Request("patient", 400);
  request.mutable_train()->set_checkpoint_interval(50);
  BDH_ASSERT_OK(Start(request));
  WaitForStep("patient", 5);
  loader_.reset();
  store_.reset();
  StartStore(store_address_);
  StartLoader(loader_address_);
  EXPECT_EQ(WaitUntilOver("patient").state(), v1::Run::STATE_FINISHED);
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint checkpoint, Describe("patient/latest"));
  EXPECT_EQ(checkpoint.step(), 400);
}

TEST_F(TrainerServerTest, ALoaderThatStaysAwayEndsTheRunWithItsStateSaved) {
  patience_ = absl::Milliseconds(300);
  trainer_.reset();
  StartTrainer();
  // Of training batches gRPC holds some MiB, of validation a new stream is opened every time.
  v1::StartRunRequest request = Request("lonely", 1000000);
  request.mutable_train()->set_eval_interval(1);
  BDH_ASSERT_OK(Start(request));
  WaitForStep("lonely", 3);
  loader_.reset();
  const v1::Run run = WaitUntilOver("lonely");
  EXPECT_EQ(run.state(), v1::Run::STATE_FAILED);
  EXPECT_TRUE(absl::StrContains(run.message(), "bdh-data-loader")) << run.message();
  EXPECT_TRUE(absl::StrContains(run.message(), "saved at step")) << run.message();
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint checkpoint, Describe("lonely/latest"));
  EXPECT_EQ(checkpoint.step(), run.progress().step());
}

TEST_F(TrainerServerTest, AStoreThatStaysAwayLeavesTheStateHereAndTheRunGoesOnWhenItIsBack) {
  v1::StartRunRequest request = Request("waiting", 60);
  request.mutable_train()->set_checkpoint_interval(20);
  const auto uninterrupted = UninterruptedLosses(request);
  RestartTrainerWithPatience(absl::Milliseconds(300));
  std::map<int64_t, double> losses;
  BDH_ASSERT_OK(Start(request));
  WaitForStep("waiting", 1);
  store_.reset();
  const v1::Run away = WaitUntilOver("waiting", &losses);
  EXPECT_EQ(away.state(), v1::Run::STATE_STOPPED);
  EXPECT_TRUE(away.waits_for_store());
  EXPECT_TRUE(absl::StrContains(away.message(), "bdh-checkpoint-store")) << away.message();
  EXPECT_TRUE(absl::StrContains(away.message(), "it is kept in " + Kept("waiting"))) << away.message();
  EXPECT_TRUE(std::filesystem::exists(Kept("waiting")));
  // Told to, it tries, and what is kept stays kept.
  BDH_ASSERT_OK(Resume("waiting"));
  EXPECT_EQ(WaitUntilOver("waiting", &losses).state(), v1::Run::STATE_STOPPED);
  EXPECT_TRUE(std::filesystem::exists(Kept("waiting")));
  // Also across a restart of the worker.
  RestartTrainerWithPatience(absl::Milliseconds(300));
  StartStore(store_address_);
  EXPECT_EQ(WaitUntilFinished("waiting", &losses).checkpoint(), "runs/waiting/steps/60");
  EXPECT_FALSE(std::filesystem::exists(Kept("waiting")));
  EXPECT_GE(losses.size(), 40u);
  for (const auto& [step, loss] : losses) EXPECT_EQ(loss, uninterrupted.at(step)) << "step " << step;
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint latest, Describe("waiting/latest"));
  EXPECT_EQ(latest.step(), 60);
}

TEST_F(TrainerServerTest, ADrainWithoutAStoreKeepsTheStateHere) {
  v1::StartRunRequest request = Request("drained", 150);
  const auto uninterrupted = UninterruptedLosses(request);
  BDH_ASSERT_OK(Start(request));
  WaitForStep("drained", 5);
  store_.reset();
  std::map<int64_t, double> losses;
  trainer_->Drain(absl::Milliseconds(500));
  trainer_.reset();
  EXPECT_TRUE(std::filesystem::exists(Kept("drained")));
  StartTrainer();
  StartStore(store_address_);
  EXPECT_EQ(WaitUntilOver("drained", &losses).state(), v1::Run::STATE_FINISHED);
  ASSERT_LT(losses.size(), uninterrupted.size()) << "it did not begin anew";
  for (const auto& [step, loss] : losses) EXPECT_EQ(loss, uninterrupted.at(step)) << "step " << step;
}

TEST_F(TrainerServerTest, ARunThatWasToldToStopWithoutAStoreIsDeliveredAndStaysStopped) {
  RestartTrainerWithPatience(absl::Milliseconds(300));
  BDH_ASSERT_OK(Start(Request("ended", 1000000)));
  WaitForStep("ended", 3);
  store_.reset();
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Run run, Stop("ended"));
  EXPECT_EQ(run.state(), v1::Run::STATE_STOPPED);
  EXPECT_FALSE(run.waits_for_store());
  EXPECT_TRUE(absl::StrContains(run.message(), "it is kept in")) << run.message();
  StartStore(store_address_);
  while (std::filesystem::exists(Kept("ended"))) absl::SleepFor(absl::Milliseconds(20));
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Checkpoint latest, Describe("ended/latest"));
  EXPECT_EQ(latest.step(), run.progress().step());
  EXPECT_EQ(WaitUntilOver("ended").state(), v1::Run::STATE_STOPPED);
}

TEST_F(TrainerServerTest, AStateThatCannotBeKeptEitherIsASentence) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/trainer/kept", "in the way of the folder"));
  RestartTrainerWithPatience(absl::Milliseconds(300));
  BDH_ASSERT_OK(Start(Request("unlucky", 1000000)));
  WaitForStep("unlucky", 3);
  store_.reset();
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Run run, Stop("unlucky"));
  EXPECT_EQ(run.state(), v1::Run::STATE_FAILED);
  EXPECT_TRUE(absl::StrContains(run.message(), "it could not be kept on this disk either")) << run.message();
}

TEST_F(TrainerServerTest, ADamagedStateIsNotTakenForOne) {
  BDH_ASSERT_OK(Start(Request("damaged", 5)));
  WaitUntilOver("damaged");
  BDH_ASSERT_OK(MakeDirectories(folder_.path() + "/trainer/kept"));
  BDH_ASSERT_OK(WriteFileAtomically(Kept("damaged"), "no tensors"));
  v1::StartRunRequest request;
  request.set_name("damaged");
  request.set_resume(true);
  request.mutable_train()->set_max_steps(7);
  BDH_ASSERT_OK(Start(request));
  const v1::Run run = WaitUntilOver("damaged");
  EXPECT_EQ(run.state(), v1::Run::STATE_STOPPED);
  EXPECT_TRUE(absl::StrContains(run.message(), "move it away to go on")) << run.message();
  ASSERT_TRUE(std::filesystem::remove(Kept("damaged")));
  BDH_ASSERT_OK(Start(request));
  EXPECT_EQ(WaitUntilOver("damaged").state(), v1::Run::STATE_FINISHED);
}

TEST_F(TrainerServerTest, ACheckpointThatIsNotFiniteIsPassedOver) {
  v1::StartRunRequest request = Request("diverged", 20);
  request.mutable_train()->set_checkpoint_interval(10);
  BDH_ASSERT_OK(Start(request));
  WaitUntilOver("diverged");
  // As a version that did not look might have saved it.
  PutSpoiled("runs/diverged/steps/20", "runs/diverged/steps/21", 21);
  v1::StartRunRequest more;
  more.set_name("diverged");
  more.set_resume(true);
  more.mutable_train()->set_max_steps(25);
  BDH_ASSERT_OK(Start(more));
  std::map<int64_t, double> losses;
  const v1::Run run = WaitUntilOver("diverged", &losses);
  EXPECT_EQ(run.state(), v1::Run::STATE_FINISHED) << run.message();
  EXPECT_EQ(run.checkpoint(), "runs/diverged/steps/25");
  EXPECT_TRUE(losses.contains(21)) << "trained anew";
}

TEST_F(TrainerServerTest, ARunOfALostWorkerResumesFromTheStore) {
  BDH_ASSERT_OK(Start(Request("orphan", 10)));
  WaitUntilOver("orphan");
  trainer_.reset();
  ASSERT_EQ(std::rename((folder_.path() + "/trainer").c_str(), (folder_.path() + "/gone").c_str()), 0);
  StartTrainer();
  const auto fresh = Start(Request("orphan", 10));
  EXPECT_EQ(fresh.status().code(), absl::StatusCode::kAlreadyExists) << fresh.status();
  v1::StartRunRequest request;
  request.set_name("orphan");
  request.set_resume(true);
  request.mutable_train()->set_max_steps(14);
  BDH_ASSERT_OK(Start(request));
  std::map<int64_t, double> losses;
  EXPECT_EQ(WaitUntilOver("orphan", &losses).checkpoint(), "runs/orphan/steps/14");
  EXPECT_EQ(losses.begin()->first, 11);
}

TEST_F(TrainerServerTest, OneRunAtATime) {
  BDH_ASSERT_OK(Start(Request("busy", 1000000)));
  const auto second = Start(Request("second", 10));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(second.status().message(), "'busy'")) << second.status();
  WaitForStep("busy", 1);
  const auto stub = v1::MeshService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(const auto status, peer_->Call(*stub, &v1::MeshService::Stub::GetStatus,
                                                          v1::GetStatusRequest(), kTimeout));
  EXPECT_TRUE(absl::StartsWith(status.key_figure(), "busy step ")) << status.key_figure();
  BDH_ASSERT_OK(Stop("busy"));
  BDH_ASSERT_OK(Start(Request("second", 3)));
  WaitUntilOver("second");
}

TEST_F(TrainerServerTest, ANamelessRunGetsAName) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Run run, Start(Request("", 2)));
  EXPECT_TRUE(absl::StartsWith(run.name(), "run-")) << run.name();
  WaitUntilOver(run.name());
}

TEST_F(TrainerServerTest, BadRequestsAreAnsweredInSentences) {
  const auto expect = [&](const std::function<void(v1::StartRunRequest&)>& spoil, absl::StatusCode code,
                          const char* words) {
    v1::StartRunRequest request = Request("bad", 5);
    spoil(request);
    const absl::Status status = Start(request).status();
    EXPECT_EQ(status.code(), code) << words << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), words)) << status;
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  expect([](auto& r) { r.set_name("../x"); }, invalid, "name is '../x'");
  expect([](auto& r) { r.set_dataset(""); }, invalid, "dataset is empty");
  expect([](auto& r) { r.set_dataset("nope"); }, absl::StatusCode::kNotFound, "bdhctl data add");
  expect([](auto& r) { r.set_tag("runs/x"); }, invalid, "tag is 'runs/x'");
  expect([](auto& r) { r.mutable_train()->set_beta1(2); }, invalid, "train.beta1");
  expect([](auto& r) { r.mutable_train()->set_lr_schedule("sine"); }, invalid, "train.lr_schedule");
  expect([](auto& r) { r.mutable_train()->set_block_size(1 << 20); }, invalid, "train.block_size");
  expect(
      [](auto& r) {
        r.mutable_model()->set_mlp_internal_dim_multiplier(7), r.mutable_model()->set_n_embd(15);
      },
      invalid, "n_embd");
  expect([](auto& r) { r.mutable_model()->set_vocab_size(7); }, invalid, "model.vocab_size is 7");
  expect([](auto& r) { r.mutable_model()->set_architecture("gpt"); }, invalid, "model.architecture");
  expect([](auto& r) { r.set_resume(true); }, absl::StatusCode::kNotFound, "no run 'bad'");
  expect([](auto& r) { r.mutable_model()->set_n_embd(16384); }, absl::StatusCode::kResourceExhausted,
         "trainer_worker.max_model_bytes");
  expect([](auto& r) { r.mutable_train()->set_batch_size(65536), r.mutable_train()->set_block_size(4096); },
         absl::StatusCode::kResourceExhausted, "train.batch_size");
}

TEST_F(TrainerServerTest, AResumedRunKeepsItsRecipe) {
  BDH_ASSERT_OK(Start(Request("kept", 3)));
  WaitUntilOver("kept");
  EXPECT_EQ(Start(Request("kept", 3)).status().code(), absl::StatusCode::kAlreadyExists);
  v1::StartRunRequest other = Request("kept", 6);
  other.set_resume(true);
  other.mutable_model()->set_n_layer(3);
  const absl::Status status = Start(other).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "model.n_layer is 3")) << status;
  other.mutable_model()->set_n_layer(2);
  BDH_ASSERT_OK(Start(other));
  EXPECT_EQ(WaitUntilOver("kept").progress().step(), 6);
}

TEST_F(TrainerServerTest, UnknownRunsAreNotFound) {
  EXPECT_EQ(Stop("nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Watch("nobody", [](const v1::RunEvent&) { return true; }).code(), absl::StatusCode::kNotFound);
  v1::GetRunRequest request;
  request.set_name("nobody");
  EXPECT_EQ(peer_->Call(*stub_, &Stub::GetRun, request, kTimeout).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(TrainerServerTest, AFolderBelongsToOneWorker) {
  const auto second = Server::Start({.data_dir = folder_.path() + "/trainer"});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace bdh::trainer_worker
