// A bdh-inference and a bdh-checkpoint-store on loopback, with the reference's golden model to put and to
// load.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "bdh/v1/inference.grpc.pb.h"
#include "services/checkpoint_store/server.h"
#include "services/inference/server.h"

namespace bdh::inference {

// Long enough for thousands of tokens, a message each, on a busy machine.
inline constexpr absl::Duration kTimeout = absl::Seconds(240);

// A checkpoint with its bytes, to be spoilt before it is put.
struct TestCheckpoint {
  v1::Checkpoint header;
  std::vector<std::pair<std::string, std::string>> tensors;

  std::string& Bytes(const std::string& tensor);
  v1::TensorInfo& Info(const std::string& tensor);
  void Add(const std::string& tensor, std::vector<int64_t> shape, std::string bytes);
  void Remove(const std::string& tensor);
};

// What a Generate call brought.
struct Answer {
  absl::Status status;
  std::string text;
  std::vector<int32_t> tokens;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  int64_t seed = -1;
  std::string fingerprint;
};

// An open Generate call.
class OpenCall {
 public:
  OpenCall(std::unique_ptr<grpc::ClientContext> context,
           std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader, const mesh::Peer& peer)
      : context_(std::move(context)), reader_(std::move(reader)), peer_(peer) {}
  // Reads one message into answer(). False: there is none.
  bool Read();
  // Reads to the end.
  const Answer& Finish();
  void Cancel() { context_->TryCancel(); }
  const Answer& answer() const { return answer_; }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  const std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  const mesh::Peer& peer_;
  Answer answer_;
};

class InferenceFixture : public testing::Test {
 protected:
  void SetUp() override;

  void StartStore();
  void StopStore() { store_.reset(); }
  void StartInference(const std::function<void(Server::Options&)>& change = [](Server::Options&) {});
  void StopInference() { server_.reset(); }

  // The golden model "tiny" as checkpoint runs/{run}/steps/1.
  TestCheckpoint Golden(const std::string& run) const;
  // The reference's greedy continuation: 8 tokens of prompt, then its answer.
  std::vector<int32_t> GoldenTokens() const;
  absl::Status Put(const TestCheckpoint& checkpoint);
  absl::Status Tag(const std::string& tag, const std::string& checkpoint);

  absl::StatusOr<v1::Model> Load(const std::string& reference, const std::string& id = "");
  absl::Status Unload(const std::string& id);
  std::vector<std::string> ModelIds();
  void AwaitModel(const std::string& id);

  // Greedy, from the golden prompt.
  v1::GenerateRequest Request(const std::string& model, int max_tokens) const;
  std::unique_ptr<OpenCall> Open(const v1::GenerateRequest& request);
  Answer Generate(const v1::GenerateRequest& request) { return Open(request)->Finish(); }

  std::string Metrics() const;
  std::string KeyFigure();

  TempDirectory folder_;
  std::string store_address_ = "127.0.0.1:0";
  std::unique_ptr<checkpoint_store::Server> store_;
  std::unique_ptr<mesh::Peer> store_peer_, peer_;
  std::unique_ptr<v1::CheckpointStoreService::Stub> store_stub_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::unique_ptr<Server> server_;
};

}  // namespace bdh::inference
