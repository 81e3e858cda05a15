#include "tests/e2e/http_client.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::e2e {
namespace {

constexpr int kSilenceSeconds = 60;

struct Url {
  std::string host, port, path;
};

absl::StatusOr<Url> Parse(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return absl::InvalidArgumentError("not http: " + url);
  const std::string rest = url.substr(kScheme.size());
  const size_t slash = rest.find('/');
  const std::string authority = rest.substr(0, slash);
  const size_t colon = authority.rfind(':');
  return Url{authority.substr(0, colon), authority.substr(colon + 1),
             slash == rest.npos ? "/" : rest.substr(slash)};
}

absl::StatusOr<int> Connect(const Url& url) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(url.host.c_str(), url.port.c_str(), &hints, &found) != 0) {
    return absl::NotFoundError("no such host: " + url.host);
  }
  const absl::Cleanup freer = [&] { freeaddrinfo(found); };
  const int descriptor = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval silence{.tv_sec = kSilenceSeconds, .tv_usec = 0};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
  if (connect(descriptor, found->ai_addr, found->ai_addrlen) != 0) {
    const int error = errno;
    close(descriptor);
    return ErrnoStatus(error, absl::StrFormat("connect to %s:%s", url.host, url.port));
  }
  return descriptor;
}

absl::StatusOr<std::string> Exchange(int descriptor, std::string_view request) {
  while (!request.empty()) {
    const ssize_t sent = send(descriptor, request.data(), request.size(), MSG_NOSIGNAL);
    if (sent <= 0) return ErrnoStatus(errno, "send");
    request.remove_prefix(sent);
  }
  std::string answer;
  char buffer[16384];
  while (true) {
    const ssize_t got = recv(descriptor, buffer, sizeof(buffer), 0);
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("receive, after %d bytes", answer.size()));
    if (got == 0) return answer;
    answer.append(buffer, got);
  }
}

// Undoes "Transfer-Encoding: chunked".
absl::StatusOr<std::string> JoinChunks(std::string_view body) {
  std::string joined;
  while (true) {
    const size_t line_end = body.find("\r\n");
    if (line_end == body.npos) return absl::DataLossError("the last chunk is missing");
    const size_t size = std::strtoul(std::string(body.substr(0, line_end)).c_str(), nullptr, 16);
    body.remove_prefix(line_end + 2);
    if (size == 0) return joined;
    if (body.size() < size + 2) return absl::DataLossError("a chunk is cut off");
    joined.append(body.substr(0, size));
    body.remove_prefix(size + 2);
  }
}

absl::StatusOr<HttpResponse> ParseResponse(const std::string& answer) {
  const size_t head_end = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.1 ") || head_end == answer.npos) {
    return absl::DataLossError("not an HTTP answer: " + answer.substr(0, 200));
  }
  HttpResponse response;
  response.status = std::atoi(answer.c_str() + 9);
  const std::vector<std::string> lines = absl::StrSplit(answer.substr(0, head_end), "\r\n");
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<std::string, std::string> header = absl::StrSplit(lines[i], absl::MaxSplits(':', 1));
    response.headers[absl::AsciiStrToLower(header.first)] =
        std::string(absl::StripAsciiWhitespace(header.second));
  }
  response.body = answer.substr(head_end + 4);
  if (response.headers["transfer-encoding"] == "chunked") {
    BDH_ASSIGN_OR_RETURN(response.body, JoinChunks(response.body));
  }
  return response;
}

absl::StatusOr<HttpResponse> Request(const std::string& method, const std::string& text,
                                     const std::string& body) {
  BDH_ASSIGN_OR_RETURN(const Url url, Parse(text));
  BDH_ASSIGN_OR_RETURN(const int descriptor, Connect(url));
  const absl::Cleanup closer = [&] { close(descriptor); };
  std::string request = absl::StrFormat("%s %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n", method,
                                        url.path, url.host, url.port);
  if (!body.empty()) {
    request += absl::StrFormat("Content-Type: application/json\r\nContent-Length: %d\r\n", body.size());
  }
  BDH_ASSIGN_OR_RETURN(const std::string answer, Exchange(descriptor, request + "\r\n" + body));
  return ParseResponse(answer);
}

}  // namespace

absl::StatusOr<HttpResponse> Get(const std::string& url) {
  return Request("GET", url, "");
}

absl::StatusOr<HttpResponse> Post(const std::string& url, const std::string& body) {
  return Request("POST", url, body);
}

std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(body, '\n'))) {
    if (line.starts_with("data: "))
      events.push_back(std::string(absl::StripTrailingAsciiWhitespace(line.substr(6))));
  }
  return events;
}

}  // namespace bdh::e2e
