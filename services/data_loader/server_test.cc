// Proves the data loader over the wire, with a real daemon and a real client: data sets are made whole or not
// at all and survive a restart; batches are the same from any cursor and for any number of workers; clients
// that vanish, wrong requests, limits, damage, deletion and shutdown each get what data_loader.proto says.
#include "services/data_loader/server.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "hub_server_testing.h"

namespace bdh::data_loader {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Stub = v1::DataLoaderService::Stub;

constexpr absl::Duration kTimeout = absl::Seconds(60);

// Text that differs everywhere.
std::string Text(size_t size, uint32_t seed = 1) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525u + 1013904223u;
    c = static_cast<char>('a' + (seed >> 24) % 26);
  }
  return text;
}

struct Document {
  std::string name, text;
};

// What /metrics answers.
std::string Metrics(const std::string& admin_address) {
  boost::asio::ip::tcp::iostream http(admin_address.substr(0, admin_address.rfind(':')),
                                      admin_address.substr(admin_address.rfind(':') + 1));
  http << "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" << std::flush;
  return {std::istreambuf_iterator<char>(http), {}};
}

class DataLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override { Restart(); }

  void Restart(const std::function<void(Server::Options&)>& change = [](Server::Options&) {}) {
    stub_.reset();
    server_.reset();
    Server::Options options = {.listen = {.credentials = "secret"}, .data_dir = data_dir()};
    change(options);
    BDH_ASSERT_OK_AND_ASSIGN(server_, Server::Start(options));
    peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", server_->address(), "secret");
    stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  }

  std::string data_dir() const { return folder_.path() + "/data"; }

  size_t Staged() const {
    const fs::directory_iterator entries(data_dir() + "/staging");
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }

  // Sends `requests` and collects what is answered.
  absl::StatusOr<v1::Dataset> Create(const std::vector<v1::CreateDatasetRequest>& requests,
                                     std::vector<v1::CreateDatasetProgress>* progress = nullptr) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->CreateDataset(context.get());
    for (const auto& request : requests) {
      if (!stream->Write(request)) break;  // Refused early; Finish says why.
    }
    stream->WritesDone();
    v1::CreateDatasetResponse response;
    v1::Dataset dataset;
    while (stream->Read(&response)) {
      if (response.has_dataset()) dataset = response.dataset();
      if (response.has_progress() && progress != nullptr) progress->push_back(response.progress());
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return dataset;
  }

  static v1::CreateDatasetRequest Spec(const std::string& name, const std::vector<std::string>& paths = {}) {
    v1::CreateDatasetRequest request;
    request.mutable_spec()->set_name(name);
    for (const std::string& path : paths) request.mutable_spec()->add_paths(path);
    return request;
  }

  static v1::CreateDatasetRequest Chunk(const std::string& document, const std::string& data) {
    v1::CreateDatasetRequest request;
    request.mutable_chunk()->set_document(document);
    request.mutable_chunk()->set_data(data);
    return request;
  }

  absl::StatusOr<v1::Dataset> Upload(const std::string& name, const std::vector<Document>& documents) {
    std::vector<v1::CreateDatasetRequest> requests = {Spec(name)};
    for (const auto& [document, text] : documents) {
      for (size_t at = 0; at < text.size(); at += 100000)
        requests.push_back(Chunk(document, text.substr(at, 100000)));
    }
    return Create(requests);
  }

  std::vector<std::string> Names() {
    const auto listed = peer_->Call(*stub_, &Stub::ListDatasets, v1::ListDatasetsRequest(), kTimeout);
    EXPECT_TRUE(listed.ok()) << listed.status();
    std::vector<std::string> names;
    if (listed.ok()) {
      for (const v1::Dataset& dataset : listed->datasets()) names.push_back(dataset.name());
    }
    return names;
  }

  absl::Status Delete(const std::string& name) {
    v1::DeleteDatasetRequest request;
    request.set_name(name);
    return peer_->Call(*stub_, &Stub::DeleteDataset, request, kTimeout).status();
  }

  static v1::StreamBatchesRequest Batches(const std::string& dataset, int64_t start, int64_t count) {
    v1::StreamBatchesRequest request;
    request.set_dataset(dataset);
    request.set_split(v1::SPLIT_TRAIN);
    request.set_seed(7);
    request.set_batch_size(6);
    request.set_block_size(32);
    request.set_start_step(start);
    request.set_step_count(count);
    return request;
  }

  // The rows of each step, joined.
  absl::StatusOr<std::map<int64_t, std::string>> Collect(const v1::StreamBatchesRequest& request) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->StreamBatches(context.get(), request);
    std::map<int64_t, std::string> steps;
    v1::Batch batch;
    while (stream->Read(&batch)) {
      const size_t row_bytes = static_cast<size_t>(batch.columns() * batch.token_bytes());
      EXPECT_EQ(batch.columns(), request.block_size() + 1);
      EXPECT_EQ(batch.tokens().size(), static_cast<size_t>(batch.rows()) * row_bytes);
      EXPECT_EQ(steps[batch.step()].size(), static_cast<size_t>(batch.first_row()) * row_bytes);
      steps[batch.step()] += batch.tokens();
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return steps;
  }

  std::string KeyFigure() {
    const auto stub = v1::MeshService::NewStub(peer_->channel());
    const auto status =
        peer_->Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), kTimeout);
    return status.ok() ? status->key_figure() : status.status().ToString();
  }

  // The server notices a vanished client soon, but not at once.
  static bool Eventually(const std::function<bool()>& condition) {
    for (const absl::Time end = absl::Now() + kTimeout; absl::Now() < end;
         absl::SleepFor(absl::Milliseconds(5))) {
      if (condition()) return true;
    }
    return false;
  }

  TempDirectory folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(DataLoaderTest, AnUploadBecomesADataSet) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", {{"a", Text(250000)}, {"b", Text(1000, 2)}}));
  EXPECT_EQ(dataset.name(), "text");
  EXPECT_EQ(dataset.hash().size(), 64u);
  EXPECT_EQ(dataset.tokenizer(), "byte");
  EXPECT_EQ(dataset.vocab_size(), 256);
  EXPECT_EQ(dataset.documents(), 2);
  EXPECT_EQ(dataset.bytes_in(), 251000);
  EXPECT_EQ(dataset.train_tokens(), 225900);
  EXPECT_EQ(dataset.validation_tokens(), 25100);
  EXPECT_GT(dataset.create_time().seconds(), 0);
  EXPECT_THAT(Names(), ElementsAre("text"));

  v1::DescribeDatasetRequest request;
  request.set_name("text");
  BDH_ASSERT_OK_AND_ASSIGN(const auto described,
                           peer_->Call(*stub_, &Stub::DescribeDataset, request, kTimeout));
  EXPECT_EQ(described.dataset().hash(), dataset.hash());
  EXPECT_EQ(described.sample(), Text(1024));
  ASSERT_EQ(described.shards_size(), 2);
  EXPECT_EQ(described.shards(0).file(), "train-00000.tokens");
  EXPECT_EQ(described.shards(0).split(), "train");
  EXPECT_EQ(described.shards(0).tokens(), 225900);
  EXPECT_EQ(described.shards(1).split(), "validation");
}

TEST_F(DataLoaderTest, FilesOfTheDaemonBecomeTheSameDataSetAsTheirUpload) {
  BDH_ASSERT_OK(MakeDirectories(folder_.path() + "/in"));
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/in/a.txt", Text(3 << 20)));
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/in/b.txt", Text(1000, 2)));
  std::vector<v1::CreateDatasetProgress> progress;
  BDH_ASSERT_OK_AND_ASSIGN(const auto files, Create({Spec("files", {folder_.path() + "/in"})}, &progress));
  BDH_ASSERT_OK_AND_ASSIGN(const auto sent, Upload("sent", {{"x", Text(3 << 20)}, {"y", Text(1000, 2)}}));
  EXPECT_EQ(files.hash(), sent.hash());
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back().documents(), 2);
  EXPECT_EQ(progress.back().bytes_in(), (3 << 20) + 1000);
  EXPECT_EQ(progress.back().tokens_out(), (3 << 20) + 1000);
  EXPECT_EQ(progress.back().bytes_total(), (3 << 20) + 1000);
}

TEST_F(DataLoaderTest, TheSameAgainIsOkAndOtherContentIsNot) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Upload("text", {{"a", Text(1000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Upload("text", {{"a", Text(1000)}}));
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  const auto other = Upload("text", {{"a", Text(1001)}}).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(absl::StrContains(other.message(), "another name, or delete")) << other;
}

TEST_F(DataLoaderTest, TwoClientsThatCreateOneNameAgreeOrOneIsRefused) {
  std::vector<absl::StatusOr<v1::Dataset>> results(4, absl::UnknownError("not run"));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < results.size(); ++i) {
    clients.emplace_back([&, i] { results[i] = Upload("text", {{"a", Text(300000, i % 2)}}); });
  }
  for (std::thread& client : clients) client.join();
  int ok = 0;
  for (const auto& result : results) {
    ok += result.ok();
    if (!result.ok()) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kAlreadyExists) << result.status();
    }
  }
  EXPECT_EQ(ok, 2);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DataLoaderTest, AnUploaderThatVanishesLeavesNothing) {
  {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->CreateDataset(context.get());
    ASSERT_TRUE(stream->Write(Spec("text")));
    ASSERT_TRUE(stream->Write(Chunk("a", Text(1000))));
    ASSERT_TRUE(Eventually([&] { return Staged() == 1; }));
    context->TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return Staged() == 0; }));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(DataLoaderTest, WrongCreatesAreRefusedInASentence) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/short.txt", "tiny"));
  auto tokenizer = Spec("a");
  tokenizer.mutable_spec()->set_tokenizer("gpt2");
  auto share = Spec("a");
  share.mutable_spec()->set_validation_fraction(0.7);
  const struct {
    std::vector<v1::CreateDatasetRequest> requests;
    absl::StatusCode code;
    const char* says;
  } kCases[] = {
      {{}, absl::StatusCode::kInvalidArgument, "the first message must hold spec"},
      {{Chunk("a", "x")}, absl::StatusCode::kInvalidArgument, "the first message must hold spec"},
      {{Spec("a"), Spec("a")}, absl::StatusCode::kInvalidArgument, "must hold a chunk"},
      {{Spec("a")}, absl::StatusCode::kInvalidArgument, "has no text"},
      {{Spec("a"), Chunk("d", "")}, absl::StatusCode::kInvalidArgument, "has no text"},
      {{Spec("a"), Chunk("d", "tiny")}, absl::StatusCode::kInvalidArgument, "validation split"},
      {{Spec("a"), Chunk("d", Text((1 << 20) + 1))}, absl::StatusCode::kInvalidArgument, "at most 1048576"},
      {{Spec("")}, absl::StatusCode::kInvalidArgument, "cannot name a data set"},
      {{Spec("../up")}, absl::StatusCode::kInvalidArgument, "cannot name a data set"},
      {{tokenizer}, absl::StatusCode::kNotFound, "known ones are: byte"},
      {{share}, absl::StatusCode::kInvalidArgument, "validation_fraction is 0.7"},
      {{Spec("a", {""})}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{Spec("a", {"/no/such/file"})}, absl::StatusCode::kNotFound, "/no/such/file"},
      {{Spec("a", {"relative.txt"})}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{Spec("a", {"/dev/zero"})}, absl::StatusCode::kInvalidArgument, "neither a regular file"},
      {{Spec("a", {folder_.path() + "/short.txt"})}, absl::StatusCode::kInvalidArgument, "would be empty"},
  };
  for (const auto& test : kCases) {
    const auto status = Create(test.requests).status();
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(DataLoaderTest, TooMuchTextIsRefusedUploadedOrNamed) {
  Restart([](Server::Options& options) { options.max_dataset_bytes = 5000; });
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/big.txt", Text(5001)));
  for (const auto& status : {Upload("big", {{"a", Text(5001)}}).status(),
                             Create({Spec("big", {folder_.path() + "/big.txt"})}).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(absl::StrContains(status.message(), "data_loader.max_dataset_bytes, which is 5000"))
        << status;
  }
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DataLoaderTest, AStreamFromAnyCursorIsTheUninterruptedStream) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto whole, Collect(Batches("text", 0, 20)));
  ASSERT_EQ(whole.size(), 20u);
  for (const int64_t start : {1, 7, 19}) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto rest, Collect(Batches("text", start, 20 - start)));
    EXPECT_EQ(rest, (std::map(whole.find(start), whole.end())));
  }
}

TEST_F(DataLoaderTest, ABatchIsRowsOfTheText) {
  const std::string text = Text(100000);
  BDH_ASSERT_OK(Upload("text", {{"a", text}}));
  auto request = Batches("text", 0, 5);
  for (const v1::Split split : {v1::SPLIT_TRAIN, v1::SPLIT_VALIDATION}) {
    request.set_split(split);
    BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(request));
    for (const auto& [step, rows] : steps) {
      ASSERT_EQ(rows.size(), 6u * 33);
      for (size_t row = 0; row < 6; ++row) {
        const size_t at = text.find(rows.substr(row * 33, 33));
        ASSERT_NE(at, std::string::npos);
        EXPECT_TRUE(split == v1::SPLIT_TRAIN ? at + 33 <= 90000 : at >= 90000) << at;
      }
    }
  }
}

TEST_F(DataLoaderTest, WorkersTogetherGetTheBatchWhateverTheirNumber) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto whole, Collect(Batches("text", 3, 4)));
  for (const int world : {0, 1, 2, 4, 6}) {
    std::map<int64_t, std::string> together;
    for (int rank = 0; rank < std::max(world, 1); ++rank) {
      auto request = Batches("text", 3, 4);
      request.set_world_size(world);
      request.set_rank(rank);
      BDH_ASSERT_OK_AND_ASSIGN(const auto slice, Collect(request));
      for (const auto& [step, rows] : slice) together[step] += rows;
    }
    EXPECT_EQ(together, whole) << world;
  }
}

TEST_F(DataLoaderTest, ABigBatchComesInSeveralMessages) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(1 << 20)}}));
  auto request = Batches("text", 5, 2);
  request.set_batch_size(70);
  request.set_block_size(199999);  // 20 rows of 200,000 bytes fit 4 MiB.
  const auto context = peer_->NewContext(kTimeout);
  const auto stream = stub_->StreamBatches(context.get(), request);
  std::vector<std::vector<int64_t>> messages;
  v1::Batch batch;
  while (stream->Read(&batch)) {
    messages.push_back({batch.step(), batch.first_row(), batch.rows(), batch.last()});
    EXPECT_LE(batch.tokens().size(), size_t{4} << 20);
  }
  BDH_ASSERT_OK(peer_->Outcome(stream->Finish()));
  EXPECT_THAT(messages,
              ElementsAre(ElementsAre(5, 0, 20, 0), ElementsAre(5, 20, 20, 0), ElementsAre(5, 40, 20, 0),
                          ElementsAre(5, 60, 10, 1), ElementsAre(6, 0, 20, 0), ElementsAre(6, 20, 20, 0),
                          ElementsAre(6, 40, 20, 0), ElementsAre(6, 60, 10, 1)));
}

TEST_F(DataLoaderTest, ASmallerMessageLimitHoldsForBatchesAndARowBeyondItIsRefused) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(1 << 20)}}));
  Restart([](Server::Options& options) { options.listen.max_message_bytes = 300000; });
  auto request = Batches("text", 0, 1);
  request.set_block_size(99999);
  {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->StreamBatches(context.get(), request);
    int rows = 0;
    for (v1::Batch batch; stream->Read(&batch); rows += batch.rows())
      EXPECT_LE(batch.ByteSizeLong(), 300000u);
    BDH_ASSERT_OK(peer_->Outcome(stream->Finish()));
    EXPECT_EQ(rows, request.batch_size());
  }
  request.set_block_size(299999);
  const absl::Status refused = Collect(request).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("mesh.max_message_bytes"));
}

TEST_F(DataLoaderTest, WrongStreamsAreRefusedInASentence) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", {{"a", Text(1000)}}));
  struct Case {
    std::function<void(v1::StreamBatchesRequest&)> change;
    absl::StatusCode code;
    const char* says;
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  const Case kCases[] = {
      {[](auto& r) { r.set_dataset("none"); }, absl::StatusCode::kNotFound, "there are: text"},
      {[](auto& r) { r.set_dataset_hash("abc"); }, absl::StatusCode::kFailedPrecondition, "not abc"},
      {[](auto& r) { r.clear_split(); }, kBad, "SPLIT_TRAIN or SPLIT_VALIDATION"},
      {[](auto& r) { r.set_split(static_cast<v1::Split>(9)); }, kBad, "SPLIT_TRAIN or SPLIT_VALIDATION"},
      {[](auto& r) { r.set_batch_size(0); }, kBad, "batch_size is 0; want 1 to 65536"},
      {[](auto& r) { r.set_batch_size(65537); }, kBad, "batch_size is 65537"},
      {[](auto& r) { r.set_block_size(1); }, kBad, "block_size is 1; want 2 to 1048576"},
      {[](auto& r) { r.set_block_size(INT32_MAX); }, kBad, "block_size is 2147483647"},
      {[](auto& r) { r.set_block_size(900); }, kBad, "has 900 tokens, and a row of block_size 900 needs 901"},
      {[](auto& r) { r.set_split(v1::SPLIT_VALIDATION), r.set_block_size(100); }, kBad, "validation split"},
      {[](auto& r) { r.set_start_step(-1); }, kBad, "start_step is -1"},
      {[](auto& r) { r.set_step_count(-1); }, kBad, "step_count is -1"},
      {[](auto& r) { r.set_start_step(INT64_MAX), r.set_step_count(1); }, kBad,
       "step_count is 1; want 0 to 0"},
      {[](auto& r) { r.set_world_size(-1); }, kBad, "world_size is -1"},
      {[](auto& r) { r.set_world_size(7); }, kBad, "world_size is 7; want 0 to 6"},
      {[](auto& r) { r.set_world_size(2), r.set_rank(2); }, kBad, "rank is 2; want 0 to 1"},
      {[](auto& r) { r.set_rank(1); }, kBad, "rank is 1; want 0 to 0"},
  };
  for (const Case& test : kCases) {
    auto request = Batches("text", 0, 1);
    test.change(request);
    const auto status = Collect(request).status();
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
  auto right = Batches("text", 0, 1);
  right.set_dataset_hash(dataset.hash());
  BDH_EXPECT_OK(Collect(right));
  EXPECT_EQ(KeyFigure(), "1 data set, 0 streams");
}

TEST_F(DataLoaderTest, OneStreamTooManyIsRefusedAndAClosedOneMakesRoom) {
  Restart([](Server::Options& options) { options.max_streams = 2; });
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  const auto open = [&](grpc::ClientContext& context) {
    auto stream = stub_->StreamBatches(&context, Batches("text", 0, 0));
    v1::Batch batch;
    EXPECT_TRUE(stream->Read(&batch));
    return stream;
  };
  const auto first = peer_->NewContext(kTimeout), second = peer_->NewContext(kTimeout);
  const auto first_stream = open(*first), second_stream = open(*second);
  EXPECT_EQ(KeyFigure(), "1 data set, 2 streams");
  const auto third = Collect(Batches("text", 0, 1)).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(third.message(), "2 batch streams are open")) << third;
  first->TryCancel();  // An endless stream whose reader goes away.
  EXPECT_TRUE(Eventually([&] { return KeyFigure() == "1 data set, 1 stream"; }));
  BDH_EXPECT_OK(Collect(Batches("text", 0, 1)));
  second->TryCancel();
}

TEST_F(DataLoaderTest, MetricsSayHowMuchWasSent) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK(Collect(Batches("text", 0, 10)));
  const std::string page = Metrics(server_->admin_address());
  EXPECT_TRUE(absl::StrContains(page, "bdh_loader_tokens_total 1980\n")) << page;  // 10 steps, 6 rows of 33.
  EXPECT_TRUE(absl::StrContains(page, "bdh_loader_streams 0\n")) << page;
  EXPECT_TRUE(absl::StrContains(page, "bdh_loader_datasets 1\n")) << page;
  BDH_ASSERT_OK(Delete("text"));
  EXPECT_TRUE(absl::StrContains(Metrics(server_->admin_address()), "bdh_loader_datasets 0\n"));
}

TEST_F(DataLoaderTest, ADeletedDataSetGoesOnForWhoStreamsIt) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(200000)}}));
  auto request = Batches("text", 0, 400);
  request.set_block_size(
      9999);  // More than fits the buffers between us, so that most is read after the deletion.
  BDH_ASSERT_OK_AND_ASSIGN(const auto whole, Collect(request));
  const auto context = peer_->NewContext(kTimeout);
  const auto stream = stub_->StreamBatches(context.get(), request);
  std::map<int64_t, std::string> steps;
  v1::Batch batch;
  ASSERT_TRUE(stream->Read(&batch));
  steps[batch.step()] = batch.tokens();
  BDH_ASSERT_OK(Delete("text"));
  EXPECT_EQ(Delete("text").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(data_dir() + "/datasets/text"));
  while (stream->Read(&batch)) steps[batch.step()] = batch.tokens();
  BDH_EXPECT_OK(peer_->Outcome(stream->Finish()));
  EXPECT_EQ(steps, whole);
  EXPECT_EQ(Collect(request).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(DataLoaderTest, ARestartKeepsDataSetsAndRemovesWhatAKillLeft) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto before, Collect(Batches("text", 0, 5)));
  BDH_ASSERT_OK(MakeDirectories(data_dir() + "/staging/0123456789abcdef"));
  BDH_ASSERT_OK(WriteFileAtomically(data_dir() + "/staging/0123456789abcdef/train-00000.tokens", "half"));
  Restart();
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), ElementsAre("text"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto after, Collect(Batches("text", 0, 5)));
  EXPECT_EQ(after, before);
}

TEST_F(DataLoaderTest, DamageIsSaidWithTheFileAndOtherDataSetsAreServed) {
  BDH_ASSERT_OK(Upload("bad", {{"a", Text(1000)}}));
  BDH_ASSERT_OK(Upload("cut", {{"a", Text(1000)}}));
  BDH_ASSERT_OK(Upload("good", {{"a", Text(1000)}}));
  const std::string shard = data_dir() + "/datasets/bad/train-00000.tokens";
  BDH_ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(shard));
  bytes[100] ^= 1;
  BDH_ASSERT_OK(WriteFileAtomically(shard, bytes));
  fs::resize_file(data_dir() + "/datasets/cut/train-00000.tokens", 100);
  Restart();
  const auto flipped = Collect(Batches("bad", 0, 1)).status();
  EXPECT_EQ(flipped.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(flipped.message(), "datasets/bad/train-00000.tokens is damaged")) << flipped;
  const auto cut = Collect(Batches("cut", 0, 1)).status();
  EXPECT_EQ(cut.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(cut.message(), "datasets/cut/train-00000.tokens is 100 bytes long")) << cut;
  BDH_EXPECT_OK(Collect(Batches("good", 0, 1)));
  BDH_EXPECT_OK(Delete("cut"));
}

TEST_F(DataLoaderTest, ReplicasOnOneFolderServeTheSameBatches) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto mine, Collect(Batches("text", 0, 10)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto replica,
                           Server::Start({.listen = {.credentials = "secret"}, .data_dir = data_dir()}));
  peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", replica->address(), "secret");
  stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(const auto theirs, Collect(Batches("text", 0, 10)));
  EXPECT_EQ(theirs, mine);
  BDH_ASSERT_OK(Upload("late", {{"a", Text(1000, 5)}}));
  server_.reset();  // One replica leaves; the other goes on.
  EXPECT_THAT(Names(), ElementsAre("late", "text"));
  BDH_ASSERT_OK(Delete("late"));
}

TEST_F(DataLoaderTest, AFolderThatCannotBeUsedIsSaid) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/file", "x"));
  const auto nowhere = Server::Start({.data_dir = folder_.path() + "/file"}).status();
  EXPECT_TRUE(absl::StrContains(nowhere.message(), "or set another folder")) << nowhere;
}

TEST_F(DataLoaderTest, OneBatchAskedForIsTheOneOfTheStreamHoweverOften) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", {{"a", Text(100000)}, {"b", Text(3000)}}));
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  for (const v1::Order order :
       {v1::ORDER_UNSPECIFIED, v1::ORDER_EPOCH, v1::ORDER_SEQUENTIAL, v1::ORDER_LANES, v1::ORDER_LENGTH}) {
    auto stream = Batches("text", 0, 9);
    stream.set_order(order);
    BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(stream));
    v1::GetBatchRequest request;
    request.set_dataset("text");
    request.set_dataset_hash(dataset.hash());
    request.set_split(v1::SPLIT_TRAIN);
    request.set_seed(7);
    request.set_batch_size(6);
    request.set_block_size(32);
    request.set_order(order);
    request.set_document_begins(true);
    for (const int64_t step : {8, 0, 8}) {
      request.set_step(step);
      request.set_first_row(0);
      request.set_rows(0);
      BDH_ASSERT_OK_AND_ASSIGN(const auto whole,
                               peer_->Call(*lookup, &v1::DatasetService::Stub::GetBatch, request, kTimeout));
      EXPECT_EQ(whole.batch().tokens(), steps.at(step));
      EXPECT_EQ(whole.batch().row_resets(),
                order == v1::ORDER_LANES ? std::string(6, step == 0 ? '\1' : '\0') : std::string());
      EXPECT_EQ(whole.batch().document_begins().size(), (6u * 33 + 7) / 8);
      request.set_first_row(2);
      request.set_rows(3);
      BDH_ASSERT_OK_AND_ASSIGN(const auto some,
                               peer_->Call(*lookup, &v1::DatasetService::Stub::GetBatch, request, kTimeout));
      EXPECT_EQ(some.batch().tokens(), steps.at(step).substr(2 * 33, 3 * 33));
    }
    request.set_rows(9);
    EXPECT_EQ(peer_->Call(*lookup, &v1::DatasetService::Stub::GetBatch, request, kTimeout).status().code(),
              absl::StatusCode::kInvalidArgument);
    request.set_dataset_hash("abc");
    EXPECT_EQ(peer_->Call(*lookup, &v1::DatasetService::Stub::GetBatch, request, kTimeout).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(DataLoaderTest, ADataSetIsLookedInto) {
  std::vector<Document> documents;
  for (uint32_t i = 0; i < 120; ++i) documents.push_back({absl::StrFormat("d%d", i), Text(20 + i, i + 1)});
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", documents));
  EXPECT_EQ(dataset.split_rule(), v1::SPLIT_RULE_DOCUMENT) << "of many documents, whole ones are validation";
  EXPECT_TRUE(dataset.complete());
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  using Lookup = v1::DatasetService::Stub;

  v1::SampleDatasetRequest sample;
  sample.set_dataset("text");
  sample.set_count(5);
  BDH_ASSERT_OK_AND_ASSIGN(const auto drawn, peer_->Call(*lookup, &Lookup::SampleDataset, sample, kTimeout));
  ASSERT_EQ(drawn.documents_size(), 5);
  for (const auto& document : drawn.documents()) {
    EXPECT_EQ(document.tokens(), static_cast<int64_t>(document.text().size()));
    EXPECT_TRUE(std::any_of(documents.begin(), documents.end(),
                            [&](const Document& d) { return d.text == document.text(); }));
  }
  sample.set_count(101);
  EXPECT_EQ(peer_->Call(*lookup, &Lookup::SampleDataset, sample, kTimeout).status().code(),
            absl::StatusCode::kInvalidArgument);

  v1::GetDatasetReportRequest report;
  report.set_dataset("text");
  BDH_ASSERT_OK_AND_ASSIGN(const auto reported,
                           peer_->Call(*lookup, &Lookup::GetDatasetReport, report, kTimeout));
  EXPECT_EQ(reported.documents_kept(), 120);
  EXPECT_EQ(reported.bytes_kept(), dataset.bytes_in());
  int64_t binned = 0;
  for (const auto& bin : reported.lengths()) binned += bin.documents();
  EXPECT_EQ(binned, 120);

  const auto context = peer_->NewContext(kTimeout);
  v1::ExportDatasetRequest whole;
  whole.set_dataset("text");
  const auto text = lookup->ExportDataset(context.get(), whole);
  std::string together, wanted;
  for (v1::TextChunk chunk; text->Read(&chunk);) together += chunk.data();
  BDH_ASSERT_OK(peer_->Outcome(text->Finish()));
  for (const Document& document : documents) wanted += document.text;
  EXPECT_EQ(together, wanted);
}

TEST_F(DataLoaderTest, VerifyingReadsAllShardsAndNamesADamagedOne) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  const auto verify = [&] {
    const auto context = peer_->NewContext(kTimeout);
    v1::VerifyDatasetRequest request;
    request.set_dataset("text");
    const auto stream = lookup->VerifyDataset(context.get(), request);
    bool done = false;
    for (v1::VerifyDatasetResponse response; stream->Read(&response);) {
      EXPECT_LE(response.bytes_done(), response.bytes_total());
      done = response.done();
    }
    const absl::Status outcome = peer_->Outcome(stream->Finish());
    EXPECT_EQ(done, outcome.ok());
    return outcome;
  };
  BDH_EXPECT_OK(verify());
  const std::string shard = data_dir() + "/datasets/text/train-00000.tokens";
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(5000);
  file.put('#');
  file.close();
  const absl::Status damaged = verify();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(damaged.message(), "train-00000.tokens is damaged")) << damaged;
}

TEST_F(DataLoaderTest, OtherDataSetsUnderOneNameAreAMixture) {
  BDH_ASSERT_OK(Upload("one", {{"a", Text(10000)}}));
  BDH_ASSERT_OK(Upload("two", {{"a", Text(10000, 2)}}));
  auto mix = Spec("mix");
  mix.mutable_spec()->add_parts()->set_dataset("one");
  auto* two = mix.mutable_spec()->add_parts();
  two->set_dataset("two");
  two->set_weight(3);
  mix.mutable_spec()->set_order(v1::ORDER_EPOCH);
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create({mix}));
  EXPECT_EQ(dataset.order(), v1::ORDER_EPOCH);
  EXPECT_EQ(dataset.parts_size(), 2);
  EXPECT_EQ(dataset.train_tokens(), 18000);
  BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(Batches("mix", 0, 8)));
  int of_two = 0;
  for (const auto& [step, rows] : steps) {
    for (size_t row = 0; row < 6; ++row)
      of_two += absl::StrContains(Text(10000, 2), rows.substr(row * 33, 33));
  }
  EXPECT_EQ(of_two, 36);
  EXPECT_EQ(Delete("one").code(), absl::StatusCode::kFailedPrecondition);
  mix.mutable_spec()->add_paths("/srv");
  EXPECT_EQ(Create({mix}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DataLoaderTest, TextBesideNamedSourcesIsRefusedNotPassedOver) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/a.txt", Text(1000)));
  const auto status = Create({Spec("a", {folder_.path() + "/a.txt"}), Chunk("b", "text")}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "a chunk of text was sent too")) << status;
}

TEST_F(DataLoaderTest, TextGoesToTokensAndBack) {
  const std::string text("naïve \0 \xFF", 10);
  v1::TokenizeRequest tokenize;
  tokenize.set_text(text);
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokens, peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout));
  EXPECT_EQ(tokens.tokens_size(), 10);
  v1::DetokenizeRequest detokenize;
  detokenize.set_tokenizer("byte");
  *detokenize.mutable_tokens() = tokens.tokens();
  BDH_ASSERT_OK_AND_ASSIGN(const auto back, peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout));
  EXPECT_EQ(back.text(), text);

  detokenize.add_tokens(256);
  const auto outside = peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout).status();
  EXPECT_EQ(outside.code(), absl::StatusCode::kInvalidArgument) << outside;
  tokenize.set_text(std::string((1 << 20) + 1, 'x'));
  const auto large = peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument) << large;
  tokenize.set_tokenizer("gpt2");
  const auto unknown = peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(unknown.message(), "known ones are: byte")) << unknown;
}

TEST_F(DataLoaderTest, RowsOfAFileBecomeDocumentsAndTheReportCountsAll) {
  std::string rows;
  for (int i = 0; i < 150; ++i)
    rows += absl::StrFormat("{\"text\": \"row %d of it\", \"score\": %d}\n", i, 150 - i);
  rows += "{\"text\": \"row 7 of it\", \"score\": 1}\n{\"text\": \"no\", \"score\": 1}\n";
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/rows.jsonl", rows));
  auto spec = Spec("rows", {folder_.path() + "/*.jsonl"});
  spec.mutable_spec()->mutable_documents()->set_deduplicate(true);
  spec.mutable_spec()->mutable_documents()->set_min_bytes(5);
  spec.mutable_spec()->mutable_documents()->set_score_column("score");
  spec.mutable_spec()->set_order(v1::ORDER_SCORE);
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create({spec}));
  EXPECT_EQ(dataset.documents(), 150);
  EXPECT_TRUE(dataset.scored());
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  v1::GetDatasetReportRequest request;
  request.set_dataset("rows");
  BDH_ASSERT_OK_AND_ASSIGN(
      const auto report,
      peer_->Call(*lookup, &v1::DatasetService::Stub::GetDatasetReport, request, kTimeout));
  EXPECT_EQ(report.documents_in(), 152);
  EXPECT_EQ(report.documents_kept(), 150);
  EXPECT_EQ(report.dropped_size(), 2);
  EXPECT_THAT(report.sources(), ElementsAre("rows.jsonl"));
  // The lowest score comes first: the file's last row that was kept.
  auto batches = Batches("rows", 0, 1);
  batches.set_batch_size(1);
  batches.set_block_size(12);
  BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(batches));
  EXPECT_TRUE(absl::StartsWith(steps.at(0), "row 14")) << steps.at(0);

  BDH_ASSERT_OK_AND_ASSIGN(const auto sent, Upload("sent", {{"rows.jsonl", rows}}));
  EXPECT_EQ(sent.documents(), 152) << "what is sent is read by its name too";
  spec.mutable_spec()->set_name("wrong");
  spec.mutable_spec()->mutable_documents()->set_format("docx");
  const auto wrong = Create({spec}).status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << wrong;
}

TEST_F(DataLoaderTest, ADataSetOfTheHubIsFetchedOnceAndServedOfflineThen) {
  hub::HubServer there;
  std::string rows;
  for (int i = 0; i < 200; ++i)
    rows += absl::StrFormat("{\"text\": \"%s\"}\n", Text(50, static_cast<uint32_t>(i)));
  there.Put("datasets/owner/stories", {{"data/train.jsonl", rows}, {"README.md", "Stories."}});
  const auto with_hub = [&](bool offline) {
    Restart([&](Server::Options& options) {
      options.hub.endpoint = there.endpoint();
      options.hub.offline = offline;
    });
  };
  with_hub(false);
  std::vector<v1::CreateDatasetProgress> progress;
  BDH_ASSERT_OK_AND_ASSIGN(const auto stories,
                           Create({Spec("stories", {"hf://datasets/owner/stories"})}, &progress));
  EXPECT_EQ(stories.documents(), 200);
  with_hub(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Create({Spec("again", {"hf://datasets/owner/stories"})}));
  EXPECT_EQ(again.hash(), stories.hash());
  auto live = Spec("live", {"hf://datasets/owner/stories"});
  live.mutable_spec()->set_streaming(true);
  BDH_EXPECT_OK(Create({live}));
  EXPECT_EQ(Create({Spec("none", {"hf://datasets/owner/none"})}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Create({Spec("none", {"no-such-set"})}).status().code(), absl::StatusCode::kNotFound);
  const auto two = Create({Spec("two", {"tinystories", "wikitext-2"})}).status();
  EXPECT_EQ(two.code(), absl::StatusCode::kInvalidArgument) << two;
}

class TokenizersTest : public DataLoaderTest {
 protected:
  using Service = v1::TokenizerService::Stub;

  absl::StatusOr<v1::TokenizerInfo> Train(const v1::TrainTokenizerSpec& spec, const std::string& text) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stub = v1::TokenizerService::NewStub(peer_->channel());
    const auto stream = stub->TrainTokenizer(context.get());
    v1::TrainTokenizerRequest request;
    *request.mutable_spec() = spec;
    stream->Write(request);
    if (!text.empty()) {
      request.mutable_chunk()->set_document("a.txt");
      request.mutable_chunk()->set_data(text);
      stream->Write(request);
    }
    stream->WritesDone();
    v1::TokenizerInfo info;
    for (v1::TrainTokenizerResponse response; stream->Read(&response);) {
      if (response.has_tokenizer()) info = response.tokenizer();
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return info;
  }
  static v1::TrainTokenizerSpec TrainSpec(const std::string& name) {
    v1::TrainTokenizerSpec spec;
    spec.set_name(name);
    spec.set_kind(v1::TOKENIZER_KIND_BPE);
    spec.set_vocab_size(300);
    return spec;
  }
  static std::string English(int lines) {
    std::string text;
    for (int i = 0; i < lines; ++i)
      text += absl::StrFormat("the river runs over %d old stones and sings\n", i);
    return text;
  }
};

TEST_F(TokenizersTest, OneThatIsTrainedMakesDataSetsAndTheirTextComesBack) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto info, Train(TrainSpec("mine"), English(500)));
  EXPECT_EQ(info.name(), "mine");
  EXPECT_EQ(info.vocab_size(), 300);
  auto spec = Spec("text");
  spec.mutable_spec()->set_tokenizer("mine");
  std::vector<v1::CreateDatasetRequest> requests = {spec};
  std::string wanted;
  for (int i = 0; i < 120; ++i) {
    const std::string text = absl::StrFormat("stone %d: ", i) + English(i % 7 + 1);
    wanted += text;
    requests.push_back(Chunk(absl::StrFormat("d%d", i), text));
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create(requests));
  EXPECT_EQ(dataset.tokenizer(), "mine");
  EXPECT_TRUE(dataset.end_of_text());
  EXPECT_LT(dataset.train_tokens() + dataset.validation_tokens(), dataset.bytes_in() / 2);

  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  const auto context = peer_->NewContext(kTimeout);
  v1::ExportDatasetRequest whole;
  whole.set_dataset("text");
  const auto reader = lookup->ExportDataset(context.get(), whole);
  std::string together;
  for (v1::TextChunk chunk; reader->Read(&chunk);) together += chunk.data();
  BDH_ASSERT_OK(peer_->Outcome(reader->Finish()));
  EXPECT_EQ(together, wanted);

  const auto stub = v1::TokenizerService::NewStub(peer_->channel());
  v1::DescribeTokenizerRequest describe;
  describe.set_name("mine");
  BDH_ASSERT_OK_AND_ASSIGN(const auto described,
                           peer_->Call(*stub, &Service::DescribeTokenizer, describe, kTimeout));
  EXPECT_THAT(described.datasets(), ElementsAre("text"));
  v1::DeleteTokenizerRequest remove;
  remove.set_name("mine");
  const auto used = peer_->Call(*stub, &Service::DeleteTokenizer, remove, kTimeout).status();
  EXPECT_EQ(used.code(), absl::StatusCode::kFailedPrecondition) << used;
  BDH_ASSERT_OK(Delete("text"));
  BDH_EXPECT_OK(peer_->Call(*stub, &Service::DeleteTokenizer, remove, kTimeout));
}

TEST_F(TokenizersTest, OneThatIsTakenOverSurvivesARestartAndIsHandedOutAgain) {
  BDH_ASSERT_OK(Train(TrainSpec("mine"), English(500)));
  auto stub = v1::TokenizerService::NewStub(peer_->channel());
  v1::ExportTokenizerRequest export_request;
  export_request.set_name("mine");
  BDH_ASSERT_OK_AND_ASSIGN(const auto files,
                           peer_->Call(*stub, &Service::ExportTokenizer, export_request, kTimeout));
  v1::ImportTokenizerRequest import;
  import.set_name("theirs");
  *import.mutable_files() = files.files();
  BDH_ASSERT_OK(peer_->Call(*stub, &Service::ImportTokenizer, import, kTimeout));
  Restart();
  stub = v1::TokenizerService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(
      const auto list, peer_->Call(*stub, &Service::ListTokenizers, v1::ListTokenizersRequest(), kTimeout));
  ASSERT_EQ(list.tokenizers_size(), 3);
  EXPECT_EQ(list.tokenizers(0).name(), "byte");
  EXPECT_EQ(list.tokenizers(1).hash(), list.tokenizers(2).hash());
  v1::TokenizeRequest tokenize;
  tokenize.set_tokenizer("theirs");
  tokenize.set_text("the river sings");
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokens, peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout));
  EXPECT_LT(tokens.tokens_size(), 10);
  v1::DetokenizeRequest detokenize;
  detokenize.set_tokenizer("theirs");
  *detokenize.mutable_tokens() = tokens.tokens();
  BDH_ASSERT_OK_AND_ASSIGN(const auto text, peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout));
  EXPECT_EQ(text.text(), "the river sings");
}

TEST_F(TokenizersTest, WrongTrainingsAreRefusedInASentence) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(1000)}}));
  auto name = TrainSpec("../up"), size = TrainSpec("a"), kind = TrainSpec("a"), both = TrainSpec("a"),
       none = TrainSpec("a"), missing = TrainSpec("a");
  size.set_vocab_size(3);
  kind.set_kind(v1::TOKENIZER_KIND_BYTE);
  both.set_dataset("text");
  both.add_paths("/srv");
  missing.set_dataset("none");
  const struct {
    v1::TrainTokenizerSpec spec;
    absl::StatusCode code;
  } kCases[] = {{name, absl::StatusCode::kInvalidArgument}, {size, absl::StatusCode::kInvalidArgument},
                {kind, absl::StatusCode::kInvalidArgument}, {both, absl::StatusCode::kInvalidArgument},
                {none, absl::StatusCode::kInvalidArgument}, {missing, absl::StatusCode::kNotFound}};
  for (const auto& test : kCases) {
    const auto status = Train(test.spec, "").status();
    EXPECT_EQ(status.code(), test.code) << status;
  }
}

TEST_F(DataLoaderTest, AStreamingDataSetIsServedAtOnceAndGoesOnAfterARestart) {
  BDH_ASSERT_OK(MakeDirectories(folder_.path() + "/in"));
  for (int i = 0; i < 4; ++i) {
    BDH_ASSERT_OK(WriteFileAtomically(absl::StrFormat("%s/in/%d.txt", folder_.path(), i),
                                      Text(1 << 20, static_cast<uint32_t>(i))));
  }
  auto spec = Spec("live", {folder_.path() + "/in"});
  spec.mutable_spec()->set_streaming(true);
  spec.mutable_spec()->set_validation_fraction(0);
  BDH_ASSERT_OK_AND_ASSIGN(const auto live, Create({spec}));
  EXPECT_TRUE(live.streaming());
  EXPECT_EQ(live.order(), v1::ORDER_WINDOW);
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Collect(Batches("live", 0, 700)));
  Restart();
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Collect(Batches("live", 0, 700)));
  EXPECT_EQ(again, first);
  BDH_ASSERT_OK_AND_ASSIGN(const auto same, Create({spec}));
  EXPECT_EQ(same.hash(), live.hash());
  auto sent = Spec("sent");
  sent.mutable_spec()->set_streaming(true);
  EXPECT_EQ(Create({sent, Chunk("a", "text")}).status().code(), absl::StatusCode::kInvalidArgument);
  auto flags = Batches("live", 0, 1);
  flags.set_document_begins(true);
  EXPECT_EQ(Collect(flags).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DataLoaderTest, EveryCallNeedsTheMeshToken) {
  peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", server_->address(), "wrong");
  stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  constexpr auto kRefused = absl::StatusCode::kUnauthenticated;
  EXPECT_EQ(Upload("text", {{"a", Text(1000)}}).status().code(), kRefused);
  EXPECT_EQ(Collect(Batches("text", 0, 1)).status().code(), kRefused);
  EXPECT_EQ(Delete("text").code(), kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::ListDatasets, v1::ListDatasetsRequest(), kTimeout).status().code(),
            kRefused);
  EXPECT_EQ(
      peer_->Call(*stub_, &Stub::DescribeDataset, v1::DescribeDatasetRequest(), kTimeout).status().code(),
      kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::Tokenize, v1::TokenizeRequest(), kTimeout).status().code(), kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::Detokenize, v1::DetokenizeRequest(), kTimeout).status().code(),
            kRefused);
}

TEST_F(DataLoaderTest, ADrainEndsAnEndlessStreamAndSaysWhereToGoOn) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  const auto context = peer_->NewContext(kTimeout);
  const auto stream = stub_->StreamBatches(context.get(), Batches("text", 0, 0));
  v1::Batch batch;
  ASSERT_TRUE(stream->Read(&batch));
  std::thread drain([&] { server_->Drain(kTimeout); });
  int64_t last = batch.step();
  while (stream->Read(&batch)) last = batch.step();
  const auto status = peer_->Outcome(stream->Finish());
  drain.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(status.message(), absl::StrFormat("start_step %d", last + 1))) << status;
  const auto cursor = context->GetServerTrailingMetadata().find("bdh-next-step");
  ASSERT_NE(cursor, context->GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(cursor->second.data(), cursor->second.size()), absl::StrFormat("%d", last + 1));
}

TEST_F(DataLoaderTest, ADrainDoesNotWaitForAReaderThatDoesNotRead) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  const auto context = peer_->NewContext(kTimeout);
  const auto stream = stub_->StreamBatches(context.get(), Batches("text", 0, 0));
  v1::Batch batch;
  ASSERT_TRUE(stream->Read(&batch));
  server_->Drain(absl::Hours(1));
  while (stream->Read(&batch)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace bdh::data_loader
