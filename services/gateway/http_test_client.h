// A blocking HTTP client over a raw socket, for tests: sends any bytes, reads answers strictly.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

namespace bdh::gateway {

struct Answer {
  int status = 0;                              // 0: the connection closed or broke first.
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
  bool complete = false;  // The body ended as its framing says.
};

class TestClient {
 public:
  // `receive_buffer_bytes`: of the kernel, to be a slow reader soon. 0: as it is.
  explicit TestClient(int port, int receive_buffer_bytes = 0) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer_bytes > 0) {
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
    }
    const timeval patience{.tv_sec = 20, .tv_usec = 0};  // Against hanging; no test waits for it.
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
  }
  ~TestClient() { Close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return socket_ >= 0; }

  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

  // False when the other side no longer takes anything.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // The other side reads the end of what was sent; its answer can still be read.
  void FinishSending() { shutdown(socket_, SHUT_WR); }

  Answer Get(const std::string& path, const std::string& headers = "") {
    return Request("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  }
  Answer Post(const std::string& path, const std::string& body, const std::string& headers = "") {
    return Request(PostText(path, body, headers));
  }
  Answer Request(const std::string& text) {
    Send(text);
    return Read();
  }
  static std::string PostText(const std::string& path, const std::string& body,
                              const std::string& headers = "") {
    return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  // The next answer. `head_request`: its length tells of a body that does not come.
  Answer Read(bool head_request = false) {
    Answer answer = ReadHead();
    const auto length = answer.headers.find("content-length");
    if (answer.status == 0) return answer;
    if (answer.status == 100 || answer.status == 204 || head_request) {
      answer.complete = true;
    } else if (answer.headers.count("transfer-encoding") != 0) {
      answer.complete = ReadChunks(answer.body);
    } else if (length != answer.headers.end()) {
      answer.complete = Take(std::strtoul(length->second.c_str(), nullptr, 10), answer.body);
    } else {
      answer.body = ReadToEnd();
      answer.complete = true;
    }
    return answer;
  }

  // Up to and without the empty line.
  Answer ReadHead() {
    Answer answer;
    std::string head;
    if (!TakeUntil("\r\n\r\n", head) || head.rfind("HTTP/1.1 ", 0) != 0) return answer;
    answer.status = std::atoi(head.c_str() + 9);
    for (size_t at = head.find("\r\n"); at != head.npos;) {
      const size_t begin = at + 2, end = head.find("\r\n", begin);
      const std::string line = head.substr(begin, end == head.npos ? end : end - begin);
      std::string name = line.substr(0, line.find(": "));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      answer.headers[name] = line.substr(line.find(": ") + 2);
      at = end;
    }
    return answer;
  }

  // One chunk of a chunked body; "" is its end, or the connection's.
  std::string ReadChunk() {
    std::string size, chunk;
    if (!TakeUntil("\r\n", size) || !Take(std::strtoul(size.c_str(), nullptr, 16), chunk)) return "";
    std::string end;
    Take(2, end);
    return end == "\r\n" ? chunk : "";
  }

  // Whether the other side has closed, once everything it sent is read.
  bool Closed() { return buffer_.empty() && !Fill(); }

  std::string ReadToEnd() {
    while (Fill()) {
    }
    return std::exchange(buffer_, std::string());
  }

 private:
  bool ReadChunks(std::string& body) {
    for (;;) {
      std::string size, chunk, end;
      if (!TakeUntil("\r\n", size)) return false;
      const size_t bytes = std::strtoul(size.c_str(), nullptr, 16);
      if (!Take(bytes, chunk) || !Take(2, end) || end != "\r\n") return false;
      if (bytes == 0) return true;
      body += chunk;
    }
  }
  bool TakeUntil(std::string_view mark, std::string& out) {
    size_t at;
    while ((at = buffer_.find(mark)) == buffer_.npos) {
      if (!Fill()) return false;
    }
    out = buffer_.substr(0, at);
    buffer_.erase(0, at + mark.size());
    return true;
  }
  bool Take(size_t bytes, std::string& out) {
    while (buffer_.size() < bytes) {
      if (!Fill()) return false;
    }
    out = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return true;
  }
  bool Fill() {
    char bytes[65536];
    const ssize_t got = recv(socket_, bytes, sizeof(bytes), 0);
    if (got > 0) buffer_.append(bytes, static_cast<size_t>(got));
    return got > 0;
  }

  int socket_;
  std::string buffer_;
};

}  // namespace bdh::gateway
