// bdh-data-loader killed with SIGKILL, a real process with a real disk: in the middle of tokenizing, after
// which the same `data add` goes on and ends in the same data set; and in the middle of a stream of batches,
// after which a reader that knows no more than its step misses nothing and gets nothing twice.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using Stub = v1::DataLoaderService::Stub;

constexpr absl::Duration kPatience = absl::Seconds(90);

std::string Noise(size_t bytes, uint32_t random) {
  std::string text(bytes, ' ');
  for (char& c : text) {
    random = random * 1664525 + 1013904223;
    c = (random >> 24) % 6 == 0 ? ' ' : static_cast<char>('a' + (random >> 24) % 26);
  }
  return text;
}

// One bdh-data-loader as its own process.
class Loader {
 public:
  Loader(const std::string& folder, const std::string& data_dir) : config_(folder + "/config.yaml") {
    std::ofstream(config_) << absl::StrFormat(
        "data_loader: {listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', data_dir: '%s', shard_tokens: "
        "1048576,\n"
        "              threads: 2}\n",
        data_dir);
    Start();
  }

  void Start() {
    const std::string ready = config_ + ".ready";
    std::filesystem::remove(ready);
    process_ = std::make_unique<Subprocess>(
        Command{{Binary("bdh-data-loader"), "--config", config_, "--ready-file", ready}});
    const absl::Time deadline = absl::Now() + kPatience;
    while (!std::filesystem::exists(ready) && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(10));
    const auto json = ReadFile(ready);
    BDH_ASSERT_OK(json);
    const std::string address = Json::parse(*json).at("address");
    peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", address, "");
    stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  }

  void Kill() {
    process_->Signal(SIGKILL);
    process_->Wait(kPatience);
  }

  // Asks for a data set of `path`; calls `on_progress` with the tokens that were made.
  absl::StatusOr<v1::Dataset> Add(const std::string& path, const std::function<void(int64_t)>& on_progress) {
    const auto context = peer_->NewContext(kPatience);
    const auto stream = stub_->CreateDataset(context.get());
    v1::CreateDatasetRequest request;
    request.mutable_spec()->set_name("text");
    request.mutable_spec()->add_paths(path);
    stream->Write(request);
    stream->WritesDone();
    v1::Dataset dataset;
    for (v1::CreateDatasetResponse response; stream->Read(&response);) {
      if (response.has_dataset()) dataset = response.dataset();
      if (response.has_progress()) on_progress(response.progress().tokens_out());
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return dataset;
  }

  // Reads batches from `step` to `end`, and hands each to `on_batch`.
  absl::Status Stream(int64_t step, int64_t end, v1::Order order,
                      const std::function<void(const v1::Batch&)>& on_batch) {
    v1::StreamBatchesRequest request;
    request.set_dataset("text");
    request.set_split(v1::SPLIT_TRAIN);
    request.set_seed(11);
    request.set_batch_size(4);
    request.set_block_size(256);
    request.set_start_step(step);
    request.set_step_count(end - step);
    request.set_order(order);
    const auto context = peer_->NewContext(kPatience);
    const auto stream = stub_->StreamBatches(context.get(), request);
    for (v1::Batch batch; stream->Read(&batch);) on_batch(batch);
    return peer_->Outcome(stream->Finish());
  }

 private:
  const std::string config_;
  std::unique_ptr<Subprocess> process_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

class LoaderFault : public ::testing::Test {
 protected:
  std::string Folder(const std::string& name) {
    const std::string path = folder_.path() + "/" + name;
    BDH_EXPECT_OK(MakeDirectories(path));
    return path;
  }
  TempDirectory folder_;
};

TEST_F(LoaderFault, ATokenizingThatIsKilledIsGoneOnWithAndEndsInTheSameDataSet) {
  const std::string text = Folder("text");
  for (int i = 0; i < 40; ++i) {
    BDH_ASSERT_OK(WriteFileAtomically(absl::StrFormat("%s/%02d.txt", text, i), Noise(4 << 20, i)));
  }
  Loader calm(Folder("calm"), folder_.path() + "/calm/data");
  BDH_ASSERT_OK_AND_ASSIGN(const auto expected, calm.Add(text, [](int64_t) {}));

  Loader killed(Folder("killed"), folder_.path() + "/killed/data");
  int kills = 0;
  int64_t made_before = 0;
  v1::Dataset dataset;
  while (true) {
    int64_t first = -1;
    const auto added = killed.Add(text, [&](int64_t tokens) {
      if (first < 0) first = tokens;
      if (kills == 3 || tokens < (kills + 1) * (20 << 20)) return;
      ++kills;
      killed.Kill();
    });
    if (first >= 0 && kills > 0 && made_before > 0) {
      EXPECT_GT(first, 0) << "what was made is not made again";
    }
    made_before = first;
    if (added.ok()) {
      dataset = *added;
      break;
    }
    ASSERT_LE(kills, 3) << added.status();
    killed.Start();
  }
  EXPECT_GT(kills, 0);
  EXPECT_EQ(dataset.hash(), expected.hash());
  EXPECT_EQ(dataset.train_tokens(), expected.train_tokens());
  std::vector<std::string> batches[2];
  BDH_ASSERT_OK(
      calm.Stream(0, 50, v1::ORDER_EPOCH, [&](const auto& b) { batches[0].push_back(b.tokens()); }));
  BDH_ASSERT_OK(
      killed.Stream(0, 50, v1::ORDER_EPOCH, [&](const auto& b) { batches[1].push_back(b.tokens()); }));
  EXPECT_EQ(batches[0], batches[1]);
}

TEST_F(LoaderFault, AStreamThatIsKilledGoesOnFromTheStepAfterTheLastThatCame) {
  const std::string text = Folder("text");
  BDH_ASSERT_OK(WriteFileAtomically(text + "/a.txt", Noise(3 << 20, 1)));
  Loader loader(Folder("loader"), folder_.path() + "/loader/data");
  BDH_ASSERT_OK(loader.Add(text, [](int64_t) {}));
  constexpr int64_t kSteps = 20000;
  for (const v1::Order order : {v1::ORDER_RANDOM, v1::ORDER_LANES}) {
    std::map<int64_t, std::string> calm, disturbed;
    BDH_ASSERT_OK(loader.Stream(0, kSteps, order, [&](const auto& b) { calm[b.step()] = b.tokens(); }));
    int64_t next = 0;
    int kills = 0;
    while (next < kSteps) {
      const absl::Status ended = loader.Stream(next, kSteps, order, [&](const v1::Batch& batch) {
        EXPECT_EQ(batch.step(), next) << "nothing missed, nothing twice";
        disturbed[next++] = batch.tokens();
        if (kills < 3 && next == (kills + 1) * 3000) {
          ++kills;
          loader.Kill();
        }
      });
      if (!ended.ok()) loader.Start();
    }
    EXPECT_EQ(kills, 3);
    EXPECT_EQ(disturbed, calm);
  }
}

}  // namespace
}  // namespace bdh::e2e
