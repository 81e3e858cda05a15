#include "bdh/hub/hub.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/exceptions.h"
#include "bdh/base/file.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "cache.h"
#include "choose.h"
#include "download.h"
#include "names.h"
#include "nlohmann/json.hpp"

namespace bdh::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFilesMax = 1'000'000;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
// Unrelated to any repository, so that no hub's cache has it.
constexpr std::string_view kUrlFolder = "bdh-urls";

std::string EtagOf(const RemoteFile& file) {
  return file.sha256.empty() ? file.git_sha1 : file.sha256;
}

std::string_view KindPath(RepoKind kind) {
  return kind == RepoKind::kDataset ? "datasets" : "models";
}

std::string Shown(const Source& source) {
  if (!source.url.empty()) return source.url;
  return absl::StrFormat("hf://%s/%s", KindPath(source.kind), source.repo);
}

absl::Status BadAnswer(std::string_view url) {
  return absl::FailedPreconditionError(
      absl::StrFormat("%s does not answer as the hub's API does; check hub_endpoint (or HF_ENDPOINT)", url));
}

absl::Status NotCached(std::string_view what) {
  return absl::NotFoundError(absl::StrFormat(
      "%s is not in the cache, and hub_offline (or HF_HUB_OFFLINE) is set; fetch it once with a connection",
      what));
}

// The work of one call: what is done in parallel shares its state.
class Session {
 public:
  Session(const Options& options, const Source& source)
      : options_(options), source_(source), cache_(options.cache_dir, source.kind, source.repo) {}

  absl::Status Check() const {
    if (!fs::path(options_.cache_dir).is_absolute()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("hub_cache_dir is '%s'; want an absolute path", options_.cache_dir));
    }
    if (OriginOf(options_.endpoint).empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "hub_endpoint is '%s'; want a URL such as https://huggingface.co, without a user in it",
          options_.endpoint));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Listing> List() {
    const std::string revision = source_.revision.empty() ? "main" : source_.revision;
    BDH_ASSIGN_OR_RETURN(const std::string commit, Commit(revision));
    if (auto listing = cache_.ReadListing(commit)) return *std::move(listing);
    if (options_.offline) return ListSnapshot(commit);
    BDH_ASSIGN_OR_RETURN(Listing listing, ListTree(commit));
    BDH_RETURN_IF_ERROR(cache_.MakeFolders());
    BDH_RETURN_IF_ERROR(cache_.WriteListing(listing));
    // The revision is this commit from now on, also offline: not before the listing of it is there.
    if (revision != commit) BDH_RETURN_IF_ERROR(cache_.WriteRef(revision, commit));
    return listing;
  }

  absl::StatusOr<Choice> ChooseFiles(std::string_view split) {
    BDH_ASSIGN_OR_RETURN(const Listing listing, List());
    Choice choice{listing.commit, {}, {}};
    BDH_ASSIGN_OR_RETURN(choice.remote, Choose(listing, split));
    for (const RemoteFile& file : choice.remote) {
      choice.local.push_back({.path = cache_.SnapshotFile(listing.commit, file.path),
                              .name = file.path,
                              .size_bytes = file.size_bytes,
                              .etag = EtagOf(file),
                              .sha256 = file.sha256});
    }
    return choice;
  }

  absl::StatusOr<Fetched> FetchRepo(std::string_view split, const Hub::OnProgress& progress) {
    BDH_ASSIGN_OR_RETURN(Choice choice, ChooseFiles(split));
    BDH_RETURN_IF_ERROR(FetchAll(choice.commit, choice.remote, progress));
    return Fetched{choice.commit, cache_.Snapshot(choice.commit), std::move(choice.local)};
  }

  absl::Status FetchOne(const Choice& choice, size_t index, const Hub::OnProgress& progress) {
    return FetchAll(choice.commit, {choice.remote.at(index)}, progress);
  }

  absl::StatusOr<Fetched> FetchUrl(const Hub::OnProgress& progress) {
    const std::string& url = source_.url;
    const std::string folder =
        absl::StrFormat("%s/%s/%s", options_.cache_dir, kUrlFolder, Sha256Hex(url).substr(0, 32));
    const std::string name = NameOfUrl(url);
    const std::string path = absl::StrFormat("%s/%s", folder, name);
    const std::string about = folder + "/about.json";
    BDH_RETURN_IF_ERROR(MakeDirectories(folder));
    // What is there stays what it is: a data set made of it does not change under it. Deleting the folder
    // fetches anew.
    if (const auto known = ReadFile(about); known.ok() && Exists(path)) {
      const auto json = nlohmann::json::parse(*known, nullptr, false);
      if (json.is_object())
        return UrlFile(folder, path, name, json.value("etag", ""), json.value("sha256", ""));
    }
    if (options_.offline) return NotCached(url);
    const RemoteFile file{.path = name, .size_bytes = -1, .git_sha1 = "", .sha256 = ""};
    std::string etag;
    BDH_RETURN_IF_ERROR(Run({file}, progress, [&](Downloader& downloader, const RemoteFile&) -> absl::Status {
      const std::string incomplete = path + ".incomplete";
      BDH_ASSIGN_OR_RETURN(const DownloadResult got,
                           downloader.GetFile(url, incomplete, -1, [&](int64_t bytes) { Count(bytes); }));
      etag = got.etag;
      return Rename(incomplete, path);
    }));
    BDH_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(path));
    const nlohmann::json json = {{"url", url}, {"etag", etag}, {"sha256", sha256}};
    BDH_RETURN_IF_ERROR(
        WriteFileAtomically(about, json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace)));
    return UrlFile(folder, path, name, etag, sha256);
  }

 private:
  using Work = std::function<absl::Status(Downloader&, const RemoteFile&)>;

  static bool Exists(const std::string& path) {
    struct stat status = {};
    return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
  }

  static std::string NameOfUrl(std::string_view url) {
    const size_t end = std::min(url.find_first_of("?#"), url.size());
    const std::string_view path = url.substr(0, end);
    const std::string name(path.substr(path.rfind('/') + 1));
    return IsRepoPath(name) && name[0] != '.' && name != "about.json" ? name : "file.txt";
  }

  static absl::Status Rename(const std::string& from, const std::string& to) {
    if (rename(from.c_str(), to.c_str()) == 0) return SyncDirectory(fs::path(to).parent_path());
    return ErrnoStatus(errno, absl::StrFormat("rename %s", from));
  }

  static absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
    const std::atomic<bool> never = false;
    return ContentSha256(path, never);
  }

  static absl::StatusOr<Fetched> UrlFile(const std::string& folder, const std::string& path,
                                         const std::string& name, const std::string& etag,
                                         const std::string& sha256) {
    std::error_code error;
    const auto size = static_cast<int64_t>(fs::file_size(path, error));
    if (error) return ErrnoStatus(error.value(), absl::StrFormat("size of %s", path));
    return Fetched{"", folder, {{path, name, size, etag, sha256}}};
  }

  std::string Api(std::string_view what) const {
    return absl::StrFormat("%s/api/%s/%s/%s", options_.endpoint, KindPath(source_.kind),
                           PercentEncode(source_.repo, /*keep_slashes=*/true), what);
  }

  // What the revision is now, or offline was last.
  absl::StatusOr<std::string> Commit(const std::string& revision) {
    if (IsCommit(revision)) return revision;
    if (options_.offline) {
      const auto commit = cache_.ReadRef(revision);
      if (!commit) return NotCached(absl::StrFormat("%s@%s", Shown(source_), revision));
      return *commit;
    }
    const std::string url = Api(absl::StrFormat("revision/%s", PercentEncode(revision, false)));
    Downloader downloader(options_, cancelled_);
    BDH_ASSIGN_OR_RETURN(const Downloader::Text text, downloader.GetText(url));
    const auto json = nlohmann::json::parse(text.body, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("sha") || !json["sha"].is_string()) return BadAnswer(url);
    std::string commit = json["sha"];
    if (!IsCommit(commit)) return BadAnswer(url);
    return commit;
  }

  absl::StatusOr<Listing> ListTree(const std::string& commit) {
    Listing listing{commit, {}};
    Downloader downloader(options_, cancelled_);
    std::string url = Api(absl::StrFormat("tree/%s?recursive=true&expand=false", commit));
    std::set<std::string> pages;
    while (!url.empty()) {
      // What goes round in circles is no listing.
      if (!pages.insert(url).second) return BadAnswer(url);
      BDH_ASSIGN_OR_RETURN(const Downloader::Text text, downloader.GetText(url));
      const auto json = nlohmann::json::parse(text.body, nullptr, /*allow_exceptions=*/false);
      if (!json.is_array()) return BadAnswer(url);
      for (const auto& item : json) BDH_RETURN_IF_ERROR(AddEntry(item, url, listing));
      url = OnEndpoint(text.next);
    }
    std::sort(listing.files.begin(), listing.files.end(),
              [](const auto& a, const auto& b) { return a.path < b.path; });
    return listing;
  }

  // A mirror may hand on links to the server that it mirrors: the listing goes on where it began.
  std::string OnEndpoint(const std::string& url) const {
    if (url.empty() || OriginOf(url) == OriginOf(options_.endpoint)) return url;
    const size_t path = url.find('/', url.find("://") + 3);
    return path == std::string::npos ? "" : options_.endpoint + url.substr(path);
  }

  static absl::Status AddEntry(const nlohmann::json& item, const std::string& url, Listing& listing) {
    const auto text = [](const nlohmann::json& of, const char* key) {
      return of.is_object() && of.contains(key) && of[key].is_string() ? of[key].get<std::string>() : "";
    };
    if (text(item, "type") != "file") return absl::OkStatus();
    RemoteFile file;
    file.path = text(item, "path");
    file.git_sha1 = text(item, "oid");
    file.size_bytes =
        item.contains("size") && item["size"].is_number_integer() ? item["size"].get<int64_t>() : -1;
    if (item.contains("lfs") && item["lfs"].is_object()) {
      file.sha256 = text(item["lfs"], "oid");
      if (item["lfs"].contains("size") && item["lfs"]["size"].is_number_integer())
        file.size_bytes = item["lfs"]["size"];
      if (!IsSha256(file.sha256)) return BadAnswer(url);
    }
    if (!IsRepoPath(file.path)) {
      return absl::FailedPreconditionError(
          absl::StrFormat("%s: a file's name leads out of its folder; this repository is not fetched", url));
    }
    if (file.size_bytes < 0 || !IsCommit(file.git_sha1)) return BadAnswer(url);
    if (listing.files.size() >= kFilesMax) {
      return absl::ResourceExhaustedError(absl::StrFormat("%s: more than %d files", url, kFilesMax));
    }
    listing.files.push_back(std::move(file));
    return absl::OkStatus();
  }

  // What other tools have fetched of it.
  absl::StatusOr<Listing> ListSnapshot(const std::string& commit) const {
    Listing listing{commit, {}};
    const std::string folder = cache_.Snapshot(commit);
    std::error_code error;
    for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      std::error_code gone;
      if (!it->is_regular_file(gone)) continue;
      const std::string etag = fs::read_symlink(it->path(), gone).filename();
      RemoteFile file{.path = it->path().lexically_relative(folder),
                      .size_bytes = static_cast<int64_t>(it->file_size(gone)),
                      .git_sha1 = IsCommit(etag) ? etag : "",
                      .sha256 = IsSha256(etag) ? etag : ""};
      if (IsRepoPath(file.path) && !EtagOf(file).empty()) listing.files.push_back(std::move(file));
    }
    if (listing.files.empty()) return NotCached(absl::StrFormat("%s@%s", Shown(source_), commit));
    std::sort(listing.files.begin(), listing.files.end(),
              [](const auto& a, const auto& b) { return a.path < b.path; });
    return listing;
  }

  absl::StatusOr<std::vector<RemoteFile>> Choose(const Listing& listing, std::string_view split) {
    if (source_.kind == RepoKind::kModel) {
      auto chosen = ChooseModelFiles(listing.files);
      if (!chosen.ok()) return Annotate(chosen.status(), Shown(source_));
      return chosen;
    }
    std::string readme;
    for (const RemoteFile& file : listing.files) {
      constexpr int64_t kReadmeBytesMax = 4 << 20;
      if (file.path != "README.md" || file.size_bytes > kReadmeBytesMax) continue;
      BDH_RETURN_IF_ERROR(FetchAll(listing.commit, {file}, nullptr));
      BDH_ASSIGN_OR_RETURN(readme, ReadFile(cache_.SnapshotFile(listing.commit, file.path)));
    }
    auto chosen = ChooseDataFiles(listing.files, readme, source_.config, split);
    if (!chosen.ok()) return Annotate(chosen.status(), Shown(source_));
    return chosen;
  }

  absl::Status FetchAll(const std::string& commit, const std::vector<RemoteFile>& files,
                        const Hub::OnProgress& progress) {
    for (const RemoteFile& file : files) {
      if (file.size_bytes > options_.max_file_bytes) {
        return absl::ResourceExhaustedError(
            absl::StrFormat("%s: %s holds %s, more than the limit of %s", Shown(source_), file.path,
                            FormatBytes(file.size_bytes), FormatBytes(options_.max_file_bytes)));
      }
    }
    if (!options_.offline) BDH_RETURN_IF_ERROR(cache_.MakeFolders());
    return Run(files, progress, [&](Downloader& downloader, const RemoteFile& file) {
      return Annotate(FetchFile(downloader, commit, file),
                      absl::StrFormat("%s: %s", Shown(source_), file.path));
    });
  }

  bool IsCached(const RemoteFile& file) const {
    struct stat status = {};
    return stat(cache_.Blob(EtagOf(file)).c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           status.st_size == file.size_bytes;
  }

  absl::Status FetchFile(Downloader& downloader, const std::string& commit, const RemoteFile& file) {
    const std::string etag = EtagOf(file);
    if (!IsCached(file)) {
      if (options_.offline) return NotCached("it");
      BDH_ASSIGN_OR_RETURN(const auto lock, cache_.Lock(etag, cancelled_));
      // Another process may have fetched it while we waited.
      if (!IsCached(file)) {
        BDH_RETURN_IF_ERROR(Download(downloader, commit, file));
      } else {
        Count(file.size_bytes);
      }
    } else {
      Count(file.size_bytes);
    }
    // Offline the cache may be for reading alone.
    if (options_.offline && Exists(cache_.SnapshotFile(commit, file.path))) return absl::OkStatus();
    return cache_.Link(commit, file.path, etag);
  }

  absl::Status Download(Downloader& downloader, const std::string& commit, const RemoteFile& file) {
    const std::string etag = EtagOf(file);
    const std::string incomplete = cache_.Incomplete(etag);
    const std::string url = absl::StrFormat(
        "%s/%s%s/resolve/%s/%s", options_.endpoint, source_.kind == RepoKind::kDataset ? "datasets/" : "",
        PercentEncode(source_.repo, true), commit, PercentEncode(file.path, true));
    absl::Status status =
        downloader.GetFile(url, incomplete, file.size_bytes, [&](int64_t bytes) { Count(bytes); }).status();
    if (status.ok()) status = CheckContent(incomplete, file, cancelled_);
    if (absl::IsDataLoss(status)) {
      unlink(incomplete.c_str());
      return absl::DataLossError(
          absl::StrFormat("what came is not what the server said: %s; it is deleted: try again, and if it "
                          "stays so ask the server's owner",
                          status.message()));
    }
    BDH_RETURN_IF_ERROR(status);
    return Rename(incomplete, cache_.Blob(etag));
  }

  void Count(int64_t bytes) { bytes_done_ += bytes; }

  // Does `work` for every file, a few at a time, and tells how far it is. The first error ends all.
  absl::Status Run(const std::vector<RemoteFile>& files, const Hub::OnProgress& progress, const Work& work) {
    bytes_done_ = 0;
    next_ = files_done_ = 0;
    Progress at;
    at.files_total = static_cast<int64_t>(files.size());
    for (const RemoteFile& file : files) at.bytes_total += std::max<int64_t>(file.size_bytes, 0);
    std::vector<std::thread> threads;
    const size_t count = std::min(files.size(), static_cast<size_t>(std::max(options_.parallel, 1)));
    {
      MutexLock lock(mutex_);
      running_ = count;
    }
    for (size_t i = 0; i < count; ++i) threads.emplace_back([&] { RunWorker(files, work); });
    const auto report = [&] {
      at.files_done = files_done_;
      at.bytes_done = bytes_done_;
      if (progress == nullptr || progress(at)) return;
      MutexLock lock(mutex_);
      if (status_.ok())
        status_ = absl::CancelledError("the download was cancelled; what came so far is kept");
      cancelled_ = true;
    };
    while (true) {
      {
        MutexLock lock(mutex_);
        if (running_ > 0) ended_.WaitFor(mutex_, absl::ToChronoNanoseconds(kProgressInterval));
        if (running_ == 0) break;
      }
      report();
    }
    for (std::thread& thread : threads) thread.join();
    {
      MutexLock lock(mutex_);
      BDH_RETURN_IF_ERROR(status_);
    }
    report();
    MutexLock lock(mutex_);
    return status_;
  }

  void RunWorker(const std::vector<RemoteFile>& files, const Work& work) {
    const absl::Status status = CatchExceptions([&]() -> absl::Status {
      Downloader downloader(options_, cancelled_);
      for (size_t i = next_++; i < files.size() && !cancelled_; i = next_++) {
        BDH_RETURN_IF_ERROR(work(downloader, files[i]));
        ++files_done_;
      }
      return absl::OkStatus();
    });
    MutexLock lock(mutex_);
    if (!status.ok() && status_.ok()) {
      status_ = status;
      cancelled_ = true;
    }
    --running_;
    ended_.NotifyAll();
  }

  const Options& options_;
  const Source& source_;
  const RepoCache cache_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<int64_t> bytes_done_ = 0;
  std::atomic<int64_t> files_done_ = 0;
  std::atomic<size_t> next_ = 0;
  Mutex mutex_;
  CondVar ended_;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

Hub::Hub(Options options) : options_(std::move(options)) {}

absl::StatusOr<Fetched> Hub::Fetch(const Source& source, std::string_view split, const OnProgress& progress) {
  Session session(options_, source);
  BDH_RETURN_IF_ERROR(session.Check());
  return source.url.empty() ? session.FetchRepo(split, progress) : session.FetchUrl(progress);
}

absl::StatusOr<Choice> Hub::Choose(const Source& source, std::string_view split) {
  if (!source.url.empty()) return absl::InvalidArgumentError("a URL is one file; there is nothing to choose");
  Session session(options_, source);
  BDH_RETURN_IF_ERROR(session.Check());
  return session.ChooseFiles(split);
}

absl::Status Hub::FetchFile(const Source& source, const Choice& choice, size_t index,
                            const OnProgress& progress) {
  Session session(options_, source);
  BDH_RETURN_IF_ERROR(session.Check());
  return session.FetchOne(choice, index, progress);
}

absl::StatusOr<Listing> Hub::List(const Source& source) {
  if (!source.url.empty()) return absl::InvalidArgumentError("a URL is one file; there is nothing to list");
  Session session(options_, source);
  BDH_RETURN_IF_ERROR(session.Check());
  return session.List();
}

}  // namespace bdh::hub
