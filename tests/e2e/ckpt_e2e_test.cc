// `bdhctl ckpt` as a person uses it, against two real stores: import, list, average, compare, tag, push,
// pull, verify, retention, garbage, backup and restore. What is deleted is said before, what is in use is
// refused, and everything speaks JSON.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

// A second store with the token of the first mesh, on its own ports and in its own folder.
class OtherStore {
 public:
  OtherStore(const MeshDriver& mesh, const std::string& folder) : ready_(folder + ".ready") {
    fs::remove(ready_);
    daemon_ = std::make_unique<Subprocess>(
        Command{.arguments = {Binary("bdh-checkpoint-store"), "--config", mesh.data() + "/mesh.yaml",
                              "--ready-file", ready_, "--set", "checkpoint_store.data_dir=" + folder, "--set",
                              "checkpoint_store.listen=127.0.0.1:0", "--set",
                              "checkpoint_store.admin_listen=127.0.0.1:0"}});
    while (!fs::exists(ready_) && !IsGone(daemon_->pid())) absl::SleepFor(absl::Milliseconds(20));
    const auto text = ReadFile(ready_);
    EXPECT_TRUE(text.ok()) << daemon_->Complained();
    if (text.ok()) address_ = Json::parse(*text).at("address");
  }
  const std::string& address() const { return address_; }

 private:
  const std::string ready_;
  std::unique_ptr<Subprocess> daemon_;
  std::string address_;
};

class CheckpointE2E : public ::testing::Test {
 protected:
  void SetUp() override {
    mesh_ = std::make_unique<MeshDriver>(folder_.path());
    const Outcome up = mesh_->Up({"--only", "bdh-checkpoint-store"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    for (int step = 1; step <= 3; ++step) Import(step);
  }

  std::string Path(const std::string& name) { return folder_.path() + "/" + name; }

  // The golden weights, each a little larger with every step but for one that stays.
  void Import(int step) {
    const auto golden = tensorfile::SafetensorsFile::Open(BDH_SOURCE_DIR "/tests/golden/tiny.safetensors");
    ASSERT_TRUE(golden.ok()) << golden.status();
    std::vector<std::vector<float>> values;
    std::vector<tensorfile::TensorToWrite> tensors;
    values.reserve(golden->tensors().size());
    for (const auto& tensor : golden->tensors()) {
      if (!tensor.name.starts_with("weight.")) continue;
      std::vector<float>& floats = values.emplace_back(golden->Floats(tensor.name).value());
      const std::string name = tensor.name.substr(sizeof("weight.") - 1);
      if (name != "lm_head") {
        for (float& value : floats) value += 0.25f * static_cast<float>(step);
      }
      tensors.push_back({name,
                         tensor.dtype,
                         tensor.shape,
                         {reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float)}});
    }
    const std::string file = Path(absl::StrFormat("golden-%d.safetensors", step));
    BDH_ASSERT_OK(tensorfile::WriteSafetensors(file, tensors));
    mesh_->Ok({"ckpt", "import", file, "--n-layer", "2", "--name", "golden", "--step", std::to_string(step),
               "--tag", "newest"});
  }

  // Needs no mesh.
  Outcome Restore(const std::string& backup, const std::string& folder) {
    return Execute({.arguments = {Binary("bdhctl"), "ckpt", "restore", Path(backup), Path(folder)}});
  }

  TempDirectory folder_;
  std::unique_ptr<MeshDriver> mesh_;
};

TEST_F(CheckpointE2E, OneStoreFromEndToEnd) {
  EXPECT_EQ(mesh_->OkJson({"ckpt", "ls", "--run", "golden"}).at("checkpoints").size(), 3u);
  EXPECT_THAT(mesh_->Ok({"ckpt", "show", "newest"}), HasSubstr("runs/golden/steps/3"));
  EXPECT_EQ(mesh_->OkJson({"ckpt", "show", "newest"}).at("checkpoint").at("tensors").size(), 5u);

  // Tags have a history, checkpoints have notes.
  const Json history = mesh_->OkJson({"ckpt", "history", "newest"}).at("changes");
  ASSERT_EQ(history.size(), 3u);
  EXPECT_EQ(history.at(0).at("checkpoint"), "runs/golden/steps/3");
  const Json again = mesh_->OkJson({"ckpt", "import", Path("golden-3.safetensors"), "--n-layer", "2",
                                    "--name", "golden", "--step", "3", "--tag", "newest"});
  EXPECT_EQ(again.at("sent_bytes"), 0) << "the store has it";
  EXPECT_EQ(again.at("stored_bytes"), 0);
  mesh_->Ok({"ckpt", "tag", "newest", "prod"});
  mesh_->Ok({"ckpt", "untag", "prod"});
  EXPECT_THAT(mesh_->Ok({"ckpt", "ls", "--tags"}), Not(HasSubstr("prod")));
  mesh_->Ok({"ckpt", "note", "runs/golden/steps/2", "the middle", "--label", "kind=middle"});
  const Json found = mesh_->OkJson({"ckpt", "ls", "--label", "kind=middle"}).at("checkpoints");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(mesh_->Ok({"ckpt", "show", "runs/golden/steps/2"}), HasSubstr("the middle"));

  // The mean of 1 and 3 is 2: the same weights bit for bit, as quarters add without rounding.
  mesh_->Ok({"ckpt", "average", "runs/golden/steps/1", "runs/golden/steps/3", "--name", "runs/mean/steps/3"});
  const std::string diff = mesh_->Ok({"ckpt", "diff", "runs/golden/steps/2", "runs/mean/steps/3"});
  EXPECT_THAT(diff, HasSubstr("equal"));
  const Json differ =
      mesh_->OkJson({"ckpt", "diff", "runs/golden/steps/2", "runs/mean/steps/3"}).at("tensors");
  for (const Json& tensor : differ) {
    EXPECT_LT(tensor.at("difference_max").get<double>(), 1e-6) << tensor;
  }
  mesh_->Ok(
      {"ckpt", "average", "--run", "golden", "--last", "3", "--ema", "0.5", "--name", "runs/ema/steps/3"});
  EXPECT_EQ(mesh_->Do({"ckpt", "average", "newest", "--name", "runs/x/steps/1"}).exit_code, 2);
  mesh_->Ok({"ckpt", "export", "runs/mean/steps/3", Path("exported")});
  EXPECT_TRUE(fs::exists(Path("exported") + "/model.safetensors"));

  // Where the bytes are, and that they are right.
  EXPECT_THAT(mesh_->Ok({"ckpt", "df"}), HasSubstr("each once"));
  EXPECT_EQ(mesh_->OkJson({"ckpt", "df"}).at("runs").size(), 3u);
  EXPECT_THAT(mesh_->Ok({"ckpt", "verify"}), HasSubstr("all as they were put"));
  EXPECT_EQ(mesh_->OkJson({"ckpt", "verify", "newest"}).at("damaged_chunks"), 0);

  // What goes is said before it goes.
  mesh_->Ok({"ckpt", "retention", "set", "--run", "golden", "--keep-every", "3"});
  EXPECT_THAT(mesh_->Ok({"ckpt", "retention", "show", "--run", "golden"}), HasSubstr("every 3 steps"));
  const std::string would = mesh_->Ok({"ckpt", "retention", "apply", "--run", "golden", "--dry-run"});
  EXPECT_THAT(would, HasSubstr("runs/golden/steps/1"));
  EXPECT_THAT(would, HasSubstr("Would delete 2"));
  EXPECT_EQ(mesh_->OkJson({"ckpt", "ls", "--run", "golden"}).at("checkpoints").size(), 3u);
  mesh_->Ok({"ckpt", "retention", "apply", "--run", "golden"});
  EXPECT_EQ(mesh_->OkJson({"ckpt", "ls", "--run", "golden"}).at("checkpoints").size(), 1u);
  mesh_->Ok({"ckpt", "retention", "clear", "--run", "golden"});
  EXPECT_EQ(mesh_->Do({"ckpt", "retention", "show", "--run", "golden"}).exit_code, 1);
  EXPECT_THAT(mesh_->Ok({"ckpt", "rm", "runs/ema/steps/3", "--dry-run"}), HasSubstr("Would delete 1"));
  mesh_->Ok({"ckpt", "rm", "runs/ema/steps/3"});
  EXPECT_EQ(mesh_->Do({"ckpt", "rm", "runs/golden/steps/3"}).exit_code, 1) << "a tag points to it";
  EXPECT_GE(mesh_->OkJson({"ckpt", "gc", "--dry-run"}).at("chunks_seen").get<int>(), 5);
  mesh_->Ok({"ckpt", "gc"});
}

TEST_F(CheckpointE2E, AnExportedDirectoryRepairsWhatItIsOf) {
  mesh_->Ok({"ckpt", "export", "runs/golden/steps/1", Path("first")});
  mesh_->Ok({"ckpt", "export", "runs/golden/steps/2", Path("second")});
  mesh_->Ok({"ckpt", "export", "runs/golden/steps/1", Path("rounded"), "--dtype", "bf16"});
  // The first chunk that was ever put; 48 bytes of header stand before it.
  const std::string pack = fs::directory_iterator(mesh_->data() + "/checkpoint-store/packs")->path();
  {
    std::fstream file(pack, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(50);
    const int was = file.get();
    file.seekp(50);
    file.put(static_cast<char>(was ^ 1));
  }
  EXPECT_THAT(mesh_->Ok({"ckpt", "repair", "--from", Path("first")}),
              HasSubstr("Nothing is known to be damaged"));
  const Outcome found = mesh_->Do({"ckpt", "verify"});
  EXPECT_EQ(found.exit_code, 1);
  EXPECT_THAT(found.out, HasSubstr("runs/golden/steps/1"));
  EXPECT_EQ(mesh_->Do({"ckpt", "export", "runs/golden/steps/1", Path("again")}).exit_code, 1);
  for (const char* other : {"second", "rounded"}) {
    const Outcome useless = mesh_->Do({"ckpt", "repair", "--from", Path(other)});
    EXPECT_EQ(useless.exit_code, 1) << other;
    EXPECT_THAT(useless.out, HasSubstr("Repaired 0 of 1")) << other;
  }
  EXPECT_THAT(mesh_->Ok({"ckpt", "repair", "--from", Path("first")}), HasSubstr("Repaired 1 of 1"));
  EXPECT_THAT(mesh_->Ok({"ckpt", "verify"}), HasSubstr("all as they were put"));
  mesh_->Ok({"ckpt", "export", "runs/golden/steps/1", Path("again")});
  EXPECT_EQ(mesh_->Do({"ckpt", "repair"}).exit_code, 2);
}

TEST_F(CheckpointE2E, CheckpointsTravelBetweenStoresAndBackupsOpen) {
  {
    const OtherStore other(*mesh_, Path("other"));
    const Json first = mesh_->OkJson({"ckpt", "push", other.address(), "runs/golden/steps/1"});
    EXPECT_EQ(first.at("bytes_skipped"), 0);
    const Json second = mesh_->OkJson({"ckpt", "push", other.address(), "runs/golden/steps/1", "newest"});
    EXPECT_GT(second.at("bytes_skipped").get<int64_t>(), first.at("bytes_total").get<int64_t>());
    mesh_->Ok({"ckpt", "rm", "runs/golden/steps/1"});
    mesh_->Ok({"ckpt", "pull", other.address(), "runs/golden/steps/1"});
    EXPECT_THAT(mesh_->Ok({"ckpt", "verify", "runs/golden/steps/1"}), HasSubstr("all as they were put"));
    EXPECT_THAT(mesh_->Ok({"ckpt", "repair", other.address()}), HasSubstr("Nothing is known to be damaged"));
    EXPECT_EQ(Restore("none", "new").exit_code, 2);
    mesh_->Ok({"ckpt", "backup", Path("backup")});
    const Outcome in_use = Restore("backup", "other");
    EXPECT_EQ(in_use.exit_code, 1);
    EXPECT_THAT(in_use.err, HasSubstr("is in use"));
  }
  const Outcome taken = Restore("backup", "other");
  EXPECT_EQ(taken.exit_code, 1);
  EXPECT_THAT(taken.err, HasSubstr("holds something"));
  EXPECT_EQ(Restore("backup", "restored").exit_code, 0);
  const OtherStore restored(*mesh_, Path("restored"));
  const Json back = mesh_->OkJson({"ckpt", "push", restored.address(), "runs/golden/steps/1", "newest"});
  EXPECT_EQ(back.at("bytes_skipped"), back.at("bytes_total")) << "it has everything";
}

}  // namespace
}  // namespace bdh::e2e
