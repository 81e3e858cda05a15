#include "rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace bdh::config {
namespace {

// A request or an answer is a little larger than the text within.
constexpr int64_t kMessageHeadroom = 4096;

template <class Section>
Rule Make(std::vector<std::string> keys, std::string text,
          std::string (*broken)(const Section& section, const std::string& path),
          Rule::When when = Rule::When::kAll) {
  return {Section::descriptor(), std::move(keys), std::move(text),
          [broken](const Message& message, const std::string& path) {
            return broken(static_cast<const Section&>(message), path);
          },
          when};
}

std::string HeadsDivide(const v1::ModelConfig& model, const std::string& path) {
  const int64_t neurons = int64_t{model.n_embd()} * model.mlp_internal_dim_multiplier();
  const int64_t heads = 2 * int64_t{model.n_head()};
  if (heads <= 0 || neurons % heads == 0) return "";
  return absl::StrFormat(
      "%s is %d and %s is %d, together %d, which is not divisible by 2 * %s = %d; rotary phases act on pairs "
      "of neurons of one head: change %s to a divisor of %d",
      JoinPath(path, "n_embd"), model.n_embd(), JoinPath(path, "mlp_internal_dim_multiplier"),
      model.mlp_internal_dim_multiplier(), neurons, JoinPath(path, "n_head"), heads, JoinPath(path, "n_head"),
      neurons / 2);
}

std::string MinimumBelowPeak(const v1::TrainConfig& train, const std::string& path) {
  if (train.lr_schedule() == "constant" || train.min_learning_rate() <= train.learning_rate()) return "";
  return absl::StrFormat("%s is %s; want at most %s, which is %s", JoinPath(path, "min_learning_rate"),
                         FormatDouble(train.min_learning_rate()), JoinPath(path, "learning_rate"),
                         FormatDouble(train.learning_rate()));
}

std::string WarmUpEnds(const v1::TrainConfig& train, const std::string& path) {
  if (train.lr_schedule() == "constant" || train.warmup_steps() < train.max_steps()) return "";
  return absl::StrFormat("%s is %d; want less than %s, which is %d: warm-up must end before training does",
                         JoinPath(path, "warmup_steps"), train.warmup_steps(), JoinPath(path, "max_steps"),
                         train.max_steps());
}

std::string BodyFitsMessage(const v1::Config& config, const std::string&) {
  const int64_t most = config.mesh().max_message_bytes() - kMessageHeadroom;
  if (config.gateway().max_body_bytes() <= most) return "";
  return absl::StrFormat(
      "gateway.max_body_bytes is %d, so that a body would not fit a message of the mesh "
      "(mesh.max_message_bytes is %d); want at most %d, or set mesh.max_message_bytes to at least %d",
      config.gateway().max_body_bytes(), config.mesh().max_message_bytes(), most,
      config.gateway().max_body_bytes() + kMessageHeadroom);
}

std::string CertificateIsWhole(const v1::TlsConfig& tls, const std::string& path) {
  const std::string cert = JoinPath(path, "cert_file"), key = JoinPath(path, "key_file");
  if (tls.cert_file().empty() != tls.key_file().empty()) {
    const bool no_key = tls.key_file().empty();
    return absl::StrFormat("%s is set and %s is not; a certificate and its key go together",
                           no_key ? cert : key, no_key ? key : cert);
  }
  if (tls.cert_file().empty() || !tls.ca_file().empty()) return "";
  return absl::StrFormat(
      "%s is set and %s is not; set it to the authority that issued the mesh's certificates", cert,
      JoinPath(path, "ca_file"));
}

// Two ports of one daemon. Port 0 is any free one, so never the same.
std::string Differ(const std::string& path, const char* one, const std::string& address, const char* other,
                   const std::string& other_address) {
  if (address.empty() || address != other_address || absl::EndsWith(address, ":0")) return "";
  return absl::StrFormat("%s is %s, as is %s; give each its own port", JoinPath(path, one), address,
                         JoinPath(path, other));
}

template <class Section>
std::string PortsDiffer(const Section& section, const std::string& path) {
  return Differ(path, "admin_listen", section.admin_listen(), "listen", section.listen());
}

template <class Section>
Rule MakePortsDiffer(const std::string& name) {
  return Make<Section>({"admin_listen", "listen"},
                       absl::StrFormat("`%s.admin_listen` and `%s.listen` differ.", name, name),
                       &PortsDiffer<Section>);
}

std::string HttpPortDiffers(const v1::GatewayConfig& gateway, const std::string& path) {
  const std::string problem = Differ(path, "http_listen", gateway.http_listen(), "listen", gateway.listen());
  return problem.empty()
             ? Differ(path, "http_listen", gateway.http_listen(), "admin_listen", gateway.admin_listen())
             : problem;
}

// Whether the message holds a value at "a.b".
bool Has(const Message& message, const std::string& key) {
  const Message* at = &message;
  const FieldDescriptor* field = nullptr;
  for (const absl::string_view part : absl::StrSplit(key, '.')) {
    if (field != nullptr) at = &at->GetReflection()->GetMessage(*at, field);
    field = at->GetDescriptor()->FindFieldByName(std::string(part));
    if (field == nullptr || !at->GetReflection()->HasField(*at, field)) return false;
  }
  return true;
}

bool Applies(const Rule& rule, const Message& message) {
  const auto has = [&](const std::string& key) { return Has(message, key); };
  return rule.when == Rule::When::kAll ? std::all_of(rule.keys.begin(), rule.keys.end(), has)
                                       : std::any_of(rule.keys.begin(), rule.keys.end(), has);
}

}  // namespace

const std::vector<Rule>& Rules() {
  static const std::vector<Rule> kRules{
      Make<v1::ModelConfig>(
          {"n_head", "n_embd", "mlp_internal_dim_multiplier"},
          "`model.n_embd` times `model.mlp_internal_dim_multiplier` is divisible by 2 times `model.n_head`.",
          &HeadsDivide),
      Make<v1::TrainConfig>(
          {"min_learning_rate", "learning_rate", "lr_schedule"},
          "`train.min_learning_rate` is at most `train.learning_rate`, unless `train.lr_schedule` is "
          "constant.",
          &MinimumBelowPeak),
      Make<v1::TrainConfig>(
          {"warmup_steps", "max_steps", "lr_schedule"},
          "`train.warmup_steps` is less than `train.max_steps`, unless `train.lr_schedule` is constant.",
          &WarmUpEnds),
      Make<v1::Config>({"gateway.max_body_bytes", "mesh.max_message_bytes"},
                       "`gateway.max_body_bytes` is at least 4 KiB below `mesh.max_message_bytes`.",
                       &BodyFitsMessage),
      Make<v1::TlsConfig>({"cert_file", "key_file"},
                          "`mesh.tls.cert_file` and `mesh.tls.key_file` are given together, and only with "
                          "`mesh.tls.ca_file`.",
                          &CertificateIsWhole, Rule::When::kAny),
      MakePortsDiffer<v1::DataLoaderConfig>("data_loader"),
      MakePortsDiffer<v1::TrainerWorkerConfig>("trainer_worker"),
      MakePortsDiffer<v1::CheckpointStoreConfig>("checkpoint_store"),
      MakePortsDiffer<v1::InferenceConfig>("inference"),
      MakePortsDiffer<v1::GatewayConfig>("gateway"),
      Make<v1::GatewayConfig>(
          {"http_listen", "listen", "admin_listen"},
          "`gateway.http_listen` differs from `gateway.listen` and `gateway.admin_listen`.",
          &HttpPortDiffers),
  };
  return kRules;
}

void CheckRules(const Message& message, const std::string& path,
                const std::function<bool(const Rule&, const std::string& path)>& ask,
                const std::function<void(const std::string&, const Rule&, const std::string& path)>& found) {
  const Descriptor& type = *message.GetDescriptor();
  for (const Rule& rule : Rules()) {
    if (rule.section != &type || !Applies(rule, message) || !ask(rule, path)) continue;
    if (const std::string problem = rule.broken(message, path); !problem.empty()) found(problem, rule, path);
  }
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (IsSection(field) && message.GetReflection()->HasField(message, &field)) {
      CheckRules(message.GetReflection()->GetMessage(message, &field), JoinPath(path, field.name()), ask,
                 found);
    }
  }
}

}  // namespace bdh::config
