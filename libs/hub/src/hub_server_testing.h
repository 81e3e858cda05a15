// A small HTTP server that speaks the hub's API on loopback, and does wrong when told to.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "bdh/base/mutex.h"

namespace bdh::hub {

// What a server does once instead of answering as it should.
struct Fault {
  enum Kind { kStatus, kCut, kWrongBytes, kIgnoreRange, kWait } kind = kStatus;
  int status = 503;
  std::string retry_after = "";
  std::string error_code = "";
  size_t after = 0;  // kCut: bytes of the body that still go out.
};

struct SeenRequest {
  std::string origin;  // Which of its two servers.
  std::string target, authorization, range;
};

class HubServer {
 public:
  HubServer();
  ~HubServer();

  std::string endpoint() const;  // "http://127.0.0.1:PORT"
  std::string storage() const;   // The other host, to which large files are sent.

  // Replaces a repository: "datasets/OWNER/NAME" or "models/...". Files of 1000 bytes or more, and *.parquet,
  // are LFS.
  void Put(const std::string& repo, const std::map<std::string, std::string>& files);
  void PutPage(const std::string& path, const std::string& body);  // Any other URL.
  std::string commit(const std::string& repo) const;

  // The next requests whose target contains `part` meet these, one each.
  void Inject(const std::string& part, std::vector<Fault> faults);
  // What a redirect of large files says instead of the right place.
  void RedirectTo(const std::string& location);
  void RequireToken(const std::string& token);
  void SetPageSize(size_t files);
  // What links to further pages begin with, instead of the endpoint.
  void LinkAs(const std::string& origin);
  // Hashes the listing lies about.
  void LieAbout(const std::string& path, const std::string& sha256);
  // Called before each answer.
  void OnRequest(std::function<void(const SeenRequest&)> hook);

  std::vector<SeenRequest> requests() const;
  int CountOf(const std::string& part) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::hub
