// One request for completions on its way: several Generate calls become one HTTP answer, whole or streamed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/gateway/http_exchange.h"
#include "services/gateway/inference_client.h"
#include "services/gateway/openai_json.h"
#include "services/gateway/openai_response.h"

namespace prometheus {
class Counter;
class Histogram;
}  // namespace prometheus

namespace bdh::gateway {

// Where jobs count what they did.
struct CompletionMetrics {
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& completion_tokens;
  prometheus::Counter& cancelled;
  prometheus::Histogram& first_text_seconds;
};

// Lives on the strand of its exchange and keeps itself alive until the answer has ended.
class CompletionJob : public std::enable_shared_from_this<CompletionJob> {
 public:
  struct Options {
    absl::Duration ping = absl::Seconds(15);
  };

  // `client` and `metrics` outlive the job.
  static void Start(std::shared_ptr<Exchange> exchange, CompletionRequest request, const Options& options,
                    InferenceClient& client, const CompletionMetrics& metrics);

 private:
  struct Running {
    Choice choice;
    v1::Usage usage;
    std::shared_ptr<Generation> generation;  // Null before the start and after the end.
    bool heard = false;                      // A message came.
    bool waiting = false;                    // Next is due when the client has taken what it was sent.
    int64_t tokens = 0;                      // Counted here, should the last message never come.
  };

  CompletionJob(std::shared_ptr<Exchange> exchange, CompletionRequest request, const Options& options,
                InferenceClient& client, const CompletionMetrics& metrics);

  void StartMore();
  void StartChoice(int index);
  void OnMessage(int index, const v1::GenerateResponse& message);
  void OnDone(int index, const absl::Status& status);
  void Ask(int index);
  void AskTheWaiting();
  void ArmPing();
  void Ping();
  void BeginStream();
  void FirstWords(int index);
  void Write(const std::string& json);
  void Fail(const absl::Status& status);
  void FinishAll();
  void CancelAll();
  v1::Usage TotalUsage() const;

  const std::shared_ptr<Exchange> exchange_;
  const CompletionRequest request_;
  const Options options_;
  InferenceClient& client_;
  const CompletionMetrics& metrics_;
  CompletionHeader header_;
  const ChunkWriter chunks_;
  std::vector<Running> running_;
  int started_ = 0, ended_ = 0;
  bool streaming_ = false;  // The head of the stream has been sent.
  bool over_ = false;       // Nothing more is sent.
  bool spoke_ = false;      // Some text came.
  absl::Time last_write_;
};

}  // namespace bdh::gateway
