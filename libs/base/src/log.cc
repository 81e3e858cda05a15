#include "bdh/base/log.h"

#include <glog/logging.h>

namespace bdh {

void InitLogging(const char* program) {
  FLAGS_logtostderr = true;
  FLAGS_log_utc_time = true;
  google::InitGoogleLogging(program);
}

namespace log_internal {

Message::~Message() {
  static constexpr google::LogSeverity kSeverities[] = {google::GLOG_INFO, google::GLOG_WARNING,
                                                        google::GLOG_ERROR, google::GLOG_FATAL};
  google::LogMessage(file_, line_, kSeverities[static_cast<int>(severity_)]).stream() << stream_.str();
}

}  // namespace log_internal
}  // namespace bdh
