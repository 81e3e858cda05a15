// Proves StreamBatches and GetBatch over the wire: batches are the same from any cursor and for any number of
// workers; wrong requests, limits, deletion and shutdown each get what data_loader.proto says.
#include <algorithm>
#include <boost/asio.hpp>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/notification.h"
#include "hub_server_testing.h"
#include "services/data_loader/server_testing.h"

namespace bdh::data_loader {
namespace {

// What /metrics answers.
std::string Metrics(const std::string& admin_address) {
  boost::asio::ip::tcp::iostream http(admin_address.substr(0, admin_address.rfind(':')),
                                      admin_address.substr(admin_address.rfind(':') + 1));
  http << "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" << std::flush;
  return {std::istreambuf_iterator<char>(http), {}};
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

TEST_F(DataLoaderTest, AStreamingSetOfTheHubIsServedWhileItsLaterFilesAreFetched) {
  hub::HubServer there;
  const auto lines = [](uint32_t seed) {
    std::string text;
    for (uint32_t i = 0; i < 1500; ++i) text += "{\"text\": \"" + Text(1000, seed * 10000 + i) + "\"}\n";
    return text;
  };
  there.Put(
      "datasets/owner/stories",
      {{"data/train-0.jsonl", lines(1)}, {"data/train-1.jsonl", lines(2)}, {"data/train-2.jsonl", lines(3)}});
  // The second file does not come until it is let go.
  absl::Notification let_go;
  there.OnRequest([&](const hub::SeenRequest& request) {
    if (absl::StrContains(request.target, "train-1.jsonl")) let_go.WaitForNotification();
  });
  const absl::Cleanup always = [&] {
    if (!let_go.HasBeenNotified()) let_go.Notify();
  };
  const auto start = [&] {
    Restart([&](Server::Options& options) { options.hub.endpoint = there.endpoint(); });
  };
  start();
  auto spec = Spec("live", {"hf://datasets/owner/stories"});
  spec.mutable_spec()->set_streaming(true);
  spec.mutable_spec()->set_validation_fraction(0);
  BDH_ASSERT_OK_AND_ASSIGN(const auto live, Create({spec}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Collect(Batches("live", 0, 300)));
  EXPECT_TRUE(Eventually([&] { return there.CountOf("train-1.jsonl") > 0; })) << "one file ahead";
  EXPECT_EQ(there.CountOf("train-2.jsonl"), 0) << "and no more";
  let_go.Notify();
  v1::DescribeDatasetRequest describe;
  describe.set_name("live");
  EXPECT_TRUE(Eventually([&] {
    const auto now = peer_->Call(*stub_, &Stub::DescribeDataset, describe, kTimeout);
    return now.ok() && now->dataset().complete();
  }));
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Collect(Batches("live", 0, 300)));
  EXPECT_EQ(again, first);
  // The same as of files that were all there before.
  spec.mutable_spec()->set_name("same");
  BDH_ASSERT_OK_AND_ASSIGN(const auto same, Create({spec}));
  EXPECT_EQ(same.hash(), live.hash());
  EXPECT_EQ(Collect(Batches("same", 14000, 5)).value(), Collect(Batches("live", 14000, 5)).value());
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
