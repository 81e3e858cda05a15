#include "services/gateway/inference_client.h"

#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "bdh/base/mutex.h"

namespace bdh::gateway {

namespace {

// What of a prompt decides where it goes: enough to tell conversations apart, so little that their next turns
// and other questions about one long text go where its beginning is known already.
constexpr size_t kKeyBytes = 256;

// A named user's requests stay together; anonymous ones go by model and beginning.
std::string AffinityKey(const v1::GenerateRequest& request) {
  if (request.tenant().find('/') != std::string::npos) return request.tenant();
  std::string key = request.model() + "\n" + request.text();
  for (const v1::ChatMessage& message : request.chat().messages()) {
    if (key.size() >= kKeyBytes) break;
    key += message.role() + "\n" + message.content() + "\n";
  }
  key.resize(std::min(key.size(), kKeyBytes));
  return key;
}

}  // namespace

// The calls under way, so that all can be ended and waited for.
class InferenceClient::Calls {
 public:
  using Context = std::shared_ptr<grpc::ClientContext>;

  // False when no call may begin any more.
  bool Begin(const Context& context) {
    MutexLock lock(mutex_);
    if (stopped_) return false;
    contexts_.insert(context);
    ++count_;
    return true;
  }

  void Forget(const Context& context) {
    MutexLock lock(mutex_);
    contexts_.erase(context);
  }

  // Last of all: from here on nothing of the call touches a strand or its owner.
  void End() {
    MutexLock lock(mutex_);
    if (--count_ == 0) none_left_.NotifyAll();
  }

  void CancelAll() {
    std::set<Context> contexts;
    {
      MutexLock lock(mutex_);
      stopped_ = true;
      contexts = contexts_;
    }
    for (const Context& context : contexts) context->TryCancel();
  }

  void WaitForNone() {
    MutexLock lock(mutex_);
    while (count_ > 0) none_left_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar none_left_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<Context> contexts_ ABSL_GUARDED_BY(mutex_);
};

// gRPC's reactions come on its threads and are posted to the strand. A hold keeps gRPC from finishing while
// the owner may still ask for a message.
class InferenceClient::GenerationImpl final : public Generation,
                                              public grpc::ClientReadReactor<v1::GenerateResponse>,
                                              public std::enable_shared_from_this<GenerationImpl> {
 public:
  GenerationImpl(Calls::Context context, const v1::GenerateRequest& request, const mesh::Peer& peer,
                 Replica replica, std::shared_ptr<Calls> calls, Post post, Listener listener)
      : context_(std::move(context)),
        request_(request),
        peer_(peer),
        replica_(std::move(replica)),
        calls_(std::move(calls)),
        post_(std::move(post)),
        listener_(std::move(listener)) {}

  void Start() {
    if (!calls_->Begin(context_)) {
      MutexLock lock(mutex_);
      released_ = true;  // There is no call to hold.
      return Deliver(absl::CancelledError("the gateway is shutting down"));
    }
    self_ = shared_from_this();
    stub_ = v1::InferenceService::NewStub(replica_->channel());
    stub_->async()->Generate(context_.get(), &request_, this);
    AddHold();
    StartCall();
  }

  void Next() override {
    {
      MutexLock lock(mutex_);
      if (released_) return;
      reading_ = true;
    }
    StartRead(&response_);
  }

  void Cancel() override {
    listener_ = {};
    context_->TryCancel();
    bool release;
    {
      MutexLock lock(mutex_);
      cancelled_ = true;
      release = !reading_ && !std::exchange(released_, true);
    }
    if (release) RemoveHold();
  }

 private:
  void OnReadDone(bool ok) override {
    bool release;
    {
      MutexLock lock(mutex_);
      reading_ = false;
      release = (!ok || cancelled_) && !std::exchange(released_, true);
    }
    if (release) return RemoveHold();
    // Once this is posted the owner may read again, so response_ is empty before.
    auto message = std::exchange(response_, v1::GenerateResponse());
    post_([self = shared_from_this(), message = std::move(message)]() mutable {
      // A copy, because the callback may cancel and so clear the listener.
      if (const auto on_message = self->listener_.on_message) on_message(std::move(message));
    });
  }

  void OnDone(const grpc::Status& status) override {
    replica_->Report(status);
    Deliver(peer_.Outcome(status));
    const auto calls = calls_;
    calls->Forget(context_);
    auto self = std::move(self_);
    self.reset();  // This object may be gone from here on.
    calls->End();
  }

  void Deliver(absl::Status status) {
    post_([self = shared_from_this(), status = std::move(status)] {
      const Listener listener = std::exchange(self->listener_, {});
      if (listener.on_done) listener.on_done(status);
    });
  }

  const Calls::Context context_;
  const v1::GenerateRequest request_;
  const mesh::Peer& peer_;
  const Replica replica_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  const std::shared_ptr<Calls> calls_;
  const Post post_;
  Listener listener_;                     // On the strand only.
  v1::GenerateResponse response_;         // gRPC's while a read is under way.
  std::shared_ptr<GenerationImpl> self_;  // While gRPC may call.
  Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
};

// A call that could not begin.
class InferenceClient::NoGeneration final : public Generation {
 public:
  NoGeneration(const absl::Status& status, const Post& post, Listener listener)
      : on_done_(std::make_shared<std::function<void(absl::Status)>>(std::move(listener.on_done))) {
    post([status, on_done = on_done_] {
      if (const auto callback = std::exchange(*on_done, nullptr)) callback(status);
    });
  }
  void Next() override {}
  void Cancel() override { *on_done_ = nullptr; }

 private:
  const std::shared_ptr<std::function<void(absl::Status)>> on_done_;
};

struct InferenceClient::ModelsCall {
  Calls::Context context;
  Replica replica;
  std::unique_ptr<v1::InferenceService::Stub> stub;
  v1::ListModelsRequest request;
  v1::ListModelsResponse response;
  Post post;
  OnModels on_models;

  void Finish(const absl::Status& status) {
    absl::StatusOr<v1::ListModelsResponse> models = std::move(response);
    if (!status.ok()) models = status;
    // Moved, so that gRPC, which keeps this object a while, keeps nothing of the HTTP request.
    std::exchange(post, nullptr)(
        [on_models = std::exchange(on_models, nullptr), models = std::move(models)] { on_models(models); });
  }
};

InferenceClient::InferenceClient(const Options& options)
    : options_(options),
      replicas_("bdh-inference", options.address,
                {.credentials = options.credentials,
                 .max_message_bytes = options.max_message_bytes,
                 .health_service = v1::InferenceService::service_full_name()}),
      calls_(std::make_shared<Calls>()) {}

InferenceClient::~InferenceClient() {
  StopAndWait();
}

void InferenceClient::ListModels(Post post, OnModels on_models) {
  auto call = std::make_shared<ModelsCall>();
  call->context = replicas_.peer().NewContext(options_.call_timeout);
  call->post = std::move(post);
  call->on_models = std::move(on_models);
  auto replica = replicas_.Choose("ListModels", mesh::Affinity::kSpread);
  if (!replica.ok()) return call->Finish(replica.status());
  call->replica = *std::move(replica);
  call->stub = v1::InferenceService::NewStub(call->replica->channel());
  if (!calls_->Begin(call->context))
    return call->Finish(absl::CancelledError("the gateway is shutting down"));
  call->stub->async()->ListModels(call->context.get(), &call->request, &call->response,
                                  [this, call, calls = calls_](const grpc::Status& status) {
                                    call->replica->Report(status);
                                    call->Finish(replicas_.peer().Outcome(status));
                                    calls->Forget(call->context);
                                    calls->End();
                                  });
}

std::shared_ptr<Generation> InferenceClient::Generate(const v1::GenerateRequest& request, Post post,
                                                      Listener listener) {
  auto replica = replicas_.Choose(AffinityKey(request), mesh::Affinity::kSpread);
  if (!replica.ok()) return std::make_shared<NoGeneration>(replica.status(), post, std::move(listener));
  auto generation = std::make_shared<GenerationImpl>(replicas_.peer().NewContext(options_.generate_timeout),
                                                     request, replicas_.peer(), *std::move(replica), calls_,
                                                     std::move(post), std::move(listener));
  generation->Start();
  return generation;
}

void InferenceClient::CancelAll() {
  calls_->CancelAll();
}

void InferenceClient::StopAndWait() {
  calls_->CancelAll();
  calls_->WaitForNone();
}

}  // namespace bdh::gateway
