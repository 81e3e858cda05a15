// One HTTP request and its answer, as a handler sees it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "services/gateway/http_message.h"

namespace bdh::gateway {

// Everything but Post is called on the connection's strand: in the handler, in a function given to Post, and
// in the callbacks below. So a handler needs no lock. Calls after the answer ended, or after the client
// went away, do nothing. No Exchange may outlive its HttpServer: let go of it in OnGone.
class Exchange {
 public:
  using Callback = std::function<void()>;
  virtual ~Exchange() = default;

  virtual const Request& request() const = 0;

  // Runs `work` on the strand. Any thread, as long as the HttpServer lives.
  virtual void Post(Callback work) = 0;
  // Runs `work` on the strand once `delay` is over, unless the exchange ends first. Replaces an earlier one.
  virtual void After(absl::Duration delay, Callback work) = 0;

  // The whole answer at once...
  virtual void Send(Response response) = 0;
  // ...or its head now and its body in pieces.
  virtual void Begin(Response head) = 0;
  virtual void Write(std::string_view bytes) = 0;
  virtual void End() = 0;

  // What the client has not taken yet. A handler that streams stops producing while this is high
  // and goes on in OnFlushed.
  virtual size_t pending_bytes() const = 0;
  // Called each time all that was written has been taken.
  virtual void OnFlushed(Callback callback) = 0;
  // Called at most once: the client went away, or the server closes.
  virtual void OnGone(Callback callback) = 0;
};

using Handler = std::function<void(std::shared_ptr<Exchange>)>;

// What is decided from a request's head alone, before its body is read.
struct Admission {
  std::string route = "other";                     // For metrics: one of a few.
  std::optional<Response> refusal = std::nullopt;  // The answer, if no handler shall see the request.
  Handler handler = nullptr;                       // Used when there is no refusal.
};

}  // namespace bdh::gateway
