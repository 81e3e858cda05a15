// What one real bdh-checkpoint-store takes: a checkpoint larger than the memory it may use, ten thousand tiny
// tensors, clients that vanish, a disk that is full, and no second daemon on its folder.
//
// BDH_LARGE_PUT_MIB=n puts a larger checkpoint.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"
#include "tests/faults/store_daemon.h"

namespace bdh::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t kMib = 1 << 20;
constexpr int64_t kMemoryMib = 256;
constexpr int64_t kLargeMib = 512;

// A MiB that no other number has.
std::string MibOf(int64_t number) {
  std::string bytes(kMib, static_cast<char>(number));
  for (int64_t at = 0; at < kMib; at += 4096) std::memcpy(&bytes[at], &number, sizeof(number));
  return bytes;
}

TEST(StoreDaemonTest, ACheckpointLargerThanItsMemoryGoesInAndComesOut) {
  const TempDirectory folder;
  const StoreDaemon daemon(folder.path());
  const char* more = std::getenv("BDH_LARGE_PUT_MIB");
  const int64_t mib = more != nullptr ? std::atoll(more) : kLargeMib;
  v1::Checkpoint checkpoint;
  checkpoint.set_name("runs/large/steps/1");
  AddTensor(checkpoint, "t", mib * kMib);
  int64_t sent = 0;
  BDH_ASSERT_OK(daemon.Put(checkpoint, [&](v1::TensorChunk& chunk) {
    if (sent == mib) return false;
    chunk.set_tensor("t");
    chunk.set_offset_bytes(sent * kMib);
    chunk.set_data(MibOf(sent++));
    return true;
  }));
  const int64_t after_put = daemon.PeakMemoryMib();
  int64_t came = 0;
  std::string pending;
  BDH_ASSERT_OK(daemon.Get("runs/large/steps/1", [&](const v1::TensorChunk& chunk) {
    pending += chunk.data();
    if (static_cast<int64_t>(pending.size()) < kMib) return;
    EXPECT_TRUE(pending == MibOf(came)) << "MiB " << came;
    ++came;
    pending.clear();
  }));
  EXPECT_EQ(came, mib);
  const int64_t after_get = daemon.PeakMemoryMib();
  std::printf("%d MiB through a daemon of %d MiB (%d after the put)\n", static_cast<int>(mib),
              static_cast<int>(after_get), static_cast<int>(after_put));
  EXPECT_LT(after_get, kMemoryMib) << "after the put it was " << after_put;
}

TEST(StoreDaemonTest, TenThousandTinyTensorsAreACheckpoint) {
  const TempDirectory folder;
  const StoreDaemon daemon(folder.path());
  constexpr int kTensors = 10'000;
  v1::Checkpoint checkpoint;
  checkpoint.set_name("runs/tiny/steps/1");
  std::string want;
  for (int i = 0; i < kTensors; ++i) {
    AddTensor(checkpoint, absl::StrFormat("t%d", i), 4);
    want += absl::StrFormat("%04d", i);
  }
  int sent = 0;
  BDH_ASSERT_OK(daemon.Put(checkpoint, [&](v1::TensorChunk& chunk) {
    if (sent == kTensors) return false;
    chunk.set_tensor(absl::StrFormat("t%d", sent));
    chunk.set_data(want.substr(4 * sent++, 4));
    return true;
  }));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string got, daemon.Get("runs/tiny/steps/1"));
  EXPECT_TRUE(got == want);
  EXPECT_LT(daemon.PeakMemoryMib(), kMemoryMib);
}

// Each leaves an upload or a reader behind in the middle of 64 MiB.
TEST(StoreDaemonTest, ClientsThatVanishLeaveNeitherBytesNorMemory) {
  const TempDirectory folder;
  const StoreDaemon daemon(folder.path());
  const std::string kept = RandomBytes(1, 4 * kMib);
  BDH_ASSERT_OK(daemon.Put("runs/kept/steps/1", kept));
  v1::Checkpoint checkpoint;
  checkpoint.set_name("runs/gone/steps/1");
  AddTensor(checkpoint, "t", 64 * kMib);
  for (int i = 0; i < 20; ++i) {
    const auto put_context = daemon.peer().NewContext(absl::Minutes(1));
    v1::PutCheckpointResponse response;
    const auto writer = daemon.stub().PutCheckpoint(put_context.get(), &response);
    v1::PutCheckpointRequest request;
    *request.mutable_checkpoint() = checkpoint;
    writer->Write(request);
    for (int64_t mib = 0; mib < 8; ++mib) {
      request.mutable_chunk()->set_tensor("t");
      request.mutable_chunk()->set_offset_bytes(mib * kMib);
      request.mutable_chunk()->set_data(MibOf(100 * i + mib));
      writer->Write(request);
    }
    put_context->TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
    const auto get_context = daemon.peer().NewContext(absl::Minutes(1));
    v1::GetCheckpointRequest get;
    get.set_reference("runs/kept/steps/1");
    const auto reader = daemon.stub().GetCheckpoint(get_context.get(), get);
    v1::GetCheckpointResponse part;
    EXPECT_TRUE(reader->Read(&part));
    get_context->TryCancel();
    EXPECT_FALSE(reader->Finish().ok());
  }
  EXPECT_TRUE(absl::IsNotFound(daemon.Get("runs/gone/steps/1").status()));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string got, daemon.Get("runs/kept/steps/1"));
  EXPECT_TRUE(got == kept);
  EXPECT_LT(daemon.PeakMemoryMib(), kMemoryMib);
  // A checkpoint of the same name can come, and once it is deleted nothing is left.
  BDH_ASSERT_OK(daemon.Put("runs/gone/steps/1", kept));
  BDH_ASSERT_OK(daemon.Delete("runs/gone/steps/1"));
  BDH_ASSERT_OK(daemon.Delete("runs/kept/steps/1"));
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  const auto is_empty = [&] { return fs::is_empty(folder.path() + "/store/packs"); };
  while (!is_empty() && absl::Now() < deadline) {
    BDH_ASSERT_OK(daemon.CollectGarbage());
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(is_empty());
}

TEST(StoreDaemonTest, ASecondDaemonOnTheFolderLeavesWithASentence) {
  const TempDirectory folder, other;
  const StoreDaemon daemon(folder.path());
  Command second = StoreDaemon::StartCommand(other.path(), {"data_dir=" + folder.path() + "/store"});
  const Outcome outcome = Execute(second);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("is in use by another bdh-checkpoint-store"));
}

// A disk of 48 MiB that only the daemon sees: a file system in memory, in a namespace of its own.
class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_.path() + "/store");
    if (Execute({{"/usr/bin/unshare", "-rm", "/bin/true"}}).exit_code != 0) {
      GTEST_SKIP() << "no namespaces here; the limit on the size of files stands for the disk";
    }
    Command command = StoreDaemon::StartCommand(
        folder_.path(), {"min_free_bytes=4194304", "pack_bytes=4194304", "chunk_bytes=65536"});
    command.arguments.insert(
        command.arguments.begin(),
        {"/usr/bin/unshare", "-rm", "/bin/sh", "-c",
         "d=$0; mount -t tmpfs -o size=48m tmpfs \"$d\" && cd / && exec \"$@\"", folder_.path() + "/store"});
    daemon_ = std::make_unique<StoreDaemon>(folder_.path(), command);
  }
  void TearDown() override {
    if (HasFailure()) std::puts(daemon_->Complained().c_str());
  }
  // The folder as the daemon sees it.
  std::string Inside() const {
    return absl::StrFormat("/proc/%d/root%s/store", daemon_->pid(), folder_.path());
  }
  static std::string Name(int step) { return absl::StrFormat("runs/a/steps/%d", step); }
  static std::string BytesOf(int step) { return RandomBytes(step, kMib); }
  // Puts checkpoints of a MiB from `step` on until one is refused; the number of that one.
  int FillFrom(int step) {
    absl::Status status;
    while ((status = daemon_->Put(Name(step), BytesOf(step))).ok() && step < 100) ++step;
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(HasSubstr("full"), HasSubstr("MiB free"), HasSubstr("make room")));
    return step;
  }
  void ExpectAllBut(int missing, int end) {
    for (int step = 0; step < end; ++step) {
      const auto got = daemon_->Get(Name(step));
      if (step == missing) {
        EXPECT_TRUE(absl::IsNotFound(got.status()));
      } else {
        EXPECT_TRUE(got.ok() && *got == BytesOf(step)) << Name(step) << ": " << got.status();
      }
    }
  }
  // Space is given back beside what was asked for: it may take a moment.
  absl::Status PutInTime(int step) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (true) {
      const absl::Status status = daemon_->Put(Name(step), BytesOf(step));
      if (status.ok() || absl::Now() > deadline) return status;
      absl::SleepFor(absl::Milliseconds(10));
    }
  }

  const TempDirectory folder_;
  std::unique_ptr<StoreDaemon> daemon_;
};

TEST_F(FullDisk, RefusesWithTheNumbersServesTheRestAndGoesOnOnceThereIsRoom) {
  const int refused = FillFrom(0);
  ASSERT_GT(refused, 5);
  ExpectAllBut(refused, refused + 1);
  // Names can still be changed, and deleting makes room.
  BDH_EXPECT_OK(daemon_->SetTag("last", Name(refused - 1)));
  for (const int step : {1, 2, 3}) BDH_EXPECT_OK(daemon_->Delete(Name(step)));
  BDH_EXPECT_OK(PutInTime(refused));
  ExpectAllBut(-1, 1);
}

TEST_F(FullDisk, IsLeftWhenSomebodyElseWhoFilledItMakesRoom) {
  constexpr int kBefore = 5;
  for (int step = 0; step < kBefore; ++step) BDH_ASSERT_OK(daemon_->Put(Name(step), BytesOf(step)));
  const std::string ballast = Inside() + "/ballast";
  {
    std::ofstream file(ballast, std::ios::binary);
    const std::string zeros(1 << 16, '\0');
    while (file.write(zeros.data(), static_cast<std::streamsize>(zeros.size())).flush()) {
    }
  }
  // Not a byte is left: names cannot change either.
  const absl::Status named = daemon_->SetTag("last", Name(0));
  EXPECT_TRUE(absl::IsResourceExhausted(named)) << named;
  EXPECT_THAT(std::string(named.message()),
              testing::AllOf(HasSubstr("full: 0 B free"), HasSubstr("make room")));
  const absl::Status large = daemon_->Put(Name(kBefore), BytesOf(kBefore));
  EXPECT_TRUE(absl::IsResourceExhausted(large)) << large;
  ExpectAllBut(kBefore, kBefore + 1);
  fs::remove(ballast);
  BDH_EXPECT_OK(PutInTime(kBefore));
  BDH_EXPECT_OK(daemon_->SetTag("last", Name(kBefore)));
  ExpectAllBut(-1, kBefore + 1);
}

// As on a disk with a quota, where mounts are not allowed: no file may grow beyond 2 MiB.
TEST(FullDiskByLimit, RefusesWhatDoesNotFitAndServesTheRest) {
  const TempDirectory folder;
  Command command = StoreDaemon::StartCommand(folder.path(), {"pack_bytes=4194304", "chunk_bytes=65536"});
  command.arguments.insert(command.arguments.begin(),
                           {"/bin/bash", "-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""});
  const StoreDaemon daemon(folder.path(), command);
  const std::string small = RandomBytes(1, kMib), large = RandomBytes(2, 3 * kMib);
  BDH_ASSERT_OK(daemon.Put("runs/a/steps/1", small));
  const absl::Status refused = daemon.Put("runs/a/steps/2", large);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("File too large"));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string got, daemon.Get("runs/a/steps/1"));
  EXPECT_TRUE(got == small);
  EXPECT_TRUE(absl::IsNotFound(daemon.Get("runs/a/steps/2").status()));
  BDH_EXPECT_OK(daemon.SetTag("first", "runs/a/steps/1"));
}

}  // namespace
}  // namespace bdh::e2e
