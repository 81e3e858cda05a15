#include "hub_server_testing.h"

#include <openssl/sha.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/text.h"
#include "nlohmann/json.hpp"

namespace bdh::hub {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

std::string Sha1Hex(std::string_view bytes) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), sizeof digest));
}

std::string GitHash(const std::string& text) {
  return Sha1Hex(absl::StrFormat("blob %d", text.size()) + std::string(1, '\0') + text);
}

bool IsLfs(const std::string& path, const std::string& text) {
  return text.size() >= 1000 || absl::EndsWith(path, ".parquet");
}

std::string Decode(const std::string& target) {
  std::string out;
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] == '%' && i + 2 < target.size()) {
      out += absl::HexStringToBytes(target.substr(i + 1, 2));
      i += 2;
    } else {
      out += target[i];
    }
  }
  return out;
}

using Response = http::response<http::string_body>;

}  // namespace

class HubServer::Impl {
 public:
  Impl()
      : hub_(context_, {asio::ip::make_address("127.0.0.1"), 0}),
        storage_(context_, {asio::ip::make_address("127.0.0.1"), 0}) {
    for (tcp::acceptor* acceptor : {&hub_, &storage_}) {
      acceptors_.emplace_back([this, acceptor] { Accept(*acceptor); });
    }
  }

  ~Impl() {
    stopping_ = true;
    for (tcp::acceptor* acceptor : {&hub_, &storage_}) {
      // Wakes the accept.
      boost::system::error_code ignored;
      tcp::socket socket(context_);
      socket.connect(acceptor->local_endpoint(), ignored);
    }
    for (std::thread& thread : acceptors_) thread.join();
    {
      MutexLock lock(mutex_);
      for (tcp::socket* socket : open_) {
        boost::system::error_code ignored;
        socket->shutdown(tcp::socket::shutdown_both, ignored);
      }
    }
    for (std::thread& thread : connections_) thread.join();
  }

  std::string Origin(const tcp::acceptor& acceptor) const {
    return absl::StrFormat("http://127.0.0.1:%d", acceptor.local_endpoint().port());
  }
  const tcp::acceptor& hub() const { return hub_; }
  const tcp::acceptor& storage() const { return storage_; }

  mutable Mutex mutex_;
  std::map<std::string, std::map<std::string, std::string>> repos_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> pages_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::deque<Fault>> faults_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> lies_ ABSL_GUARDED_BY(mutex_);
  std::string redirect_ ABSL_GUARDED_BY(mutex_);
  std::string token_ ABSL_GUARDED_BY(mutex_);
  size_t page_size_ ABSL_GUARDED_BY(mutex_) = 1000;
  std::string link_origin_ ABSL_GUARDED_BY(mutex_);
  std::vector<SeenRequest> seen_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const SeenRequest&)> hook_ ABSL_GUARDED_BY(mutex_);

  static std::string CommitOf(const std::map<std::string, std::string>& files) {
    std::string all;
    for (const auto& [path, text] : files) all += path + GitHash(text);
    return Sha1Hex(all);
  }

 private:
  void Accept(tcp::acceptor& acceptor) {
    while (true) {
      auto socket = std::make_unique<tcp::socket>(context_);
      boost::system::error_code error;
      acceptor.accept(*socket, error);
      if (stopping_) return;
      if (error) continue;
      MutexLock lock(mutex_);
      open_.insert(socket.get());
      connections_.emplace_back([this, &acceptor, socket = std::move(socket)] {
        Serve(Origin(acceptor), *socket);
        MutexLock connection_lock(mutex_);
        open_.erase(socket.get());
        boost::system::error_code ignored;
        socket->close(ignored);
      });
    }
  }

  void Serve(const std::string& origin, tcp::socket& socket) {
    beast::flat_buffer buffer;
    while (!stopping_) {
      http::request<http::empty_body> request;
      boost::system::error_code error;
      http::read(socket, buffer, request, error);
      if (error) return;
      SeenRequest seen{origin, Decode(std::string(request.target())),
                       std::string(request[http::field::authorization]),
                       std::string(request[http::field::range])};
      Fault fault;
      bool faulty = false;
      std::function<void(const SeenRequest&)> hook;
      {
        MutexLock lock(mutex_);
        seen_.push_back(seen);
        hook = hook_;
        for (auto& [part, faults] : faults_) {
          if (faults.empty() || !absl::StrContains(origin + seen.target, part)) continue;
          fault = faults.front();
          faults.pop_front();
          faulty = true;
          break;
        }
      }
      if (hook) hook(seen);
      Response response = Answer(origin, seen, faulty && fault.kind == Fault::kIgnoreRange);
      if (faulty && fault.kind == Fault::kStatus) {
        response = Plain(fault.status, "an error page, which is no part of the file");
        if (!fault.retry_after.empty()) response.set(http::field::retry_after, fault.retry_after);
        if (!fault.error_code.empty()) response.set("X-Error-Code", fault.error_code);
      }
      if (faulty && fault.kind == Fault::kWrongBytes && !response.body().empty()) response.body()[0] ^= 1;
      response.prepare_payload();
      response.keep_alive(request.keep_alive());
      if (faulty && fault.kind == Fault::kCut) {
        // The header promises all of it.
        http::response_serializer<http::string_body> serializer(response);
        http::write_header(socket, serializer, error);
        asio::write(socket,
                    asio::buffer(response.body().data(), std::min(fault.after, response.body().size())),
                    error);
        return;
      }
      http::write(socket, response, error);
      if (error || !request.keep_alive()) return;
    }
  }

  static Response Plain(int status, const std::string& body) {
    Response response;
    response.version(11);
    response.result(static_cast<unsigned>(status));
    response.body() = body;
    return response;
  }

  static Response NotFound(const std::string& code) {
    Response response = Plain(404, "{\"error\":\"not found\"}");
    response.set("X-Error-Code", code);
    return response;
  }

  static Response Part(const std::string& text, const std::string& range, bool ignore_range) {
    if (range.empty() || ignore_range) return Plain(200, text);
    const size_t from = std::stoul(range.substr(6));
    if (from >= text.size()) return Plain(416, "");
    Response response = Plain(206, text.substr(from));
    response.set(http::field::content_range,
                 absl::StrFormat("bytes %d-%d/%d", from, text.size() - 1, text.size()));
    return response;
  }

  Response Answer(const std::string& origin, const SeenRequest& seen, bool ignore_range) {
    MutexLock lock(mutex_);
    if (const auto page = pages_.find(seen.target); page != pages_.end()) {
      Response response = Part(page->second, seen.range, ignore_range);
      response.set(http::field::etag, "\"" + Sha1Hex(page->second) + "\"");
      return response;
    }
    if (absl::StartsWith(seen.target, "/blob/")) {
      for (const auto& [repo, files] : repos_) {
        for (const auto& [path, text] : files) {
          if (seen.target == "/blob/" + Sha256Hex(text)) return Part(text, seen.range, ignore_range);
        }
      }
    }
    if (origin != Origin(hub_)) return Plain(404, "");
    if (!token_.empty() && seen.authorization != "Bearer " + token_) {
      Response response = Plain(401, "{}");
      response.set("X-Error-Code", "RepoNotFound");
      return response;
    }
    for (const auto& [repo, files] : repos_) {
      const std::string api = "/api/" + repo + "/";
      if (absl::StartsWith(seen.target, api)) return Api(repo, files, seen.target.substr(api.size()));
      const std::string base = absl::StartsWith(repo, "models/") ? repo.substr(6) : "/" + repo;
      if (absl::StartsWith(seen.target, base + "/resolve/")) {
        return Resolve(files, seen, seen.target.substr(base.size() + 9), ignore_range);
      }
    }
    return NotFound("RepoNotFound");
  }

  Response Api(const std::string& repo, const std::map<std::string, std::string>& files,
               const std::string& rest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string commit = CommitOf(files);
    if (rest == "revision/main" || rest == "revision/refs/convert/parquet") {
      return Plain(200, nlohmann::json({{"sha", commit}}).dump());
    }
    if (absl::StartsWith(rest, "revision/")) return NotFound("RevisionNotFound");
    if (!absl::StartsWith(rest, "tree/" + commit)) return NotFound("RevisionNotFound");
    const size_t cursor = rest.find("cursor=");
    const size_t from = cursor == std::string::npos ? 0 : std::stoul(rest.substr(cursor + 7));
    auto json =
        nlohmann::json::array({{{"type", "directory"}, {"path", "x"}, {"oid", Sha1Hex("x")}, {"size", 0}}});
    size_t index = 0;
    for (const auto& [path, text] : files) {
      if (index++ < from || index > from + page_size_) continue;
      nlohmann::json item = {{"type", "file"}, {"path", path}, {"size", text.size()}, {"oid", GitHash(text)}};
      const auto lie = lies_.find(path);
      const std::string sha256 = lie == lies_.end() ? Sha256Hex(text) : lie->second;
      if (IsLfs(path, text)) item["lfs"] = {{"oid", sha256}, {"size", text.size()}};
      json.push_back(item);
    }
    Response response = Plain(200, json.dump());
    if (from + page_size_ < files.size()) {
      response.set(http::field::link,
                   absl::StrFormat("<%s/api/%s/tree/%s?recursive=true&cursor=%d>; rel=\"next\"",
                                   link_origin_.empty() ? Origin(hub_) : link_origin_, repo, commit,
                                   from + page_size_));
    }
    return response;
  }

  Response Resolve(const std::map<std::string, std::string>& files, const SeenRequest& seen,
                   const std::string& rest, bool ignore_range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string commit = CommitOf(files);
    if (!absl::StartsWith(rest, commit + "/")) return NotFound("RevisionNotFound");
    const auto file = files.find(rest.substr(commit.size() + 1));
    if (file == files.end()) return NotFound("EntryNotFound");
    const bool lfs = IsLfs(file->first, file->second);
    Response response = lfs ? Plain(302, "moved") : Part(file->second, seen.range, ignore_range);
    response.set("X-Repo-Commit", commit);
    response.set(http::field::etag, "\"" + GitHash(file->second) + "\"");
    if (lfs) {
      response.set("X-Linked-Etag", "\"" + Sha256Hex(file->second) + "\"");
      response.set("X-Linked-Size", std::to_string(file->second.size()));
      response.set(http::field::location,
                   redirect_.empty() ? Origin(storage_) + "/blob/" + Sha256Hex(file->second) : redirect_);
    }
    return response;
  }

  asio::io_context context_;
  tcp::acceptor hub_, storage_;
  std::atomic<bool> stopping_ = false;
  std::vector<std::thread> acceptors_;
  std::vector<std::thread> connections_ ABSL_GUARDED_BY(mutex_);
  std::set<tcp::socket*> open_ ABSL_GUARDED_BY(mutex_);
};

HubServer::HubServer() : impl_(std::make_unique<Impl>()) {}
HubServer::~HubServer() = default;

std::string HubServer::endpoint() const {
  return impl_->Origin(impl_->hub());
}
std::string HubServer::storage() const {
  return impl_->Origin(impl_->storage());
}

void HubServer::Put(const std::string& repo, const std::map<std::string, std::string>& files) {
  MutexLock lock(impl_->mutex_);
  impl_->repos_[repo] = files;
}
void HubServer::PutPage(const std::string& path, const std::string& body) {
  MutexLock lock(impl_->mutex_);
  impl_->pages_[path] = body;
}
std::string HubServer::commit(const std::string& repo) const {
  MutexLock lock(impl_->mutex_);
  return Impl::CommitOf(impl_->repos_.at(repo));
}
void HubServer::Inject(const std::string& part, std::vector<Fault> faults) {
  MutexLock lock(impl_->mutex_);
  impl_->faults_[part] = {faults.begin(), faults.end()};
}
void HubServer::RedirectTo(const std::string& location) {
  MutexLock lock(impl_->mutex_);
  impl_->redirect_ = location;
}
void HubServer::RequireToken(const std::string& token) {
  MutexLock lock(impl_->mutex_);
  impl_->token_ = token;
}
void HubServer::SetPageSize(size_t files) {
  MutexLock lock(impl_->mutex_);
  impl_->page_size_ = files;
}
void HubServer::LieAbout(const std::string& path, const std::string& sha256) {
  MutexLock lock(impl_->mutex_);
  impl_->lies_[path] = sha256;
}
void HubServer::OnRequest(std::function<void(const SeenRequest&)> hook) {
  MutexLock lock(impl_->mutex_);
  impl_->hook_ = std::move(hook);
}
void HubServer::LinkAs(const std::string& origin) {
  MutexLock lock(impl_->mutex_);
  impl_->link_origin_ = origin;
}
std::vector<SeenRequest> HubServer::requests() const {
  MutexLock lock(impl_->mutex_);
  return impl_->seen_;
}
int HubServer::CountOf(const std::string& part) const {
  int count = 0;
  for (const SeenRequest& request : requests()) count += absl::StrContains(request.target, part) ? 1 : 0;
  return count;
}

}  // namespace bdh::hub
