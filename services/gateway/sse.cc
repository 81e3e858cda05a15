#include "services/gateway/sse.h"

#include "bdh/base/log.h"

namespace bdh::gateway {

std::string SseEvent(std::string_view json) {
  BDH_CHECK(json.find_first_of("\r\n") == json.npos) << "an event's JSON is one line";
  std::string event = "data: ";
  event.append(json).append("\n\n");
  return event;
}

Response SseHead() {
  Response head{.content_type = "text/event-stream; charset=utf-8"};
  // X-Accel-Buffering: nginx would hold events back until its buffer is full.
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  return head;
}

}  // namespace bdh::gateway
