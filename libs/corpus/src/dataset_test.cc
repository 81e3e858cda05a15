// Proves that a data set holds every byte of its documents in the split and place it belongs to, whatever the
// pieces, shards and buffers they went through; that its hash is its content; and that a full disk, a
// damaged, a foreign or a newer file is an error that names the file and not a wrong token.
#include "bdh/corpus/dataset.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <functional>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "bdh/base/file.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

class DatasetTest : public ::testing::Test {
 protected:
  std::string Folder() { return folder_.path() + "/set" + std::to_string(++count_); }
  DatasetBuilder::Options Options() { return BuilderOptions(Folder()); }

  TempDirectory folder_;
  int count_ = 0;
};

TEST_F(DatasetTest, EveryDocumentsTailIsValidationAndTheRestIsTrain) {
  const std::vector<std::string> documents = {Noise(1000, 1), "", Noise(9, 2), Noise(505, 3)};
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Build(Options(), documents));
  EXPECT_EQ(Tokens(*dataset, Split::kTrain),
            documents[0].substr(0, 900) + documents[2] + documents[3].substr(0, 455));
  EXPECT_EQ(Tokens(*dataset, Split::kValidation), documents[0].substr(900) + documents[3].substr(455));
  EXPECT_EQ(dataset->info().documents, 4);
  EXPECT_EQ(dataset->info().bytes_in, 1514);
  EXPECT_EQ(dataset->info().train_tokens + dataset->info().validation_tokens, 1514);
  EXPECT_EQ(dataset->info().token_bytes, 1);
  EXPECT_EQ(dataset->info().vocab_size, 256);
  EXPECT_EQ(dataset->info().sample, documents[0].substr(0, 1024));
  BDH_EXPECT_OK(dataset->Verify());
}

TEST_F(DatasetTest, TheIndexSaysWhereDocumentsEnd) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Build(Options(), {Noise(100), "", Noise(50)}));
  EXPECT_EQ(dataset->document_end(0).train, 90);
  EXPECT_EQ(dataset->document_end(0).validation, 10);
  EXPECT_EQ(dataset->document_end(1).train, 90);
  EXPECT_EQ(dataset->document_end(2).train, 135);
  EXPECT_EQ(dataset->document_end(2).validation, 15);
}

TEST_F(DatasetTest, PiecesShardsAndBuffersDoNotShow) {
  const std::vector<std::string> documents = {Noise(200000, 1), Noise(70001, 2)};
  BDH_ASSERT_OK_AND_ASSIGN(const auto plain, Build(Options(), documents));
  for (const size_t piece : {size_t{1777}, size_t{65536}, size_t{1} << 20}) {
    auto options = Options();
    options.shard_tokens = 10007;
    options.document_buffer_bytes = 3000;
    BDH_ASSERT_OK_AND_ASSIGN(const auto cut, Build(options, documents, piece));
    EXPECT_EQ(cut->info().hash, plain->info().hash);
    EXPECT_EQ(cut->info().shards.size(), 28u) << "25 of train, 3 of validation";
    for (const Split split : {Split::kTrain, Split::kValidation}) {
      EXPECT_EQ(Tokens(*cut, split), Tokens(*plain, split));
    }
    BDH_EXPECT_OK(cut->Verify());
    std::string across(40000, '\0');
    cut->Copy(Split::kTrain, 5001, 40000, across.data());
    EXPECT_EQ(across, documents[0].substr(5001, 40000));
  }
}

TEST_F(DatasetTest, TheHashIsTokenizerShareAndDocuments) {
  const auto hash = [&](double share, const std::vector<std::string>& documents) {
    auto options = Options();
    options.validation_fraction = share;
    return Build(options, documents).value()->info().hash;
  };
  const std::string one = hash(0.1, {Noise(100), Noise(50)});
  EXPECT_EQ(one, hash(0.1, {Noise(100), Noise(50)}));
  EXPECT_NE(one, hash(0.2, {Noise(100), Noise(50)}));
  EXPECT_NE(one, hash(0.1, {Noise(50), Noise(100)})) << "the order counts";
  EXPECT_NE(one, hash(0.1, {Noise(100) + Noise(50)})) << "the borders count";
  EXPECT_NE(one, hash(0.1, {Noise(100), "", Noise(50)}));
  // Pinned: a data set must keep its hash from release to release, or runs could not go on.
  EXPECT_EQ(hash(0.1, {"Hello, hatchling!"}),
            "5d2da2726302f2c3c37c09e7dcabfffceec0b257f78bbcc44f59add0e5592de2");
}

TEST_F(DatasetTest, OfManyDocumentsWholeOnesAreValidation) {
  std::vector<std::string> documents;
  for (uint32_t i = 0; i < 400; ++i) documents.push_back(absl::StrFormat("%06d %s\n", i, Noise(20, i)));
  auto options = Options();
  options.split_rule = SplitRule::kAuto;
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Build(options, documents));
  EXPECT_EQ(dataset->info().split_rule, SplitRule::kDocument);
  std::string train, validation;
  int64_t held_out = 0;
  for (int64_t i = 0; i < 400; ++i) {
    const auto end = dataset->document_end(i);
    const bool is_validation = end.validation > static_cast<int64_t>(validation.size());
    (is_validation ? validation : train) += documents[static_cast<size_t>(i)];
    held_out += is_validation;
    EXPECT_EQ(end.train, static_cast<int64_t>(train.size()));
    EXPECT_EQ(end.validation, static_cast<int64_t>(validation.size()));
  }
  EXPECT_EQ(Tokens(*dataset, Split::kTrain), train);
  EXPECT_EQ(Tokens(*dataset, Split::kValidation), validation);
  EXPECT_NEAR(static_cast<double>(held_out), 40, 25) << "a tenth";
  // The split of a document is its own: neither its neighbours nor their order matter.
  std::reverse(documents.begin(), documents.end());
  documents.push_back("one more");
  options.folder = Folder();
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, Build(options, documents));
  EXPECT_NEAR(static_cast<double>(other->tokens(Split::kValidation)), static_cast<double>(validation.size()),
              8);

  options.folder = Folder();
  documents.resize(kManyDocuments - 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto few, Build(options, documents));
  EXPECT_EQ(few->info().split_rule, SplitRule::kTail);
}

TEST_F(DatasetTest, TheFilesAreTheSameWhateverTheNumberOfThreads) {
  std::vector<std::string> documents = {Noise(3 << 20, 1)};
  for (uint32_t i = 0; i < 3000; ++i) documents.push_back(Noise(i % 700, i));
  std::vector<std::string> hashes;
  for (const int threads : {1, 2, 5}) {
    auto options = Options();
    options.threads = threads;
    options.split_rule = SplitRule::kAuto;
    options.shard_tokens = 300007;
    options.checkpoint_tokens = threads == 2 ? 250000 : 0;
    BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Build(options, documents));
    std::string all = dataset->info().hash + dataset->info().index_sha256;
    for (const ShardInfo& shard : dataset->info().shards) all += shard.file + shard.sha256;
    hashes.push_back(all);
    EXPECT_GT(dataset->info().shards.size(), 10u);
  }
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_EQ(hashes[0], hashes[2]);
}

TEST_F(DatasetTest, AManifestOfRelease01IsRead) {
  const auto options = Options();
  BDH_ASSERT_OK_AND_ASSIGN(const auto now, Build(options, {Noise(1000)}));
  const std::string path = options.folder + "/manifest.json";
  BDH_ASSERT_OK_AND_ASSIGN(std::string json, ReadFile(path));
  std::string old;
  for (const absl::string_view line : absl::StrSplit(json, '\n')) {
    const bool new_key = absl::StrContains(line, "split_rule") || absl::StrContains(line, "\"order\"") ||
                         absl::StrContains(line, "end_of_text") ||
                         absl::StrContains(line, "tokenizer_hash") || absl::StrContains(line, "streaming") ||
                         absl::StrContains(line, "score");
    if (!new_key) old += std::string(line) + "\n";
  }
  BDH_ASSERT_OK(WriteFileAtomically(path, absl::StrReplaceAll(old, {{"\"version\": 2", "\"version\": 1"}})));
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Dataset::Open(options.folder));
  EXPECT_EQ(dataset->info().hash, now->info().hash);
  EXPECT_EQ(dataset->info().order, Order::kRandom);
  EXPECT_EQ(dataset->info().split_rule, SplitRule::kTail);
  BDH_EXPECT_OK(dataset->Verify());
}

TEST_F(DatasetTest, AShareOfZeroMeansNoValidation) {
  auto options = Options();
  options.validation_fraction = 0;
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Build(options, {"abc"}));
  EXPECT_EQ(Tokens(*dataset, Split::kTrain), "abc");
  EXPECT_EQ(dataset->tokens(Split::kValidation), 0);
}

TEST_F(DatasetTest, NoTextAndEmptySplitsAreSaidWithTheNumbers) {
  const struct {
    std::vector<std::string> documents;
    const char* says;
  } kCases[] = {
      {{}, "no text: 0 documents"},
      {{"", ""}, "no text: 2 documents with 0 bytes"},
      {{"tiny"}, "validation split of data set 'test' would be empty: validation_fraction 0.1 of 4 tokens"}};
  for (const auto& test : kCases) {
    const auto options = Options();
    const auto status = Build(options, test.documents).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
    EXPECT_FALSE(std::filesystem::exists(options.folder)) << "leaves nothing";
  }
}

TEST_F(DatasetTest, ABuilderThatIsGivenUpLeavesNothing) {
  const auto options = Options();
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto builder, DatasetBuilder::Create(options));
    BDH_ASSERT_OK(builder->BeginDocument());
    BDH_ASSERT_OK(builder->Append(Noise(20 << 20)));
  }
  EXPECT_FALSE(std::filesystem::exists(options.folder));
}

// In a child whose files may not grow past 1 MiB: its writes fail as on a full disk.
TEST_F(DatasetTest, AFullDiskIsAnErrorThatNamesTheFileAndLeavesNothing) {
  for (const int64_t buffer : {int64_t{64} << 20, int64_t{100000}}) {  // The shard fails; the spool fails.
    auto options = Options();
    options.document_buffer_bytes = buffer;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit = {1 << 20, 1 << 20};
      setrlimit(RLIMIT_FSIZE, &limit);
      const auto status = Build(options, {Noise(4 << 20)}).status();
      const bool right =
          absl::IsResourceExhausted(status) && absl::StrContains(status.message(), options.folder);
      if (!right) std::cerr << status << std::endl;
      _exit(right ? 0 : 1);
    }
    int result = 0;
    ASSERT_EQ(waitpid(child, &result, 0), child);
    EXPECT_EQ(result, 0);
    EXPECT_FALSE(std::filesystem::exists(options.folder));
  }
}

// One way to spoil a data set, and what is said then.
struct Damage {
  const char* name;
  std::function<void(const std::string& folder)> spoil;
  absl::StatusCode code;
  const char* says;
};

void Edit(const std::string& path, const std::function<void(std::string&)>& edit) {
  std::string bytes = ReadFile(path).value();
  edit(bytes);
  BDH_ASSERT_OK(WriteFileAtomically(path, bytes));
}

auto Replace(const char* from, const char* to) {
  return [=](const std::string& folder) {
    Edit(folder + "/manifest.json", [&](std::string& json) {
      ASSERT_TRUE(absl::StrContains(json, from)) << json;
      json = absl::StrReplaceAll(json, {{from, to}});
    });
  };
}

auto EditShard(std::function<void(std::string&)> edit) {
  return [=](const std::string& folder) { Edit(folder + "/train-00000.tokens", edit); };
}

TEST_F(DatasetTest, ADamagedForeignOrNewerFileIsRefusedByName) {
  constexpr auto kLoss = absl::StatusCode::kDataLoss;
  const Damage kDamages[] = {
      {"a byte flipped", EditShard([](std::string& b) { b[500] ^= 1; }), kLoss,
       "train-00000.tokens is damaged"},
      {"cut short", EditShard([](std::string& b) { b.resize(b.size() - 1); }), kLoss,
       "train-00000.tokens is 963 bytes long, the manifest says 964"},
      {"grown", EditShard([](std::string& b) { b += 'x'; }), kLoss, "train-00000.tokens is 965 bytes"},
      {"empty", EditShard([](std::string& b) { b.clear(); }), kLoss, "train-00000.tokens is 0 bytes"},
      {"foreign", EditShard([](std::string& b) {
         b.replace(0, 8,
                   "\x7F"
                   "ELFELFE");
       }),
       kLoss, "is not a shard"},
      {"header never written", EditShard([](std::string& b) { b.replace(0, 64, 64, '\0'); }), kLoss,
       "is not a shard"},
      {"newer shard", EditShard([](std::string& b) { b[8] = 9; }), absl::StatusCode::kFailedPrecondition,
       "shard format 9"},
      {"another width", EditShard([](std::string& b) { b[12] = 2; }), kLoss, "2 bytes an element"},
      {"another count", EditShard([](std::string& b) { b[16] ^= 1; }), kLoss, "elements, the manifest says"},
      {"another checksum", EditShard([](std::string& b) { b[30] ^= 1; }), kLoss, "another checksum"},
      {"shard missing", [](const std::string& f) { std::filesystem::remove(f + "/train-00000.tokens"); },
       kLoss, "train-00000.tokens is missing"},
      {"index missing", [](const std::string& f) { std::filesystem::remove(f + "/documents.index"); }, kLoss,
       "documents.index is missing"},
      {"index flipped",
       [](const std::string& f) { Edit(f + "/documents.index", [](std::string& b) { b[64] ^= 1; }); }, kLoss,
       "documents.index is damaged"},
      {"manifest missing", [](const std::string& f) { std::filesystem::remove(f + "/manifest.json"); }, kLoss,
       "manifest.json is missing"},
      {"manifest cut",
       [](const std::string& f) {
         Edit(f + "/manifest.json", [](std::string& b) { b.resize(b.size() / 2); });
       },
       kLoss, "manifest.json is not the manifest"},
      {"other JSON", Replace("bdh-dataset", "package"), kLoss, "is not the manifest"},
      {"newer manifest", Replace("\"version\": 2", "\"version\": 3"), absl::StatusCode::kFailedPrecondition,
       "format 3"},
      {"an order nobody knows", Replace("\"random\"", "\"rondom\""), kLoss, "there is no order 'rondom'"},
      {"a key gone", Replace("train_tokens", "trein_tokens"), kLoss, "train_tokens"},
      {"a wrong type", Replace("\"tokens\": 900", "\"tokens\": \"many\""), kLoss,
       "manifest.json does not read"},
      {"outside the folder", Replace("train-00000.tokens", "../train-00000.tokens"), kLoss,
       "'../train-00000.tokens'"},
      {"counts that differ", Replace("\"train_tokens\": 900", "\"train_tokens\": 901"), kLoss,
       "do not add up"},
      {"a huge count", Replace("\"tokens\": 900", "\"tokens\": 9223372036854775807"), kLoss, "cannot be"},
      {"a negative count", Replace("\"tokens\": 900", "\"tokens\": -900"), kLoss, "cannot be"},
      {"a width of 3", Replace("\"token_bytes\": 1", "\"token_bytes\": 3"), kLoss, "3 bytes a token"},
      {"no documents", Replace("\"documents\": 1", "\"documents\": -1"), kLoss, "cannot be"},
  };
  for (const Damage& damage : kDamages) {
    SCOPED_TRACE(damage.name);
    const auto options = Options();
    BDH_ASSERT_OK(Build(options, {Noise(1000)}));
    damage.spoil(options.folder);
    const auto opened = Dataset::Open(options.folder);
    const absl::Status status = opened.ok() ? (*opened)->VerifyOnce() : opened.status();
    EXPECT_EQ(status.code(), damage.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), damage.says)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), options.folder)) << status;
    if (opened.ok()) {
      EXPECT_EQ((*opened)->VerifyOnce(), status) << "the verdict stays";
    }
  }
}

}  // namespace
}  // namespace bdh::corpus
