// A bdh.v1.InferenceService for the gateway's tests: a real mesh::Server whose "models" do what their
// names say, so that a test knows every byte that must come out of HTTP.
//
//   echo              the prompt, one character a message, up to max_tokens (default 16)
//   seed              "seed=N" of the request
//   request           the request as it came, in one message
//   fail/CODE         that status, at once: "fail/5"
//   late/CODE         "begun", then that status
//   flood             pieces of 64 KiB until the caller is gone
//   silent            nothing until the caller is gone
//   held              waits for Release, then "done"
//   careless          ends without a finish_reason
//   slow              "part", then nothing until the deadline
// Any other name is NOT_FOUND.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/server.h"
#include "bdh/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace bdh::gateway {

class ScriptedInference final : public v1::InferenceService::Service {
 public:
  static constexpr char kToken[] = "mesh-token-of-the-test";
  static constexpr char kFingerprint[] = "0123456789abcdef0123456789abcdef";

  ScriptedInference() : gate_("bdh-inference", Listen(), metrics_) {
    auto server = mesh::Server::Start({.daemon = "bdh-inference",
                                       .listen = Listen(),
                                       .services = {this},
                                       .service_names = {v1::InferenceService::service_full_name()},
                                       .gate = &gate_,
                                       .metrics = &metrics_});
    BDH_CHECK(server.ok());
    server_ = *std::move(server);
    server_->SetReady(true);
  }

  const std::string& address() const { return server_->address(); }
  void Stop() { server_->Shutdown(absl::ZeroDuration()); }
  void Release() { released_ = true; }

  // Calls of Generate: now, ever, at most at once, and those whose caller went away.
  int running() const { return running_; }
  int generations() const { return generations_; }
  int most_at_once() const { return most_; }
  int cancelled() const { return cancelled_; }
  int flood_messages() const { return flood_messages_; }

  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    return gate_.Run(*context, "ListModels", [&] {
      for (const char* id : {"echo", "runs/a:b/1"}) {
        v1::Model& model = *response->add_models();
        model.set_id(id);
        model.set_fingerprint(kFingerprint);
        model.set_tokenizer("byte");
        model.set_max_context_tokens(4096);
        model.mutable_load_time()->set_seconds(1700000000);
      }
      return absl::OkStatus();
    });
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    return gate_.Run(*context, "Generate", [&] {
      ++generations_;
      const int now = ++running_;
      int most = most_;
      while (now > most && !most_.compare_exchange_weak(most, now)) {
      }
      const absl::Status status = Play(*context, *request, *writer);
      if (context->IsCancelled()) ++cancelled_;
      --running_;
      return status;
    });
  }

 private:
  static mesh::ListenOptions Listen() { return {.admin_address = "", .credentials = kToken}; }

  using Writer = grpc::ServerWriter<v1::GenerateResponse>;

  absl::Status Play(grpc::ServerContext& context, const v1::GenerateRequest& request, Writer& writer) {
    const std::string& model = request.model();
    int code = 0;
    if (model == "echo") return Echo(request, writer);
    if (model == "seed") return Say(absl::StrFormat("seed=%d", request.sampling().seed()), writer);
    if (model == "request") return Say(request.ShortDebugString(), writer);
    if (model.rfind("fail/", 0) == 0 && absl::SimpleAtoi(model.substr(5), &code)) return Failure(code);
    if (model.rfind("late/", 0) == 0 && absl::SimpleAtoi(model.substr(5), &code)) {
      writer.Write(Piece("begun"));
      return Failure(code);
    }
    if (model == "flood") return Flood(writer);
    if (model == "silent") return AwaitCancel(context);
    if (model == "held") {
      while (!released_ && !context.IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
      return Say("done", writer);
    }
    if (model == "careless") {
      writer.Write(Piece("and then"));
      return absl::OkStatus();
    }
    if (model == "slow") {
      writer.Write(Piece("part"));
      return AwaitCancel(context);
    }
    return absl::NotFoundError("model " + model + " is not loaded");
  }

  static v1::GenerateResponse Piece(const std::string& text) {
    v1::GenerateResponse piece;
    piece.set_text(text);
    for (const char c : text) piece.add_tokens(static_cast<unsigned char>(c));
    piece.set_fingerprint(kFingerprint);
    return piece;
  }

  static v1::GenerateResponse Last(int prompt_tokens, int completion_tokens, v1::FinishReason reason) {
    v1::GenerateResponse last;
    last.set_finish_reason(reason);
    last.mutable_usage()->set_prompt_tokens(prompt_tokens);
    last.mutable_usage()->set_completion_tokens(completion_tokens);
    last.mutable_usage()->set_cached_tokens(prompt_tokens / 2);
    return last;
  }

  static absl::Status Failure(int code) {
    return absl::Status(static_cast<absl::StatusCode>(code),
                        "sampling.temperature is the reason of the script");
  }

  static absl::Status Say(const std::string& text, Writer& writer) {
    writer.Write(Piece(text));
    writer.Write(Last(1, static_cast<int>(text.size()), v1::FINISH_REASON_STOP));
    return absl::OkStatus();
  }

  static absl::Status Echo(const v1::GenerateRequest& request, Writer& writer) {
    std::string text = request.text();
    if (request.has_chat()) text = request.chat().messages().rbegin()->content();
    for (const int32_t id : request.tokens().ids()) text += static_cast<char>(id);
    const int limit = request.sampling().has_max_tokens() ? request.sampling().max_tokens() : 16;
    int sent = 0;
    for (size_t at = 0; at < text.size() && sent < limit; ++sent) {
      size_t end = at + 1;  // To the end of the UTF-8 character.
      while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
      if (!writer.Write(Piece(text.substr(at, end - at)))) return absl::CancelledError("caller is gone");
      at = end;
    }
    const bool all = sent < limit;
    writer.Write(
        Last(static_cast<int>(text.size()), sent, all ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH));
    return absl::OkStatus();
  }

  absl::Status Flood(Writer& writer) {
    const auto piece = Piece(std::string(65536, 'x'));
    v1::GenerateResponse text;
    text.set_text(piece.text());
    while (writer.Write(text)) ++flood_messages_;
    return absl::CancelledError("caller is gone");
  }

  static absl::Status AwaitCancel(grpc::ServerContext& context) {
    while (!context.IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    return absl::CancelledError("caller is gone");
  }

  telemetry::Metrics metrics_;
  mesh::Gate gate_;
  std::atomic<int> running_{0}, generations_{0}, most_{0}, cancelled_{0}, flood_messages_{0};
  std::atomic<bool> released_{false};
  std::unique_ptr<mesh::Server> server_;
};

}  // namespace bdh::gateway
