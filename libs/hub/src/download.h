// One file from a server to the disk, and texts of the API: with patience, from where it broke off, checked.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/hub/hub.h"
#include "http.h"

namespace bdh::hub {

struct DownloadResult {
  std::string etag;  // Of the server, without quotes.
};

// One connection and what belongs to it. One thread at a time.
class Downloader {
 public:
  // Both outlive it.
  Downloader(const Options& options, const std::atomic<bool>& cancelled);

  struct Text {
    std::string body;
    std::string next;  // The URL of the next page, if there is one.
  };
  // A text of the API, at most 64 MiB.
  absl::StatusOr<Text> GetText(const std::string& url);

  // Into `path`, from where that ends already. `expected_bytes` below 0: not known. `on_bytes` hears of every
  // piece, and of what was there (a number below 0 takes back).
  absl::StatusOr<DownloadResult> GetFile(const std::string& url, const std::string& path,
                                         int64_t expected_bytes,
                                         const std::function<void(int64_t)>& on_bytes);

 private:
  class Sink;

  // Follows redirects and tries again.
  absl::StatusOr<HttpResponse> Get(const std::string& url, const std::function<int64_t()>& range_from,
                                   const std::function<absl::Status(const HttpResponse&)>& begin,
                                   const std::function<absl::Status(std::string_view)>& body);
  absl::StatusOr<HttpResponse> GetOnce(std::string url, const std::function<int64_t()>& range_from,
                                       const std::function<absl::Status(const HttpResponse&)>& begin,
                                       const std::function<absl::Status(std::string_view)>& body);
  absl::Status Pause(absl::Duration how_long) const;

  const Options& options_;
  const std::atomic<bool>& cancelled_;
  const std::string token_origin_;
  HttpClient client_;
};

}  // namespace bdh::hub
