// A model carries its tokenizer: one is trained, a data set is made with it, a model is trained on that and
// served, and text streams out of it; the checkpoint alone is enough, also for another mesh that never saw
// the tokenizer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/testing/temp_directory.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kPrompt[] = "the river runs over";

std::string SomeText() {
  std::string text;
  while (text.size() < 60'000)
    text += "the river runs over old stones and sings to the trees. Caf\xC3\xA9 na\xC3\xAFve!\n";
  return text;
}

class TokenizerE2E : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  static std::string Generate(const MeshDriver& mesh) {
    return mesh.OkJson({"generate", "--model", "m", kPrompt, "--max-tokens", "12", "--temperature", "0"})
        .value("text", "(no text)");
  }

  // The text of a completion that comes as events.
  static std::string Streamed(const std::string& url) {
    const auto response = Post(
        url + "/v1/completions",
        Json({{"model", "m"}, {"prompt", kPrompt}, {"max_tokens", 12}, {"temperature", 0}, {"stream", true}})
            .dump());
    EXPECT_TRUE(response.ok()) << response.status();
    std::string text;
    if (!response.ok()) return text;
    for (const std::string& event : Events(response->body)) {
      if (event != "[DONE]") text += Json::parse(event).at("choices").at(0).value("text", "");
    }
    return text;
  }

  const TempDirectory folder_;
};

TEST_F(TokenizerE2E, GoesWithTheModelFromTrainingToAnotherMesh) {
  std::string said;
  {
    const MeshDriver mesh(Path("one"));
    const Outcome up = mesh.Up({"--json"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    mesh.Ok({"tokenizer", "train", "words", "-", "--vocab-size", "320"}, SomeText());
    const Json dataset = mesh.OkJson({"data", "add", "rivers", "-", "--tokenizer", "words"}, SomeText());
    EXPECT_EQ(dataset.value("tokenizer", ""), "words");
    EXPECT_LT(dataset.at("train_tokens").get<size_t>(), SomeText().size() / 3)
        << "a token is more than a byte";
    std::ofstream(Path("tiny.yaml"))
        << "model: {n_layer: 2, n_embd: 32, n_head: 2, mlp_internal_dim_multiplier: 8}\n"
           "train: {max_steps: 40, batch_size: 8, block_size: 32, eval_interval: 20}\n";
    mesh.Ok({"train", "start", "--dataset", "rivers", "--config", Path("tiny.yaml"), "--name", "first",
             "--watch"});
    mesh.Ok({"models", "load", "first/best", "--id", "m"});
    said = Generate(mesh);
    EXPECT_GT(said.size(), 12u) << "more than a byte a token";
    EXPECT_EQ(Streamed(Json::parse(up.out).at("url").get<std::string>()), said);
    // Taken up again: what a trainer restores has no place for a tokenizer.
    mesh.Ok({"train", "start", "--name", "first", "--resume", "--set", "train.max_steps=42", "--watch"});
    mesh.Ok({"model", "export", "runs/first/steps/40", Path("exported")});
  }
  EXPECT_TRUE(fs::exists(Path("exported/tokenizer.json")));
  const MeshDriver other(Path("two"));
  ASSERT_EQ(other.Up().exit_code, 0);
  other.Ok({"model", "import", Path("exported"), "--name", "copy"});
  EXPECT_THAT(other.Ok({"model", "show", "copy"}), HasSubstr("words"));
  other.Ok({"models", "load", "copy", "--id", "m"});
  EXPECT_EQ(Generate(other), said);
}

TEST_F(TokenizerE2E, TheBenchmarkOfDataPrintsAllItsFigures) {
  const MeshDriver mesh(Path("bench"));
  ASSERT_EQ(mesh.Up().exit_code, 0);
  const Json figures =
      mesh.OkJson({"bench", "data", "--megabytes", "1", "--vocab-size", "600", "--train-vocab-size", "400",
                   "--rounds", "2", "--seconds", "0.2", "--python", Path("no-python")});
  EXPECT_THAT(figures.value("hugging_face", ""), HasSubstr("not measured: run"));
  for (const char* figure :
       {"train_seconds", "encode_megabytes_per_second", "threads_encode_megabytes_per_second",
        "processes_encode_megabytes_per_second", "threads_ratio_to_processes", "shards_megabytes_per_second",
        "shards_ratio_to_threads", "stream_tokens_per_second_1_client",
        "stream_tokens_per_second_2_clients"}) {
    EXPECT_GT(figures.value(figure, 0.0), 0) << figure;
  }
  EXPECT_GE(figures.value("waiting_share_at_1m_tokens_per_second", -1.0), 0);
  EXPECT_LT(figures.value("text_ascii_share", 1.0), 0.7);
  // Nothing of it stays.
  EXPECT_EQ(mesh.OkJson({"data", "ls"}).dump().find("bdhctl-bench"), std::string::npos);
}

}  // namespace
}  // namespace bdh::e2e
