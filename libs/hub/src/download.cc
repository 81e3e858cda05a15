#include "download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh::hub {
namespace {

constexpr int kRedirectsMax = 8;
constexpr size_t kTextBytesMax = size_t{64} << 20;
constexpr size_t kErrorBytesMax = 300;
// Who cannot be reached at all will rarely be a second later.
constexpr int kConnectAttempts = 3;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}
bool MayRecover(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kErrorBytesMax))
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return IsUtf8(out) ? out : "";
}

// What an answer that is no success means to a person.
absl::Status Refusal(const HttpResponse& response, std::string_view url) {
  const std::string code = Printable(response.Header("x-error-code"));
  std::string said = Printable(response.Header("x-error-message"));
  if (!said.empty()) said = " (" + said + ")";
  const std::string what = absl::StrFormat("%s: HTTP %d%s", url, response.status, said);
  if (code == "GatedRepo") {
    return absl::PermissionDeniedError(absl::StrFormat(
        "%s: this repository is gated; accept its terms on its page, then set hub_token (or HF_TOKEN) to a "
        "token of that account",
        what));
  }
  if (code == "RevisionNotFound")
    return absl::NotFoundError(absl::StrFormat("%s: there is no such revision", what));
  if (code == "EntryNotFound") return absl::NotFoundError(absl::StrFormat("%s: there is no such file", what));
  if (response.status == 401 || response.status == 403) {
    return absl::PermissionDeniedError(
        absl::StrFormat("%s: there is no such repository, or it is private: check the name, or set hub_token "
                        "(or HF_TOKEN) to a token that "
                        "may read it",
                        what));
  }
  if (response.status == 404)
    return absl::NotFoundError(absl::StrFormat("%s: not found; check the name", what));
  if (MayRecover(response.status)) return absl::UnavailableError(what);
  if (response.status == 416) return absl::OutOfRangeError(what);
  return absl::FailedPreconditionError(what);
}

// <https://...?cursor=x>; rel="next"
std::string NextLink(std::string_view base, const std::string& link) {
  for (const absl::string_view part : absl::StrSplit(link, ',')) {
    const size_t open = part.find('<'), close = part.find('>');
    if (close == absl::string_view::npos || open > close) continue;
    if (!absl::StrContains(part.substr(close), "rel=\"next\"")) continue;
    return ResolveUrl(base, std::string(part.substr(open + 1, close - open - 1)));
  }
  return "";
}

std::string EtagOf(const HttpResponse& response) {
  std::string etag = response.Header("x-linked-etag");
  if (etag.empty()) etag = response.Header("etag");
  absl::string_view text = etag;
  absl::ConsumePrefix(&text, "W/");
  absl::ConsumePrefix(&text, "\"");
  absl::ConsumeSuffix(&text, "\"");
  return std::string(text);
}

// "bytes 100-199/200": where it begins, or -1.
int64_t RangeBegin(const HttpResponse& response) {
  const std::string range = response.Header("content-range");
  absl::string_view text = range;
  int64_t begin = -1;
  if (!absl::ConsumePrefix(&text, "bytes ") || !absl::SimpleAtoi(text.substr(0, text.find('-')), &begin))
    return -1;
  return begin;
}

}  // namespace

Downloader::Downloader(const Options& options, const std::atomic<bool>& cancelled)
    : options_(options),
      cancelled_(cancelled),
      token_origin_(OriginOf(options.endpoint)),
      client_({.stall = options.stall, .cancelled = &cancelled}) {}

absl::Status Downloader::Pause(absl::Duration how_long) const {
  const absl::Time end = absl::Now() + how_long;
  while (absl::Now() < end) {
    if (cancelled_) return absl::CancelledError("the download was cancelled");
    absl::SleepFor(std::min(absl::Milliseconds(20), end - absl::Now()));
  }
  return absl::OkStatus();
}

absl::StatusOr<HttpResponse> Downloader::GetOnce(
    std::string url, const std::function<int64_t()>& range_from,
    const std::function<absl::Status(const HttpResponse&)>& begin,
    const std::function<absl::Status(std::string_view)>& body) {
  const bool was_https = absl::StartsWith(url, "https://");
  std::string etag;
  for (int redirects = 0; redirects <= kRedirectsMax; ++redirects) {
    const std::string origin = OriginOf(url);
    // Never to where it sends us, unless that is itself.
    const std::string token = origin == token_origin_ ? options_.token : "";
    BDH_ASSIGN_OR_RETURN(HttpResponse response,
                         client_.Get(
                             {.url = url, .token = token, .range_from = range_from()},
                             [&](const HttpResponse& r) {
                               return r.status == 200 || r.status == 206 ? begin(r) : absl::OkStatus();
                             },
                             [&](std::string_view piece) { return body(piece); }));
    // The first server's word counts: the one it sends us to does not know the hub's hashes.
    if (redirects == 0) etag = EtagOf(response);
    if (!etag.empty()) response.headers["etag"] = etag;
    if (!IsRedirect(response.status)) return response;
    const std::string to = ResolveUrl(url, response.Header("location"));
    if (OriginOf(to).empty() || (was_https && !absl::StartsWith(to, "https://"))) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s sends us to '%s', which is not followed: want http, or https where it was https", url,
          Printable(response.Header("location"))));
    }
    url = to;
  }
  return absl::FailedPreconditionError(absl::StrFormat("%s: more than %d redirects", url, kRedirectsMax));
}

absl::StatusOr<HttpResponse> Downloader::Get(const std::string& url,
                                             const std::function<int64_t()>& range_from,
                                             const std::function<absl::Status(const HttpResponse&)>& begin,
                                             const std::function<absl::Status(std::string_view)>& body) {
  absl::Duration backoff = options_.backoff;
  bool reached = false;
  for (int attempt = 1;; ++attempt) {
    const int64_t had = range_from();
    const auto response = GetOnce(url, range_from, begin, body);
    if (response.ok() && (response->status == 200 || response->status == 206)) return response;
    const bool cut = absl::IsUnavailable(response.status());
    if (!response.ok() && !cut) return response.status();
    reached = reached || response.ok() || range_from() != had;
    const absl::Status failed = response.ok() ? Refusal(*response, url) : response.status();
    if (response.ok() && !MayRecover(response->status)) return failed;
    // What brings us further is no failed attempt.
    if (range_from() > had) attempt = 0, backoff = options_.backoff;
    if (attempt >= options_.attempts || (!reached && attempt >= kConnectAttempts)) {
      return Annotate(
          failed, absl::StrFormat("tried %d times; try again later, or set hub_offline to use what is cached",
                                  attempt));
    }
    absl::Duration pause = std::min(backoff, options_.backoff_max);
    if (response.ok() && response->retry_after) {
      pause = *response->retry_after;
      if (pause > options_.backoff_max) {
        return absl::ResourceExhaustedError(
            absl::StrFormat("%s: the server asks to wait %s; try again then, or set hub_token (or HF_TOKEN) "
                            "for a higher limit",
                            url, absl::FormatDuration(pause)));
      }
    }
    BDH_LOG(WARNING) << "download tries again attempt=" << attempt
                     << " in_ms=" << absl::ToInt64Milliseconds(pause) << " because=" << failed.message();
    BDH_RETURN_IF_ERROR(Pause(pause));
    backoff *= 2;
  }
}

absl::StatusOr<Downloader::Text> Downloader::GetText(const std::string& url) {
  Text text;
  BDH_ASSIGN_OR_RETURN(const HttpResponse response,
                       Get(
                           url, [] { return int64_t{0}; },
                           [&](const HttpResponse&) {
                             text.body.clear();
                             return absl::OkStatus();
                           },
                           [&](std::string_view piece) -> absl::Status {
                             if (text.body.size() + piece.size() > kTextBytesMax) {
                               return absl::ResourceExhaustedError(absl::StrFormat(
                                   "%s: the answer is longer than %s", url, FormatBytes(kTextBytesMax)));
                             }
                             text.body.append(piece);
                             return absl::OkStatus();
                           }));
  text.next = NextLink(url, response.Header("link"));
  return text;
}

// The file that grows. What is no success does not get into it.
class Downloader::Sink {
 public:
  Sink(std::string path, int64_t limit, const std::function<void(int64_t)>& on_bytes)
      : path_(std::move(path)), limit_(limit), on_bytes_(on_bytes) {}
  ~Sink() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  absl::Status Open() {
    descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (descriptor_ < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path_));
    struct stat status = {};
    if (fstat(descriptor_, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path_));
    size_ = status.st_size;
    on_bytes_(size_);
    // More than there can be is of something else.
    return size_ > limit_ ? Cut(0) : absl::OkStatus();
  }

  int64_t size() const { return size_; }

  absl::Status Begin(const HttpResponse& response) {
    writing_ = true;
    const std::string etag = EtagOf(response);
    const bool same = etag_.empty() || etag == etag_;
    etag_ = etag;
    if (response.status == 200) return Cut(0);
    if (same && RangeBegin(response) == size_) return absl::OkStatus();
    BDH_RETURN_IF_ERROR(Cut(0));
    return absl::UnavailableError("the server answered with another part or version than was asked for");
  }

  absl::Status Write(std::string_view piece) {
    if (!writing_) return absl::OkStatus();
    if (static_cast<int64_t>(piece.size()) > limit_ - size_) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("more comes than the %d bytes there should be", limit_));
    }
    while (!piece.empty()) {
      const ssize_t written = pwrite(descriptor_, piece.data(), piece.size(), size_);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, absl::StrFormat("write %s", path_));
      piece.remove_prefix(static_cast<size_t>(written));
      size_ += written;
      on_bytes_(written);
    }
    return absl::OkStatus();
  }

  void Pass() { writing_ = false; }

  absl::Status Finish() {
    if (fsync(descriptor_) != 0) return ErrnoStatus(errno, absl::StrFormat("sync %s", path_));
    return absl::OkStatus();
  }

  absl::Status Cut(int64_t size) {
    if (size == size_) return absl::OkStatus();
    if (ftruncate(descriptor_, size) != 0) return ErrnoStatus(errno, absl::StrFormat("cut %s", path_));
    on_bytes_(size - size_);
    size_ = size;
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  const int64_t limit_;
  const std::function<void(int64_t)>& on_bytes_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  bool writing_ = false;
  std::string etag_;  // Of the last answer.
};

absl::StatusOr<DownloadResult> Downloader::GetFile(const std::string& url, const std::string& path,
                                                   int64_t expected_bytes,
                                                   const std::function<void(int64_t)>& on_bytes) {
  Sink sink(path, expected_bytes >= 0 ? expected_bytes : options_.max_file_bytes, on_bytes);
  BDH_RETURN_IF_ERROR(sink.Open());
  DownloadResult result;
  if (expected_bytes < 0) {
    // What there is of it may be of another version.
    BDH_RETURN_IF_ERROR(sink.Cut(0));
  } else if (sink.size() == expected_bytes && expected_bytes > 0) {
    return result;
  }
  const auto get = [&] {
    return Get(
        url,
        [&] {
          sink.Pass();
          return sink.size();
        },
        [&](const HttpResponse& r) { return sink.Begin(r); },
        [&](std::string_view piece) { return sink.Write(piece); });
  };
  auto response = get();
  if (absl::IsOutOfRange(response.status()) && sink.size() > 0) {
    // It has become shorter than what is here.
    BDH_RETURN_IF_ERROR(sink.Cut(0));
    response = get();
  }
  BDH_RETURN_IF_ERROR(response.status());
  if (expected_bytes >= 0 && sink.size() != expected_bytes) {
    return absl::DataLossError(
        absl::StrFormat("%d bytes came and there should be %d", sink.size(), expected_bytes));
  }
  BDH_RETURN_IF_ERROR(sink.Finish());
  result.etag = EtagOf(*response);
  return result;
}

}  // namespace bdh::hub
