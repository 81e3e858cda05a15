// Proves what is fetched, from a server on loopback that speaks the hub's API: which files, where they lie,
// that a token goes nowhere else, and that 503, 429, cut connections, ignored ranges, wrong bytes and a
// server that is gone end in the right bytes or in a sentence.
#include "bdh/hub/hub.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <latch>
#include <thread>

#include "absl/strings/match.h"
#include "bdh/base/file.h"
#include "bdh/base/text.h"
#include "bdh/hub/ahead.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "choose.h"
#include "hub_server_testing.h"

namespace bdh::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Big(char first, size_t size = 300'000) {
  std::string text(size, first);
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(first + (i * 7919 >> 5) % 23);
  return text;
}

class HubTest : public ::testing::Test {
 protected:
  HubTest() {
    setenv("no_proxy", "127.0.0.1", 1);
    options_.endpoint = server_.endpoint();
    options_.cache_dir = folder_.path();
    options_.backoff = absl::Milliseconds(1);
    options_.backoff_max = absl::Seconds(2);
    options_.stall = absl::Seconds(1);
    server_.Put("datasets/me/set", files_);
  }

  absl::StatusOr<Fetched> Fetch(const std::string& source, const std::string& split = "") {
    BDH_ASSIGN_OR_RETURN(const Source parsed, ParseSource(source));
    return Hub(options_).Fetch(parsed, split, [&](const Progress& progress) {
      progress_ = progress;
      return true;
    });
  }
  std::string Refusal(const std::string& source, const std::string& split = "") {
    return std::string(Fetch(source, split).status().message());
  }
  static std::vector<std::string> Names(const Fetched& fetched) {
    std::vector<std::string> names;
    for (const LocalFile& file : fetched.files) names.push_back(file.name);
    return names;
  }
  void ExpectContent(const Fetched& fetched) {
    for (const LocalFile& file : fetched.files) {
      EXPECT_EQ(*ReadFile(file.path), files_.at(file.name)) << file.name;
      EXPECT_EQ(file.size_bytes, static_cast<int64_t>(files_.at(file.name).size()));
    }
  }
  std::vector<std::string> Incomplete() {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
      if (absl::StrContains(entry.path().string(), ".incomplete")) found.push_back(entry.path());
    }
    return found;
  }

  const std::map<std::string, std::string> files_ = {{"README.md", "# A set\n"},
                                                     {"data/train-00000-of-00002.parquet", Big('a')},
                                                     {"data/train-00001-of-00002.parquet", Big('b')},
                                                     {"data/test-00000-of-00001.parquet", Big('c', 5000)},
                                                     {"data/validation.jsonl", "{\"text\":\"v\"}\n"},
                                                     {".gitattributes", "x"}};
  HubServer server_;
  TempDirectory folder_;
  Options options_;
  Progress progress_;
};

TEST_F(HubTest, FetchesASplitIntoTheHubsLayout) {
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  EXPECT_THAT(Names(fetched),
              ElementsAre("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"));
  ExpectContent(fetched);
  const std::string repo = folder_.path() + "/datasets--me--set";
  const std::string commit = server_.commit("datasets/me/set");
  EXPECT_EQ(fetched.commit, commit);
  EXPECT_EQ(*ReadFile(repo + "/refs/main"), commit);
  EXPECT_EQ(fetched.files[0].path, repo + "/snapshots/" + commit + "/data/train-00000-of-00002.parquet");
  const std::string sha256 = Sha256Hex(files_.at("data/train-00000-of-00002.parquet"));
  EXPECT_EQ(fetched.files[0].sha256, sha256);
  EXPECT_EQ(fs::read_symlink(fetched.files[0].path), "../../../blobs/" + sha256);
  EXPECT_EQ(progress_.bytes_done, 600'000);
  EXPECT_EQ(progress_.bytes_total, 600'000);
  EXPECT_EQ(progress_.files_done, 2);
  EXPECT_THAT(Incomplete(), IsEmpty());
  // Again: the revision is asked for, nothing else.
  const size_t requests = server_.requests().size();
  BDH_ASSERT_OK(Fetch("hf://datasets/me/set"));
  EXPECT_EQ(server_.requests().size(), requests + 1);
  BDH_ASSERT_OK(Fetch("hf://datasets/me/set@" + commit));
  EXPECT_EQ(server_.requests().size(), requests + 1) << "a commit is what it is";
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched small,
                           Fetch("hf://datasets/me/set@refs/convert/parquet", "validation"));
  ExpectContent(small);
}

TEST_F(HubTest, ListingsComeInPages) {
  server_.SetPageSize(2);
  BDH_ASSERT_OK_AND_ASSIGN(const Source source, ParseSource("hf://datasets/me/set"));
  BDH_ASSERT_OK_AND_ASSIGN(const Listing listing, Hub(options_).List(source));
  EXPECT_EQ(listing.files.size(), files_.size());
  EXPECT_EQ(server_.CountOf("/tree/"), 3);
  // A mirror that links to what it mirrors.
  server_.LinkAs("https://huggingface.co");
  server_.Put("datasets/me/set", {{"a", "1"}, {"b", "2"}, {"c", "3"}});
  BDH_ASSERT_OK_AND_ASSIGN(const Listing mirrored, Hub(options_).List(source));
  EXPECT_EQ(mirrored.files.size(), 3u);
}

TEST_F(HubTest, TheTokenStaysWithTheHub) {
  options_.token = "hf_secret";
  server_.RequireToken("hf_secret");
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  int elsewhere = 0;
  for (const SeenRequest& request : server_.requests()) {
    const bool to_hub = request.origin == server_.endpoint();
    EXPECT_EQ(request.authorization, to_hub ? "Bearer hf_secret" : "") << request.target;
    elsewhere += to_hub ? 0 : 1;
  }
  EXPECT_EQ(elsewhere, 2);
  server_.PutPage("/x.txt", "x");
  BDH_ASSERT_OK(Fetch(server_.storage() + "/x.txt"));
  EXPECT_EQ(server_.requests().back().authorization, "");
}

TEST_F(HubTest, WithoutATokenThatSuitsTheRemedyIsNamed) {
  server_.RequireToken("hf_secret");
  EXPECT_THAT(
      Refusal("hf://datasets/me/set"),
      HasSubstr("HTTP 401: there is no such repository, or it is private: check the name, or set hub_token"));
  server_.Inject("/revision/", {{.status = 403, .error_code = "GatedRepo"}});
  EXPECT_THAT(Refusal("hf://datasets/me/set"), HasSubstr("this repository is gated; accept its terms"));
  options_.token = "a\r\nX-Evil: 1";
  EXPECT_THAT(Refusal("hf://datasets/me/set"), HasSubstr("control characters"));
}

TEST_F(HubTest, RecoversFromWhatPasses) {
  const std::vector<Fault> some = {
      {.status = 503}, {.status = 429, .retry_after = "0"}, {.status = 502}, {.status = 500}};
  server_.Inject("/revision/", some);
  server_.Inject("/tree/", some);
  server_.Inject("/blob/", {{.kind = Fault::kCut, .after = 100'000},
                            {.status = 503},
                            {.kind = Fault::kCut, .after = 0},
                            {.kind = Fault::kCut, .after = 150'000},
                            {.status = 429, .retry_after = "0"}});
  options_.parallel = 1;
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  std::vector<std::string> ranges;
  for (const SeenRequest& request : server_.requests()) {
    if (absl::StrContains(request.target, "/blob/")) ranges.push_back(request.range);
  }
  EXPECT_THAT(ranges, ElementsAre("", "bytes=100000-", "bytes=100000-", "bytes=100000-", "bytes=250000-",
                                  "bytes=250000-", ""));
}

TEST_F(HubTest, AServerThatIgnoresRangesBeginsAnew) {
  server_.Inject("/blob/", {{.kind = Fault::kCut, .after = 100'000}, {.kind = Fault::kIgnoreRange}});
  options_.parallel = 1;
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  EXPECT_EQ(progress_.bytes_done, 600'000);
}

TEST_F(HubTest, GoesOnWhereAnEarlierProcessEnded) {
  server_.Inject("/blob/", std::vector<Fault>(100, {.kind = Fault::kCut, .after = 0}));
  options_.attempts = 2;
  options_.parallel = 1;
  EXPECT_EQ(Fetch("hf://datasets/me/set").status().code(), absl::StatusCode::kUnavailable);
  server_.Inject("/blob/", {{.kind = Fault::kCut, .after = 50'000}, {.status = 503}, {.status = 503}});
  EXPECT_THAT(Refusal("hf://datasets/me/set"), HasSubstr("data/train-00000-of-00002.parquet: tried 2 times"));
  ASSERT_EQ(Incomplete().size(), 1u);
  EXPECT_EQ(fs::file_size(Incomplete()[0]), 50'000u);
  server_.Inject("/blob/", {});
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  EXPECT_THAT(Incomplete(), IsEmpty());
}

TEST_F(HubTest, WrongBytesAreDeletedAndRefused) {
  server_.Inject("/blob/", {{.kind = Fault::kWrongBytes}});
  options_.parallel = 1;
  const auto wrong = Fetch("hf://datasets/me/set").status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kDataLoss) << wrong;
  EXPECT_THAT(
      std::string(wrong.message()),
      HasSubstr("data/train-00000-of-00002.parquet: what came is not what the server said: its SHA-256 is "));
  EXPECT_THAT(Incomplete(), IsEmpty());
  EXPECT_TRUE(fs::is_empty(folder_.path() + "/datasets--me--set/blobs") ||
              !fs::exists(folder_.path() + "/datasets--me--set/blobs/" +
                          Sha256Hex(files_.at("data/train-00000-of-00002.parquet"))));
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  // A small file, which git's hash is for.
  server_.Inject("validation.jsonl", {{.kind = Fault::kWrongBytes}});
  EXPECT_THAT(Refusal("hf://datasets/me/set", "validation"), HasSubstr("its git hash is "));
}

TEST_F(HubTest, LongPausesAreRefusedNotWaitedFor) {
  server_.Inject("/revision/", {{.status = 429, .retry_after = "3600"}});
  const auto status = Fetch("hf://datasets/me/set").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("asks to wait 1h"));
}

TEST_F(HubTest, OfflineNothingLeavesTheMachine) {
  BDH_ASSERT_OK(Fetch("hf://datasets/me/set"));
  options_.offline = true;
  const size_t requests = server_.requests().size();
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://datasets/me/set"));
  ExpectContent(fetched);
  EXPECT_THAT(Refusal("hf://datasets/me/set", "test"),
              HasSubstr("data/test-00000-of-00001.parquet: it is not in the cache, and hub_offline"));
  EXPECT_THAT(Refusal("hf://datasets/me/other"),
              HasSubstr("hf://datasets/me/other@main is not in the cache"));
  EXPECT_THAT(Refusal("https://example.org/x.txt"),
              HasSubstr("https://example.org/x.txt is not in the cache"));
  EXPECT_EQ(server_.requests().size(), requests);
  // What another tool of the ecosystem left there, without a listing of ours.
  fs::remove_all(folder_.path() + "/datasets--me--set/bdh");
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched theirs, Fetch("hf://datasets/me/set"));
  ExpectContent(theirs);
  EXPECT_EQ(theirs.files.size(), 2u);
}

TEST_F(HubTest, AServerThatIsNotThere) {
  options_.endpoint = "http://127.0.0.1:1";
  const auto status = Fetch("hf://datasets/me/set").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tried 3 times; try again later"));
  options_.endpoint = "file:///etc";
  EXPECT_THAT(Refusal("hf://datasets/me/set"), HasSubstr("hub_endpoint is 'file:///etc'; want a URL"));
  options_.endpoint = server_.endpoint();
  server_.Inject("/revision/", {{.status = 200}});
  EXPECT_THAT(Refusal("hf://datasets/me/set"),
              HasSubstr("does not answer as the hub's API does; check hub_endpoint"));
}

TEST_F(HubTest, CancellingKeepsWhatCame) {
  BDH_ASSERT_OK_AND_ASSIGN(const Source source, ParseSource("hf://datasets/me/set"));
  const auto status = Hub(options_).Fetch(source, "", [](const Progress&) { return false; }).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  BDH_ASSERT_OK(Fetch("hf://datasets/me/set"));
}

TEST_F(HubTest, TwoAtOnceFetchOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      const auto source = ParseSource("hf://datasets/me/set");
      BDH_EXPECT_OK(Hub(options_).Fetch(*source, "", nullptr));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(server_.CountOf("/blob/"), 2);
}

TEST_F(HubTest, OneByOneAFileIsFetchedAheadAndNoMore) {
  server_.Put("datasets/me/parts", {{"data/train-0.jsonl", Big('a', 5000)},
                                    {"data/train-1.jsonl", Big('b', 5000)},
                                    {"data/train-2.jsonl", Big('c', 5000)},
                                    {"data/train-3.jsonl", Big('d', 5000)}});
  BDH_ASSERT_OK_AND_ASSIGN(const Source source, ParseSource("hf://datasets/me/parts"));
  BDH_ASSERT_OK_AND_ASSIGN(const Choice choice, Hub(options_).Choose(source, ""));
  ASSERT_EQ(choice.local.size(), 4u);
  EXPECT_FALSE(fs::exists(choice.local[0].path)) << "chosen, not fetched";
  EXPECT_EQ(choice.local[0].sha256, Sha256Hex(Big('a', 5000)));
  const auto patient = [] { return absl::OkStatus(); };
  {
    Ahead ahead(options_, source, choice);
    BDH_ASSERT_OK(ahead.Await(0, patient));
    EXPECT_EQ(*ReadFile(choice.local[0].path), Big('a', 5000));
    while (!fs::exists(choice.local[1].path)) std::this_thread::yield();
    EXPECT_EQ(server_.CountOf("train-2.jsonl"), 0);
    BDH_ASSERT_OK(ahead.Await(1, patient));
    BDH_ASSERT_OK(ahead.Await(2, patient));
    BDH_ASSERT_OK(ahead.Await(1, patient));  // It stays there.
  }
  // What was fetched is not asked for again; an error reaches who waits, and so does his own.
  const int before = server_.CountOf("train-1.jsonl");
  server_.Inject("train-3.jsonl", std::vector<Fault>(20, {.kind = Fault::kStatus, .status = 403}));
  fs::remove(choice.local[3].path);
  fs::remove(folder_.path() + "/datasets--me--parts/blobs/" + choice.local[3].sha256);
  Ahead again(options_, source, choice);
  BDH_ASSERT_OK(again.Await(1, patient));
  EXPECT_EQ(server_.CountOf("train-1.jsonl"), before);
  EXPECT_FALSE(again.Await(3, patient).ok());
  EXPECT_FALSE(again.Await(3, patient).ok());
  std::latch let_go(1);
  server_.OnRequest([&](const SeenRequest&) { let_go.wait(); });
  fs::remove(choice.local[0].path);
  fs::remove(folder_.path() + "/datasets--me--parts/blobs/" + choice.local[0].sha256);
  Ahead slow(options_, source, choice);
  EXPECT_EQ(slow.Await(0, [] { return absl::CancelledError("enough"); }).message(), "enough");
  let_go.count_down();
}

TEST_F(HubTest, NamesThatLeadOutOfTheFolderAreRefused) {
  for (const char* const name :
       {"../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "a//b.txt", "a\nb.txt", "."}) {
    server_.Put("datasets/me/evil", {{name, "text"}});
    EXPECT_THAT(Refusal("hf://datasets/me/evil"), HasSubstr("leads out of its folder")) << name;
  }
  server_.RedirectTo("file:///etc/passwd");
  EXPECT_THAT(Refusal("hf://datasets/me/set"),
              HasSubstr("sends us to 'file:///etc/passwd', which is not followed"));
  server_.RedirectTo(server_.endpoint() + "/datasets/me/set/resolve/" + server_.commit("datasets/me/set") +
                     "/data/train-00000-of-00002.parquet");
  EXPECT_THAT(Refusal("hf://datasets/me/set"), HasSubstr("more than 8 redirects"));
  for (const char* const bad :
       {"hf://datasets/../x", "hf://datasets/a/b@../c", "hf://datasets/a/b/c/d", "hf://spaces/a/b",
        "hf://datasets/", "hf://models/a/b/c", "hf://datasets/a b", "https://user@host/x", "ftp://x"}) {
    EXPECT_FALSE(ParseSource(bad).ok()) << bad;
  }
}

TEST_F(HubTest, FilesByUrl) {
  server_.PutPage("/books/tiny.txt?raw=1", Big('t'));
  server_.Inject("tiny.txt", {{.kind = Fault::kCut, .after = 1000}, {.status = 503}});
  const std::string url = server_.endpoint() + "/books/tiny.txt?raw=1";
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch(url));
  ASSERT_EQ(fetched.files.size(), 1u);
  EXPECT_EQ(fetched.files[0].name, "tiny.txt");
  EXPECT_EQ(*ReadFile(fetched.files[0].path), Big('t'));
  EXPECT_EQ(fetched.files[0].sha256, Sha256Hex(Big('t')));
  EXPECT_EQ(fetched.files[0].etag.size(), 40u);
  const size_t requests = server_.requests().size();
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched again, Fetch(url));
  EXPECT_EQ(again.files[0].etag, fetched.files[0].etag);
  EXPECT_EQ(server_.requests().size(), requests);
}

TEST_F(HubTest, ModelsAreWeightsConfigAndTokenizer) {
  server_.Put("models/me/dragon", {{"config.json", "{}"},
                                   {"model.safetensors", Big('w', 2000)},
                                   {"pytorch_model.bin", Big('p', 2000)},
                                   {"tokenizer.json", "{}"},
                                   {"onnx/model.onnx", "x"},
                                   {"README.md", "x"}});
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched fetched, Fetch("hf://models/me/dragon"));
  EXPECT_THAT(Names(fetched), ElementsAre("README.md", "config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_EQ(fetched.folder, folder_.path() + "/models--me--dragon/snapshots/" + fetched.commit);
  server_.Put("models/me/old", {{"model.pt", Big('p', 2000)}});
  BDH_ASSERT_OK_AND_ASSIGN(const Fetched old, Fetch("hf://models/me/old"));
  EXPECT_THAT(Names(old), ElementsAre("model.pt"));
  server_.Put("models/me/none", {{"model.gguf", "x"}});
  EXPECT_THAT(Refusal("hf://models/me/none"), HasSubstr("it has no weights that are read here"));
}

std::vector<std::string> Chosen(const std::vector<std::string>& paths, const std::string& readme,
                                const std::string& config, const std::string& split) {
  std::vector<RemoteFile> files;
  for (const std::string& path : paths) files.push_back({path, 1, "", ""});
  const auto chosen = ChooseDataFiles(files, readme, config, split);
  if (!chosen.ok()) return {std::string(chosen.status().message())};
  std::vector<std::string> names;
  for (const RemoteFile& file : *chosen) names.push_back(file.path);
  return names;
}

TEST(ChooseDataFiles, ByTheReadmesConfigs) {
  const std::string readme =
      "---\nlicense: mit\nconfigs:\n- config_name: wiki-2\n  data_files:\n  - split: train\n    path: "
      "wiki-2/train-*\n"
      "  - split: test\n    path:\n    - wiki-2/test-*\n    - extra/**/t?.parquet\n- config_name: small\n  "
      "default: true\n"
      "  data_dir: small\n- config_name: flat\n  data_files: \"*.csv\"\n---\n# Text\n";
  const std::vector<std::string> paths = {"wiki-2/train-0.parquet",
                                          "wiki-2/train-1.parquet",
                                          "wiki-2/test-0.parquet",
                                          "extra/t1.parquet",
                                          "extra/a/b/t2.parquet",
                                          "extra/t10.parquet",
                                          "small/a.jsonl",
                                          "x.csv",
                                          "d/y.csv"};
  EXPECT_THAT(Chosen(paths, readme, "wiki-2", ""),
              ElementsAre("wiki-2/train-0.parquet", "wiki-2/train-1.parquet"));
  EXPECT_THAT(Chosen(paths, readme, "wiki-2", "test"),
              ElementsAre("wiki-2/test-0.parquet", "extra/t1.parquet", "extra/a/b/t2.parquet"));
  EXPECT_THAT(Chosen(paths, readme, "", ""), ElementsAre("small/a.jsonl"));
  EXPECT_THAT(Chosen(paths, readme, "flat", ""), ElementsAre("x.csv"));
  EXPECT_THAT(Chosen(paths, readme, "wiki-3", ""),
              ElementsAre(HasSubstr("no config 'wiki-3'; it has flat, small, wiki-2")));
  EXPECT_THAT(Chosen(paths, readme, "wiki-2", "dev"),
              ElementsAre(HasSubstr("no split 'dev'; it has test, train")));
  EXPECT_THAT(Chosen(paths, "---\nconfigs: [\n---\n", "", ""), ElementsAre(HasSubstr("is no YAML")));
}

TEST(ChooseDataFiles, ByNames) {
  EXPECT_THAT(
      Chosen({"data/train-00000-of-00001-ab.parquet", "data/test-00000-of-00001.parquet", "train.txt"}, "",
             "", ""),
      ElementsAre("data/train-00000-of-00001-ab.parquet"));
  EXPECT_THAT(Chosen({"a/valid.csv", "a/train.csv", "a/training_extra.csv"}, "", "", "validation"),
              ElementsAre("a/valid.csv"));
  EXPECT_THAT(Chosen({"train/1.jsonl.gz", "dev/1.jsonl.gz"}, "", "", ""), ElementsAre("train/1.jsonl.gz"));
  EXPECT_THAT(Chosen({"1.jsonl", "2.jsonl", ".hidden/3.jsonl", "dataset_infos.json", "x.py"}, "", "", ""),
              ElementsAre("1.jsonl", "2.jsonl"));
  EXPECT_THAT(Chosen({"en/train.txt", "de/train.txt"}, "", "de", ""), ElementsAre("de/train.txt"));
  EXPECT_THAT(Chosen({"en/train.txt"}, "", "fr", ""), ElementsAre(HasSubstr("no config and no folder 'fr'")));
  EXPECT_THAT(Chosen({"model.bin"}, "", "", ""), ElementsAre(HasSubstr("has no file that is read here")));
}

TEST(Sources, AreParsed) {
  BDH_ASSERT_OK_AND_ASSIGN(const Source full,
                           ParseSource("hf://datasets/Salesforce/wikitext/wikitext-2-raw-v1@refs/pr/1"));
  EXPECT_EQ(full.repo, "Salesforce/wikitext");
  EXPECT_EQ(full.config, "wikitext-2-raw-v1");
  EXPECT_EQ(full.revision, "refs/pr/1");
  BDH_ASSERT_OK_AND_ASSIGN(const Source model, ParseSource("hf://models/gpt2"));
  EXPECT_EQ(model.repo, "gpt2");
  EXPECT_EQ(model.kind, RepoKind::kModel);
  EXPECT_FALSE(IsRemote("/a/b"));
}

TEST(Sources, TheEnvironmentsVariables) {
  const TempDirectory home;
  setenv("HF_HOME", home.path().c_str(), 1);
  setenv("HF_ENDPOINT", "http://mirror", 1);
  setenv("HF_HUB_OFFLINE", "1", 1);
  BDH_ASSERT_OK(WriteFileAtomically(home.path() + "/token", "hf_file\n"));
  Options found = WithEnvironment({});
  EXPECT_EQ(found.endpoint, "http://mirror");
  EXPECT_EQ(found.cache_dir, home.path() + "/hub");
  EXPECT_EQ(found.token, "hf_file");
  EXPECT_TRUE(found.offline);
  setenv("HF_TOKEN", "hf_variable", 1);
  setenv("HF_HUB_CACHE", "/cache", 1);
  found = WithEnvironment({.endpoint = "http://mine/", .token = ""});
  EXPECT_EQ(found.endpoint, "http://mine") << "what is set stays";
  EXPECT_EQ(found.token, "hf_variable");
  EXPECT_EQ(found.cache_dir, "/cache");
}

}  // namespace
}  // namespace bdh::hub
