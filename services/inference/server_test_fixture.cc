#include "services/inference/server_test_fixture.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <thread>

#include "absl/strings/str_format.h"
#include "bdh/config/model_config.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/v1/mesh.grpc.pb.h"

namespace bdh::inference {
namespace {

constexpr char kToken[] = "secret";

tensorfile::SafetensorsFile GoldenFile() {
  auto file = tensorfile::SafetensorsFile::Open(BDH_SOURCE_DIR "/tests/golden/tiny.safetensors");
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

}  // namespace

std::string& TestCheckpoint::Bytes(const std::string& tensor) {
  return std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == tensor; })
      ->second;
}

v1::TensorInfo& TestCheckpoint::Info(const std::string& tensor) {
  auto& infos = *header.mutable_tensors();
  return *std::find_if(infos.begin(), infos.end(), [&](const auto& info) { return info.name() == tensor; });
}

void TestCheckpoint::Add(const std::string& tensor, std::vector<int64_t> shape, std::string bytes) {
  v1::TensorInfo& info = *header.add_tensors();
  info.set_name(tensor);
  info.set_dtype(v1::DTYPE_F32);
  info.mutable_shape()->Add(shape.begin(), shape.end());
  info.set_size_bytes(static_cast<int64_t>(bytes.size()));
  tensors.emplace_back(tensor, std::move(bytes));
}

void TestCheckpoint::Remove(const std::string& tensor) {
  auto& infos = *header.mutable_tensors();
  infos.erase(
      std::find_if(infos.begin(), infos.end(), [&](const auto& info) { return info.name() == tensor; }));
  std::erase_if(tensors, [&](const auto& t) { return t.first == tensor; });
}

bool OpenCall::Read() {
  v1::GenerateResponse message;
  if (!reader_->Read(&message)) return false;
  answer_.text += message.text();
  answer_.tokens.insert(answer_.tokens.end(), message.tokens().begin(), message.tokens().end());
  if (message.has_seed()) answer_.seed = message.seed();
  if (!message.fingerprint().empty()) answer_.fingerprint = message.fingerprint();
  if (message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED)
    answer_.finish_reason = message.finish_reason();
  if (message.has_usage()) answer_.usage = message.usage();
  return true;
}

const Answer& OpenCall::Finish() {
  while (Read()) {
  }
  answer_.status = peer_.Outcome(reader_->Finish());
  return answer_;
}

void InferenceFixture::SetUp() {
  StartStore();
  StartInference();
}

// Again on the same port after StopStore.
void InferenceFixture::StartStore() {
  const checkpoint_store::Server::Options options = {
      .listen = {.address = store_address_, .credentials = kToken}, .data_dir = folder_.path() + "/store"};
  auto started = checkpoint_store::Server::Start(options);
  // A port that was in use a moment ago may need another.
  for (int i = 0; i < 200 && !started.ok() && !store_address_.ends_with(":0"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    started = checkpoint_store::Server::Start(options);
  }
  BDH_ASSERT_OK_AND_ASSIGN(store_, std::move(started));
  store_address_ = store_->address();
  store_peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", store_address_, kToken);
  store_stub_ = v1::CheckpointStoreService::NewStub(store_peer_->channel());
}

void InferenceFixture::StartInference(const std::function<void(Server::Options&)>& change) {
  server_.reset();
  Server::Options options = {.listen = {.credentials = kToken},
                             .data_dir = folder_.path() + "/inference",
                             .store_address = store_address_,
                             .threads = 2};
  change(options);
  BDH_ASSERT_OK_AND_ASSIGN(server_, Server::Start(options));
  peer_ = std::make_unique<mesh::Peer>("bdh-inference", server_->address(), kToken);
  stub_ = v1::InferenceService::NewStub(peer_->channel());
}

TestCheckpoint InferenceFixture::Golden(const std::string& run) const {
  const auto file = GoldenFile();
  const auto config = spec::ModelConfigFromJson(file.metadata().at("config"));
  EXPECT_TRUE(config.ok()) << config.status();
  TestCheckpoint checkpoint;
  checkpoint.header.set_name(absl::StrFormat("runs/%s/steps/1", run));
  checkpoint.header.set_step(1);
  checkpoint.header.set_tokenizer("byte");
  *checkpoint.header.mutable_model() = config::ToProto(*config);
  for (const auto& weight : spec::Weights(*config)) {
    checkpoint.Add(weight.name, weight.shape, std::string(*file.Bytes("weight." + weight.name)));
  }
  checkpoint.Add("optimizer/step", {1}, std::string(4, '\0'));
  return checkpoint;
}

std::vector<int32_t> InferenceFixture::GoldenTokens() const {
  const auto tokens = GoldenFile().Integers("greedy");
  return {tokens->begin(), tokens->end()};
}

absl::Status InferenceFixture::Put(const TestCheckpoint& checkpoint) {
  const auto context = store_peer_->NewContext(kTimeout, /*wait_for_ready=*/true);
  v1::PutCheckpointResponse response;
  const auto writer = store_stub_->PutCheckpoint(context.get(), &response);
  v1::PutCheckpointRequest request;
  *request.mutable_checkpoint() = checkpoint.header;
  bool going_on = writer->Write(request);
  for (const auto& [name, bytes] : checkpoint.tensors) {
    request.mutable_chunk()->set_tensor(name);
    request.mutable_chunk()->set_data(bytes);
    going_on = going_on && writer->Write(request);
  }
  writer->WritesDone();
  return store_peer_->Outcome(writer->Finish());
}

absl::Status InferenceFixture::Tag(const std::string& tag, const std::string& checkpoint) {
  v1::SetTagRequest request;
  request.set_tag(tag);
  request.set_reference(checkpoint);
  return store_peer_
      ->Call(*store_stub_, &v1::CheckpointStoreService::Stub::SetTag, request, kTimeout,
             /*wait_for_ready=*/true)
      .status();
}

absl::StatusOr<v1::Model> InferenceFixture::Load(const std::string& reference, const std::string& id) {
  v1::LoadModelRequest request;
  request.set_reference(reference);
  request.set_id(id);
  BDH_ASSIGN_OR_RETURN(const auto response,
                       peer_->Call(*stub_, &v1::InferenceService::Stub::LoadModel, request, kTimeout));
  return response.model();
}

absl::Status InferenceFixture::Unload(const std::string& id) {
  v1::UnloadModelRequest request;
  request.set_id(id);
  return peer_->Call(*stub_, &v1::InferenceService::Stub::UnloadModel, request, kTimeout).status();
}

std::vector<std::string> InferenceFixture::ModelIds() {
  std::vector<std::string> ids;
  const auto listed =
      peer_->Call(*stub_, &v1::InferenceService::Stub::ListModels, v1::ListModelsRequest(), kTimeout);
  EXPECT_TRUE(listed.ok()) << listed.status();
  if (!listed.ok()) return ids;
  for (const v1::Model& model : listed->models()) ids.push_back(model.id());
  return ids;
}

void InferenceFixture::AwaitModel(const std::string& id) {
  while (true) {
    const auto ids = ModelIds();
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

v1::GenerateRequest InferenceFixture::Request(const std::string& model, int max_tokens) const {
  const auto golden = GoldenTokens();
  v1::GenerateRequest request;
  request.set_model(model);
  request.mutable_tokens()->mutable_ids()->Add(golden.begin(), golden.begin() + 8);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

std::unique_ptr<OpenCall> InferenceFixture::Open(const v1::GenerateRequest& request) {
  auto context = peer_->NewContext(kTimeout);
  auto reader = stub_->Generate(context.get(), request);
  return std::make_unique<OpenCall>(std::move(context), std::move(reader), *peer_);
}

std::string InferenceFixture::Metrics() const {
  const std::string& address = server_->admin_address();
  boost::asio::ip::tcp::iostream http(address.substr(0, address.rfind(':')),
                                      address.substr(address.rfind(':') + 1));
  http << "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" << std::flush;
  return {std::istreambuf_iterator<char>(http), {}};
}

std::string InferenceFixture::KeyFigure() {
  const auto stub = v1::MeshService::NewStub(peer_->channel());
  const auto status = peer_->Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), kTimeout);
  EXPECT_TRUE(status.ok()) << status.status();
  return status.ok() ? status->key_figure() : "";
}

}  // namespace bdh::inference
