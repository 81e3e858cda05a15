#include "http.h"

#include <curl/curl.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/version.h"

namespace bdh::hub {
namespace {

constexpr long kConnectSeconds = 15;
constexpr size_t kHeaderBytesMax = size_t{256} << 10;

struct Url {
  std::string scheme, host, user;
  int port = 0;
};

std::string Part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
  std::string out = text;
  curl_free(text);
  return out;
}

using UrlHandle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

UrlHandle ParseUrl(std::string_view url) {
  UrlHandle handle(curl_url(), curl_url_cleanup);
  if (handle != nullptr &&
      curl_url_set(handle.get(), CURLUPART_URL, std::string(url).c_str(), 0) != CURLUE_OK) {
    handle.reset();
  }
  return handle;
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::string OriginOf(std::string_view url) {
  if (HasControl(url)) return "";
  const UrlHandle handle = ParseUrl(url);
  if (handle == nullptr || !Part(handle.get(), CURLUPART_USER).empty()) return "";
  const std::string scheme = Part(handle.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return "";
  return absl::StrFormat("%s://%s:%s", scheme, absl::AsciiStrToLower(Part(handle.get(), CURLUPART_HOST)),
                         Part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

std::string ResolveUrl(std::string_view base, std::string_view location) {
  if (HasControl(location)) return "";
  const UrlHandle handle = ParseUrl(base);
  // Set on a URL that is there, a relative one is resolved against it.
  if (handle == nullptr || curl_url_set(handle.get(), CURLUPART_URL, std::string(location).c_str(),
                                        CURLU_URLENCODE) != CURLUE_OK) {
    return "";
  }
  return Part(handle.get(), CURLUPART_URL);
}

std::string PercentEncode(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(u) || c == '-' || c == '.' || c == '_' || c == '~' ||
        (c == '/' && keep_slashes)) {
      out += c;
    } else {
      absl::StrAppendFormat(&out, "%%%02X", u);
    }
  }
  return out;
}

// What curl's callbacks work on.
struct HttpClient::Transfer {
  const std::function<absl::Status(const HttpResponse&)>& begin;
  const std::function<absl::Status(std::string_view)>& body;
  const std::atomic<bool>* cancelled;
  CURL* curl;
  HttpResponse response;
  size_t header_bytes = 0;
  bool begun = false;
  absl::Status status;

  bool Begin() {
    if (std::exchange(begun, true)) return status.ok();
    long code = 0;
    curl_off_t wait = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait);
    response.status = static_cast<int>(code);
    if (response.headers.count("retry-after") > 0)
      response.retry_after = absl::Seconds(std::max<curl_off_t>(wait, 0));
    status = begin(response);
    return status.ok();
  }

  static size_t OnHeader(char* data, size_t, size_t size, void* self_pointer) {
    Transfer& self = *static_cast<Transfer*>(self_pointer);
    self.header_bytes += size;
    if (self.header_bytes > kHeaderBytesMax) {
      self.status = absl::ResourceExhaustedError("the server sends more than 256 KiB of headers");
      return 0;
    }
    const std::string_view line(data, size);
    if (line.substr(0, 5) == "HTTP/") self.response.headers.clear();
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return size;
    const absl::string_view value(line.data() + colon + 1, line.size() - colon - 1);
    self.response.headers[absl::AsciiStrToLower(absl::string_view(line.data(), colon))] =
        std::string(absl::StripAsciiWhitespace(value));
    return size;
  }

  static size_t OnBody(char* data, size_t, size_t size, void* self_pointer) {
    Transfer& self = *static_cast<Transfer*>(self_pointer);
    if (!self.Begin()) return 0;
    self.status = self.body(std::string_view(data, size));
    return self.status.ok() ? size : 0;
  }

  static int OnProgress(void* self_pointer, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const Transfer& self = *static_cast<Transfer*>(self_pointer);
    return self.cancelled != nullptr && *self.cancelled ? 1 : 0;
  }
};

HttpClient::HttpClient(const Options& options)
    : options_(options), curl_([] {
        static std::once_flag once;
        std::call_once(once, [] {
          BDH_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) << "curl does not start";
        });
        return curl_easy_init();
      }()) {
  BDH_CHECK(curl_ != nullptr) << "no memory for curl";
}

HttpClient::~HttpClient() {
  curl_easy_cleanup(curl_);
}

absl::StatusOr<HttpResponse> HttpClient::Get(const HttpRequest& request,
                                             const std::function<absl::Status(const HttpResponse&)>& begin,
                                             const std::function<absl::Status(std::string_view)>& body) {
  const std::string origin = OriginOf(request.url);
  if (origin.empty())
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is no http or https URL", request.url));
  if (HasControl(request.token)) {
    return absl::InvalidArgumentError(
        "the hub's token has control characters in it; set it to the token alone");
  }
  Transfer transfer{begin, body, options_.cancelled, curl_, {}, 0, false, absl::OkStatus()};
  curl_easy_reset(curl_);
  curl_slist* headers = curl_slist_append(nullptr, "Accept-Encoding: identity");
  if (!request.token.empty()) {
    headers = curl_slist_append(headers, absl::StrFormat("Authorization: Bearer %s", request.token).c_str());
  }
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> header_owner(headers,
                                                                                 curl_slist_free_all);
  const std::string range = absl::StrFormat("%d-", request.range_from);
  const std::string agent = absl::StrFormat("bdh/%s", Version());
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl_, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl_, CURLOPT_USERAGENT, agent.c_str());
  curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_TIME,
                   std::max(1L, static_cast<long>(absl::ToInt64Seconds(options_.stall))));
  if (request.range_from > 0) curl_easy_setopt(curl_, CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
  curl_easy_setopt(curl_, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl_, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl_, CURLOPT_XFERINFOFUNCTION, &Transfer::OnProgress);
  curl_easy_setopt(curl_, CURLOPT_XFERINFODATA, &transfer);
  const CURLcode code = curl_easy_perform(curl_);
  BDH_RETURN_IF_ERROR(transfer.status);
  if (code == CURLE_OK) {
    if (!transfer.Begin()) return transfer.status;
    return std::move(transfer.response);
  }
  if (code == CURLE_ABORTED_BY_CALLBACK) return absl::CancelledError("the download was cancelled");
  const std::string why = error[0] != '\0' ? error : curl_easy_strerror(code);
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return absl::PermissionDeniedError(
        absl::StrFormat("%s: its certificate is not trusted: %s", origin, why));
  }
  return absl::UnavailableError(absl::StrFormat("%s: %s", origin, why));
}

}  // namespace bdh::hub
