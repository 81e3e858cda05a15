// Models travel as files: what a mesh trained is exported, imported by another mesh, and says the same there,
// token for token; the reference's own weights come in and say what the reference said; and what is unfit is
// refused with a sentence and nothing stored.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/base/text.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "hub_server_testing.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kPrompt[] = "the river ";
constexpr size_t kGoldenPrompt = 8;

std::string SomeText() {
  std::string text;
  while (text.size() < 20'000) text += "the river runs over old stones and sings to the trees.\n";
  return text;
}

class ModelE2E : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempDirectory>();
    mesh_ = std::make_unique<MeshDriver>(folder_->path());
    const Outcome up = mesh_->Up();
    ASSERT_EQ(up.exit_code, 0) << up.err;
    mesh_->Ok({"data", "add", "rivers", "-"}, SomeText());
    std::ofstream(Path("tiny.yaml"))
        << "model: {n_layer: 2, n_embd: 32, n_head: 2, mlp_internal_dim_multiplier: 8}\n"
           "train: {max_steps: 8, batch_size: 4, block_size: 32, eval_interval: 4}\n";
    mesh_->Ok({"train", "start", "--dataset", "rivers", "--config", Path("tiny.yaml"), "--name", "first",
               "--watch"});
    mesh_->Ok({"model", "export", "first/best", Path("exported")});
  }
  static void TearDownTestSuite() {
    mesh_.reset();
    folder_.reset();
  }

  static std::string Path(const std::string& name) { return folder_->path() + "/" + name; }

  // What the model says, greedily.
  static std::string Generate(const MeshDriver& mesh, const std::string& model, const std::string& prompt,
                              int count) {
    return mesh
        .OkJson(
            {"generate", "--model", model, "-", "--max-tokens", std::to_string(count), "--temperature", "0"},
            prompt)
        .value("text", "(no text)");
  }

  // The reference's weights of the golden file "tiny" as a state dict of its own, and its greedy tokens.
  static std::vector<int64_t> WriteGolden(const std::string& path, bool spoil = false) {
    const auto golden = tensorfile::SafetensorsFile::Open(BDH_SOURCE_DIR "/tests/golden/tiny.safetensors");
    EXPECT_TRUE(golden.ok()) << golden.status();
    std::vector<float> encoder = golden->Floats("weight.encoder").value();
    if (spoil) encoder[3] = std::nanf("");
    std::vector<tensorfile::TensorToWrite> tensors;
    for (const auto& tensor : golden->tensors()) {
      if (!tensor.name.starts_with("weight.")) continue;
      const std::string name = tensor.name.substr(sizeof("weight.") - 1);
      std::string_view bytes = golden->Bytes(tensor.name).value();
      if (name == "encoder") bytes = {reinterpret_cast<const char*>(encoder.data()), bytes.size()};
      tensors.push_back({"_orig_mod." + name, tensor.dtype, tensor.shape, bytes});
    }
    BDH_EXPECT_OK(tensorfile::WriteSafetensors(path, tensors));
    return golden->Integers("greedy").value();
  }

  static std::unique_ptr<TempDirectory> folder_;
  static std::unique_ptr<MeshDriver> mesh_;
};

std::unique_ptr<TempDirectory> ModelE2E::folder_;
std::unique_ptr<MeshDriver> ModelE2E::mesh_;

TEST_F(ModelE2E, WhatOneMeshTrainedAnotherServes) {
  mesh_->Ok({"models", "load", "first/best", "--id", "here"});
  const std::string here = Generate(*mesh_, "here", kPrompt, 24);
  ASSERT_FALSE(here.empty());

  const TempDirectory elsewhere;
  MeshDriver other(elsewhere.path());
  ASSERT_EQ(other.Up().exit_code, 0);
  const Json imported = other.OkJson({"model", "import", Path("exported"), "--name", "travelled"});
  EXPECT_EQ(imported.at("checkpoint").at("name"), "runs/travelled/steps/8");
  EXPECT_EQ(imported.at("checkpoint").at("cursor").at("dataset"), "rivers");
  EXPECT_EQ(imported.at("notes"), Json::array());
  other.Ok({"models", "load", "travelled"});
  EXPECT_EQ(Generate(other, "travelled", kPrompt, 24), here);
  // The same model from its files, without the store.
  EXPECT_THAT(other.Ok({"models", "load", Path("exported")}), HasSubstr("Model exported serves"));
  EXPECT_EQ(Generate(other, "exported", kPrompt, 24), here);
  // Again is fine; a tag that points elsewhere is not taken away.
  other.Ok({"model", "import", Path("exported"), "--name", "travelled"});
  const Outcome taken = other.Do({"model", "import", Path("exported"), "--name", "travelled", "--step", "9"});
  EXPECT_EQ(taken.exit_code, 1);
  EXPECT_THAT(taken.err, HasSubstr("the tag travelled points to another checkpoint and stays"));
}

TEST_F(ModelE2E, TheReferencesWeightsSayWhatTheReferenceSaid) {
  const std::vector<int64_t> greedy = WriteGolden(Path("golden.safetensors"));
  const std::string text(greedy.begin(), greedy.end());
  const std::string said = mesh_->Ok({"model", "import", Path("golden.safetensors"), "--n-layer", "2"});
  EXPECT_THAT(said, HasSubstr("Imported runs/golden/steps/0: 5 tensors"));
  EXPECT_THAT(said, HasSubstr("note: no attn.freqs"));
  mesh_->Ok({"models", "load", "golden"});
  EXPECT_EQ(Generate(*mesh_, "golden", text.substr(0, kGoldenPrompt),
                     static_cast<int>(text.size() - kGoldenPrompt)),
            text.substr(kGoldenPrompt));
}

// From a server that speaks the hub's API; what is broken on the way is refused, and what was fetched stays.
TEST_F(ModelE2E, AModelOfTheHubIsFetchedOnceAndServed) {
  hub::HubServer there;
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(Path("exported"))) {
    BDH_ASSERT_OK_AND_ASSIGN(files[entry.path().filename().string()], ReadFile(entry.path()));
  }
  there.Put("models/owner/rivers", files);
  there.Put("models/owner/changed", files);
  there.LieAbout("model.safetensors", std::string(64, 'a'));
  const auto import = [&](const std::string& model, const std::string& name, const std::string& offline) {
    Command command = mesh_->Bdhctl({"model", "import", "hf://models/owner/" + model, "--name", name});
    command.environment["HF_ENDPOINT"] = there.endpoint();
    command.environment["HF_HUB_CACHE"] = Path("hub");
    command.environment["HF_HUB_OFFLINE"] = offline;
    return Execute(command);
  };
  const Outcome changed = import("changed", "changed", "0");
  EXPECT_EQ(changed.exit_code, 1) << changed.out;
  EXPECT_THAT(changed.err, HasSubstr("model.safetensors"));
  EXPECT_EQ(mesh_->Do({"models", "load", "changed"}).exit_code, 1) << "nothing is stored";

  there.LieAbout("model.safetensors", Sha256Hex(files["model.safetensors"]));
  there.Inject("model.safetensors", {{.kind = hub::Fault::kCut, .after = 1000}});
  const Outcome fetched = import("rivers", "fetched", "0");
  EXPECT_EQ(fetched.exit_code, 0) << fetched.err;
  EXPECT_THAT(fetched.out, HasSubstr("Imported runs/fetched/steps/8"));
  const int requests = there.CountOf("");
  const Outcome again = import("rivers", "again", "1");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(there.CountOf(""), requests);
  mesh_->Ok({"models", "load", "fetched"});
  mesh_->Ok({"models", "load", "first/best", "--id", "trained"});
  EXPECT_EQ(Generate(*mesh_, "fetched", kPrompt, 16), Generate(*mesh_, "trained", kPrompt, 16));
}

TEST_F(ModelE2E, PyTorchsFileIsImported) {
  const std::string file = BDH_SOURCE_DIR "/libs/tensorfile/testdata/training.pt";
  const Json imported =
      mesh_->OkJson({"model", "import", file, "--name", "from-torch", "--tag", "torch/one"});
  EXPECT_EQ(imported.at("checkpoint").at("name"), "runs/from-torch/steps/1234");
  EXPECT_EQ(imported.at("tag"), "torch/one");
  EXPECT_THAT(imported.at("notes").dump(), HasSubstr("lm_gate"));
  EXPECT_EQ(mesh_->OkJson({"models", "load", "torch/one"}).at("config").at("n_layer"), 3);
}

TEST_F(ModelE2E, ShowSaysTheSameOfFilesAndOfTheStore) {
  const Json files = mesh_->OkJson({"model", "show", Path("exported")});
  const Json stored = mesh_->OkJson({"model", "show", "first/best"});
  EXPECT_EQ(files.at("from"), "directory");
  EXPECT_EQ(stored.at("from"), "checkpoint");
  for (const char* key : {"config", "parameters", "tokenizer", "serving"})
    EXPECT_EQ(files.at(key), stored.at(key));
  EXPECT_EQ(files.at("training").at("validation_loss"), stored.at("training").at("validation_loss"));
  ASSERT_EQ(files.at("tensors").size(), 6u);
  for (const Json& tensor : files.at("tensors")) {
    const auto same = [&](const Json& other) {
      return other.at("name") == tensor.at("name") && other.at("sha256") == tensor.at("sha256");
    };
    EXPECT_TRUE(std::any_of(stored.at("tensors").begin(), stored.at("tensors").end(), same)) << tensor;
  }
  const std::string text = mesh_->Ok({"model", "show", Path("exported")});
  EXPECT_THAT(text, HasSubstr("n_layer 2, n_embd 32"));
  EXPECT_THAT(text, HasSubstr("data set rivers, step 8"));
}

TEST_F(ModelE2E, Bf16ShardsAreServedToo) {
  mesh_->Ok(
      {"model", "export", "first/best", Path("small"), "--dtype", "bf16", "--max-shard-bytes", "20000"});
  EXPECT_TRUE(fs::exists(Path("small/model-00001-of-00005.safetensors")));
  const Json model = mesh_->OkJson({"models", "load", Path("small") + "/"});
  EXPECT_EQ(model.at("id"), "small");
  EXPECT_EQ(model.at("checkpoint"), Path("small"));
  EXPECT_EQ(Generate(*mesh_, "small", kPrompt, 4).empty(), false);
}

TEST_F(ModelE2E, WhatIsUnfitIsRefusedAndNothingStored) {
  WriteGolden(Path("spoilt.safetensors"), /*spoil=*/true);
  const Outcome nan = mesh_->Do({"model", "import", Path("spoilt.safetensors"), "--n-layer", "2"});
  EXPECT_EQ(nan.exit_code, 2);
  EXPECT_THAT(nan.err, HasSubstr("tensor _orig_mod.encoder holds nan at element 3"));
  EXPECT_TRUE(mesh_->OkJson({"ckpt", "ls", "--run", "spoilt"}).at("checkpoints").empty());
  const struct {
    std::vector<std::string> typed;
    int exit_code;
    const char* complaint;
  } cases[] = {
      {{"model", "import", Path("spoilt.safetensors")}, 2, "nothing says n_layer"},
      {{"model", "import", Path("absent.pt")}, 1, "is not there; want a pretrained directory"},
      {{"model", "import", Path("exported"), "--name", "No Name"}, 2, "--name is 'No Name'"},
      {{"model", "import", BDH_SOURCE_DIR "/libs/tensorfile/testdata/whole_module.pt"}, 2, "__main__.BDH"},
      {{"model", "export", "first/best", Path("exported")}, 2, "is there already"},
      {{"model", "export", "no/such", Path("none")}, 1, "there is no tag"},
      {{"model", "export", "first/best", Path("none"), "--dtype", "int3"}, 2, "--dtype"},
      {{"model", "show", "no/such"}, 1, "there is no tag"},
      {{"models", "load", Path("absent")}, 1, "is not there"},
      {{"models", "load", Path("spoilt.safetensors")}, 2, "nothing says n_layer"},
  };
  for (const auto& [typed, exit_code, complaint] : cases) {
    const Outcome outcome = mesh_->Do(typed);
    EXPECT_EQ(outcome.exit_code, exit_code) << ::testing::PrintToString(typed) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(complaint)) << ::testing::PrintToString(typed);
  }
  EXPECT_FALSE(fs::exists(Path("none")));
}

}  // namespace
}  // namespace bdh::e2e
