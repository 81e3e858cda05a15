#include "model_card.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "bdh/base/text.h"
#include "bdh/base/version.h"

namespace bdh::pretrained {
namespace {

// In a table or a heading: names may come from anywhere.
std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  return absl::StrReplaceAll(line, {{"|", "\\|"}, {"<", "&lt;"}});
}

void Row(std::string& card, std::string_view name, std::string_view value) {
  if (!value.empty()) absl::StrAppendFormat(&card, "| %s | %s |\n", name, OneLine(value));
}

constexpr char kTable[] = "| | |\n|---|---|\n";

void AppendModel(const Description& description, SavedType dtype, std::string& card) {
  const spec::ModelConfig& config = description.config;
  absl::StrAppendFormat(&card, "## Model\n\n%s", kTable);
  Row(card, "architecture", "BDH, as the reference `bdh.py` defines it");
  Row(card, "parameters", absl::StrFormat("%d", spec::ParameterCount(config)));
  Row(card, "n_layer", absl::StrFormat("%d passes over one set of weights", config.n_layer));
  Row(card, "n_embd", std::to_string(config.n_embd));
  Row(card, "n_head", std::to_string(config.n_head));
  Row(card, "mlp_internal_dim_multiplier", std::to_string(config.mlp_internal_dim_multiplier));
  Row(card, "neurons", absl::StrFormat("%d, %d a head", config.neurons(), config.neurons_per_head()));
  Row(card, "vocab_size", std::to_string(config.vocab_size));
  Row(card, "dropout", absl::StrFormat("%g", config.dropout));
  Row(card, "tokenizer", description.tokenizer);
  Row(card, "weights", dtype == SavedType::kBf16 ? "bfloat16 (attn.freqs: float32)" : "float32");
}

void AppendTraining(const TrainingRecord& record, std::string& card) {
  absl::StrAppendFormat(&card, "\n## Training\n\n");
  if (record.checkpoint.empty() && record.dataset.empty() && record.step == 0) {
    card += "Nothing is known of it.\n";
    return;
  }
  card += kTable;
  Row(card, "checkpoint", record.checkpoint);
  Row(card, "data set", record.dataset);
  Row(card, "data set's hash", record.dataset_hash);
  Row(card, "steps", std::to_string(record.step));
  if (record.tokens_seen > 0) Row(card, "tokens seen", std::to_string(record.tokens_seen));
  if (record.train_loss) Row(card, "training loss", absl::StrFormat("%.4f nats a token", *record.train_loss));
  if (record.validation_loss) {
    Row(card, "validation loss", absl::StrFormat("%.4f nats a token", *record.validation_loss));
  }
  Row(card, "trained by", record.software_version.empty() ? "" : "bdh " + record.software_version);
  if (record.config_yaml.empty()) return;
  absl::StrAppendFormat(&card, "\nConfiguration of the run:\n\n~~~yaml\n%s%s~~~\n", record.config_yaml,
                        record.config_yaml.ends_with('\n') ? "" : "\n");
}

void AppendUse(const Description& description, std::string& card) {
  const spec::ModelConfig& config = description.config;
  absl::StrAppendFormat(
      &card,
      "\n## Use\n\n"
      "With bdh, whose gateway then answers any OpenAI client:\n\n"
      "```\n"
      "bdhctl model import . --name my-model\n"
      "bdhctl models load my-model\n"
      "bdhctl generate --model my-model \"Once upon a time\"\n"
      "```\n\n"
      "With the reference in PyTorch; names and shapes are its own:\n\n"
      "```python\n"
      "import bdh, safetensors.torch\n"
      "model = bdh.BDH(bdh.BDHConfig(n_layer=%d, n_embd=%d, n_head=%d, mlp_internal_dim_multiplier=%d, "
      "vocab_size=%d))\n"
      "model.load_state_dict(safetensors.torch.load_file(\"model.safetensors\"))\n"
      "```\n\n"
      "A base model goes on with a text; it was not taught to follow instructions. Beyond the length of the "
      "blocks it was\ntrained on, its text loses its way.\n\n"
      "Written by bdh %s.\n",
      config.n_layer, config.n_embd, config.n_head, config.mlp_internal_dim_multiplier, config.vocab_size,
      Version());
}

}  // namespace

std::string ModelCard(const Description& description, SavedType dtype) {
  std::string card =
      "---\nlibrary_name: bdh\npipeline_tag: text-generation\ntags:\n- bdh\n- dragon-hatchling\n---\n\n";
  absl::StrAppendFormat(&card, "# %s\n\nA Baby Dragon Hatchling (BDH) language model with %s parameters.\n\n",
                        OneLine(description.title),
                        FormatCount(static_cast<uint64_t>(spec::ParameterCount(description.config))));
  AppendModel(description, dtype, card);
  AppendTraining(description.record, card);
  AppendUse(description, card);
  return card;
}

}  // namespace bdh::pretrained
