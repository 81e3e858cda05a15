#include "services/gateway/service.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/version.h"

namespace bdh::gateway {
namespace {

constexpr std::string_view kModelsPrefix = "/v1/models/";

Response PlainText(int status, std::string text) {
  return {.status = status, .body = std::move(text), .content_type = "text/plain; charset=utf-8"};
}

Response Welcome() {
  const nlohmann::ordered_json body = {
      {"name", "bdh-gateway"},
      {"version", Version()},
      {"openai_base_url", "/v1"},
      {"endpoints",
       {"GET /v1/models", "GET /v1/models/{id}", "POST /v1/completions", "POST /v1/chat/completions",
        "GET /healthz", "GET /readyz", "GET /metrics"}}};
  return {.body = body.dump() + "\n"};
}

Post PostOn(const std::shared_ptr<Exchange>& exchange) {
  return [exchange](std::function<void()> work) { exchange->Post(std::move(work)); };
}

CompletionMetrics MakeMetrics(telemetry::Metrics& metrics) {
  return {
      metrics.Counter("bdh_gateway_prompt_tokens_total", "Prompt tokens of completed requests."),
      metrics.Counter("bdh_gateway_completion_tokens_total", "Tokens generated for completed choices."),
      metrics.Counter("bdh_gateway_cancelled_generations_total",
                      "Generations ended early: the client left, or another choice of its request failed."),
      metrics.Seconds("bdh_gateway_first_text_seconds", "From a request's first byte to its first text.")};
}

}  // namespace

OpenAiService::OpenAiService(Options options, InferenceClient& client, telemetry::Metrics& metrics)
    : options_(std::move(options)),
      client_(client),
      metrics_(metrics),
      job_metrics_(MakeMetrics(metrics)),
      router_(options_.router) {
  router_.Add("GET", "/", [](const ExchangePtr& exchange) { exchange->Send(Welcome()); });
  router_.Add("GET", "/healthz", [](const ExchangePtr& exchange) { exchange->Send(PlainText(200, "ok\n")); });
  router_.Add("GET", "/readyz", [this](const ExchangePtr& exchange) { Readiness(exchange); });
  router_.Add("GET", "/metrics", [this](const ExchangePtr& exchange) {
    exchange->Send(
        {.body = metrics_.Serialize(), .content_type = "text/plain; version=0.0.4; charset=utf-8"});
  });
  router_.Add("GET", "/v1/models", [this](const ExchangePtr& exchange) { ListModels(exchange); });
  router_.Add("GET", "/v1/models/*", [this](const ExchangePtr& exchange) { GetModel(exchange); });
  router_.Add("POST", "/v1/completions",
              [this](const ExchangePtr& exchange) { Complete(exchange, ParseCompletion); });
  router_.Add("POST", "/v1/chat/completions",
              [this](const ExchangePtr& exchange) { Complete(exchange, ParseChatCompletion); });
}

void OpenAiService::Serve(HttpServer::Options& options) {
  auto& connections = metrics_.Gauge("bdh_gateway_active_connections", "HTTP connections that are open.");
  auto& requests = metrics_.Gauge("bdh_gateway_open_requests", "HTTP requests being answered.");
  options.admit = [this](const Request& head) { return router_.Admit(head); };
  options.make_error = [](int status, const std::string& message) {
    return ErrorResponse(ServerError(status, message));
  };
  options.extra_headers = router_.CommonHeaders();
  options.on_access = [this](const AccessRecord& record) { Record(record); };
  options.on_connection = [&connections](int delta) { connections.Increment(delta); };
  options.on_request = [this, &requests](int delta) {
    open_ += delta;
    requests.Increment(delta);
  };
}

template <class Parse>
void OpenAiService::Complete(const ExchangePtr& exchange, Parse parse) {
  auto parsed = parse(exchange->request().body);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return exchange->Send(ErrorResponse(*error));
  auto& request = std::get<CompletionRequest>(parsed);
  const std::string tenant = router_.Tenant(exchange->request());
  for (auto& prompt : request.prompts) {
    prompt.set_tenant(request.user.empty() ? tenant : tenant + "/" + request.user);
  }
  CompletionJob::Start(exchange, std::move(request), options_.job, client_, job_metrics_);
}

void OpenAiService::ListModels(const ExchangePtr& exchange) {
  client_.ListModels(PostOn(exchange), [exchange](const absl::StatusOr<v1::ListModelsResponse>& models) {
    if (models.ok()) return exchange->Send({.body = ModelListBody(*models)});
    exchange->Send(ErrorResponse(FromInference(models.status(), "", false, exchange->request().id)));
  });
}

void OpenAiService::GetModel(const ExchangePtr& exchange) {
  client_.ListModels(PostOn(exchange), [exchange](const absl::StatusOr<v1::ListModelsResponse>& models) {
    const Request& request = exchange->request();
    const std::string id = PercentDecode(std::string_view(request.path).substr(kModelsPrefix.size()));
    if (!models.ok())
      return exchange->Send(ErrorResponse(FromInference(models.status(), id, false, request.id)));
    for (const v1::Model& model : models->models()) {
      if (model.id() == id) return exchange->Send({.body = ModelBody(model)});
    }
    exchange->Send(ErrorResponse(
        FromInference(absl::NotFoundError("GET /v1/models lists what is loaded"), id, false, request.id)));
  });
}

// Ready means: able to pass requests on. Which models are loaded is another question.
void OpenAiService::Readiness(const ExchangePtr& exchange) {
  if (!ready_) return exchange->Send(PlainText(503, "not ready: the gateway is starting or draining\n"));
  client_.ListModels(PostOn(exchange), [exchange](const absl::StatusOr<v1::ListModelsResponse>& models) {
    if (!models.ok()) return exchange->Send(PlainText(503, "not ready: bdh-inference does not answer\n"));
    exchange->Send(PlainText(200, absl::StrFormat("ready: %d models loaded\n", models->models_size())));
  });
}

void OpenAiService::Record(const AccessRecord& record) {
  ++requests_;
  const std::string code = absl::StrFormat("%d", record.status);
  metrics_
      .Counter("bdh_gateway_requests_total",
               "HTTP requests, by route and status; 499: the client left first.",
               {{"path", record.route}, {"code", code}})
      .Increment();
  metrics_
      .Seconds("bdh_gateway_request_seconds", "From a request's first byte to the end of its answer.",
               {{"path", record.route}})
      .Observe(absl::ToDoubleSeconds(record.took));
  LogSeverity severity = LogSeverity::kDebug;
  if (record.took >= options_.slow_request) severity = LogSeverity::kInfo;
  if (record.status >= 500) severity = LogSeverity::kWarning;
  BDH_LOG_AT(severity) << "request method=" << record.method << " path=" << record.path.substr(0, 200)
                       << " status=" << record.status << " sent_bytes=" << record.sent_bytes
                       << " took_ms=" << absl::ToInt64Milliseconds(record.took) << " id=" << record.id
                       << (record.client_gone ? " client_gone=1" : "");
}

std::string OpenAiService::KeyFigure() const {
  return absl::StrFormat("%d requests, %d open", requests_.load(), open_.load());
}

}  // namespace bdh::gateway
