// Which handler answers a request, and who may ask.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/gateway/http_exchange.h"

namespace bdh::gateway {

// Set up once, then const and thread-safe.
class Router {
 public:
  struct Options {
    // Keys that open routes under /v1/. None: no key is asked for, and then requests must be addressed to
    // this machine by number or as localhost, so that a web page cannot reach us through a name of its own
    // (DNS rebinding), unless `any_host`.
    std::vector<std::string> api_keys = {};
    bool any_host = false;
    std::string cors_allow_origin = "";  // Empty: browsers of other origins get nothing.
  };

  explicit Router(Options options);

  // `path` is exact, or ends in '*' and then matches every longer path. The first match counts.
  void Add(std::string method, std::string path, Handler handler);

  // From method, path and headers: 404, 405, 401, 403, 415, or the handler.
  Admission Admit(const Request& head) const;

  // Names the caller for accounting: a short digest of its key, or "anonymous".
  std::string Tenant(const Request& request) const;

  // What every answer carries.
  HeaderList CommonHeaders() const;

 private:
  struct Route {
    std::string method, path;
    Handler handler;
  };

  std::optional<Response> Refuse(const Request& head) const;
  std::optional<Response> CheckKey(const Request& head) const;
  Admission Preflight(const Request& head) const;

  const Options options_;
  std::vector<std::string> key_digests_;  // SHA-256, so that comparing takes the same time for all.
  std::vector<Route> routes_;
};

}  // namespace bdh::gateway
