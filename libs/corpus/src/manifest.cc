#include "manifest.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "shard.h"

namespace bdh::corpus {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "bdh-dataset";
// 1 is release 0.1.
constexpr int kVersion = 2;

absl::Status Damaged(const std::string& path, std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("%s %s; restore the file, or delete the data set and add its text again", path, what));
}

Json ShardToJson(const ShardInfo& shard) {
  return {{"file", shard.file},
          {"split", SplitName(shard.split)},
          {"tokens", shard.tokens},
          {"size_bytes", shard.size_bytes},
          {"sha256", shard.sha256}};
}

// Throws nlohmann's exceptions on a missing key or another type.
ShardInfo ShardFromJson(const Json& json) {
  ShardInfo shard;
  shard.file = json.at("file").get<std::string>();
  shard.split =
      json.at("split").get<std::string>() == SplitName(Split::kTrain) ? Split::kTrain : Split::kValidation;
  shard.tokens = json.at("tokens").get<int64_t>();
  shard.size_bytes = json.at("size_bytes").get<int64_t>();
  shard.sha256 = json.at("sha256").get<std::string>();
  return shard;
}

std::string_view RuleName(SplitRule rule) {
  return rule == SplitRule::kDocument ? "document" : rule == SplitRule::kTail ? "tail" : "auto";
}

SplitRule RuleFromName(const std::string& name) {
  return name == "document" ? SplitRule::kDocument : name == "tail" ? SplitRule::kTail : SplitRule::kAuto;
}

Json ReportToJson(const Report& report) {
  Json dropped = Json::array(), sources = Json::array();
  for (const auto& drop : report.dropped) {
    dropped.push_back({{"reason", drop.reason}, {"documents", drop.documents}, {"bytes", drop.bytes}});
  }
  for (const auto& source : report.sources) {
    sources.push_back({{"name", source.name}, {"documents", source.documents}});
  }
  return {{"documents_in", report.documents_in},
          {"bytes_in", report.bytes_in},
          {"dropped", dropped},
          {"sources", sources}};
}

Report ReportFromJson(const Json& json) {
  Report report;
  report.documents_in = json.at("documents_in").get<int64_t>();
  report.bytes_in = json.at("bytes_in").get<int64_t>();
  for (const Json& drop : json.at("dropped")) {
    report.dropped.push_back({drop.at("reason").get<std::string>(), drop.at("documents").get<int64_t>(),
                              drop.at("bytes").get<int64_t>()});
  }
  for (const Json& source : json.at("sources")) {
    report.sources.push_back({source.at("name").get<std::string>(), source.at("documents").get<int64_t>()});
  }
  return report;
}

// What release 0.1 did not have.
void ReadVersion2(const Json& json, DatasetInfo& info, absl::Status& status) {
  info.tokenizer_hash = json.at("tokenizer_hash").get<std::string>();
  info.split_rule = RuleFromName(json.at("split_rule").get<std::string>());
  info.end_of_text = json.at("end_of_text").get<bool>();
  const auto order = ParseOrder(json.at("order").get<std::string>());
  status = order.status();
  info.order = order.value_or(Order::kRandom);
  info.streaming = json.at("streaming").get<bool>();
  info.scored = json.at("scored").get<bool>();
  info.scores_sha256 = json.at("scores_sha256").get<std::string>();
  for (const Json& part : json.at("parts")) {
    info.parts.push_back({part.at("dataset").get<std::string>(), part.at("hash").get<std::string>(),
                          part.at("weight").get<double>()});
  }
  info.report = ReportFromJson(json.at("report"));
}

DatasetInfo InfoFromJson(const Json& json) {
  DatasetInfo info;
  info.name = json.at("name").get<std::string>();
  info.hash = json.at("hash").get<std::string>();
  info.tokenizer = json.at("tokenizer").get<std::string>();
  info.vocab_size = json.at("vocab_size").get<int>();
  info.token_bytes = json.at("token_bytes").get<int>();
  info.validation_fraction = json.at("validation_fraction").get<double>();
  info.documents = json.at("documents").get<int64_t>();
  info.bytes_in = json.at("bytes_in").get<int64_t>();
  info.train_tokens = json.at("train_tokens").get<int64_t>();
  info.validation_tokens = json.at("validation_tokens").get<int64_t>();
  info.create_time = absl::FromUnixMillis(json.at("create_time_unix_ms").get<int64_t>());
  info.sample = absl::HexStringToBytes(json.at("sample_hex").get<std::string>());
  info.index_sha256 = json.at("index_sha256").get<std::string>();
  for (const Json& shard : json.at("shards")) info.shards.push_back(ShardFromJson(shard));
  return info;
}

absl::Status CheckShards(const DatasetInfo& info, const std::string& path) {
  int64_t train = 0, validation = 0;
  for (const ShardInfo& shard : info.shards) {
    if (!IsResourceName(shard.file)) return Damaged(path, absl::StrFormat("names a file '%s'", shard.file));
    // Bounded before the products below, which must not overflow.
    if (shard.tokens <= 0 || shard.tokens > (int64_t{1} << 40) ||
        shard.size_bytes != kShardHeaderBytes + shard.tokens * info.token_bytes) {
      return Damaged(path, absl::StrFormat("gives %s a size that cannot be", shard.file));
    }
    (shard.split == Split::kTrain ? train : validation) += shard.tokens;
  }
  if (train != info.train_tokens || validation != info.validation_tokens) {
    return Damaged(path, "lists shards that do not add up to its token counts");
  }
  return absl::OkStatus();
}

absl::Status Check(const DatasetInfo& info, const std::string& path) {
  if (!IsResourceName(info.name)) return Damaged(path, "holds a bad name");
  if (info.token_bytes != 1 && info.token_bytes != 2 && info.token_bytes != 4) {
    return Damaged(path, absl::StrFormat("says %d bytes a token", info.token_bytes));
  }
  if (!info.parts.empty()) {
    if (info.vocab_size < 1 || info.hash.size() != 64 || !info.shards.empty()) {
      return Damaged(path, "holds numbers that cannot be");
    }
    return absl::OkStatus();
  }
  if (info.documents < 1 || info.documents > (int64_t{1} << 40) || info.vocab_size < 1 ||
      info.hash.size() != 64) {
    return Damaged(path, "holds numbers that cannot be");
  }
  if (info.index_sha256.empty() || info.scored == info.scores_sha256.empty()) {
    return Damaged(path, "lacks a checksum");
  }
  return CheckShards(info, path);
}

}  // namespace

std::string ManifestToJson(const DatasetInfo& info) {
  Json shards = Json::array();
  for (const ShardInfo& shard : info.shards) shards.push_back(ShardToJson(shard));
  Json parts = Json::array();
  for (const auto& part : info.parts) {
    parts.push_back({{"dataset", part.dataset}, {"hash", part.hash}, {"weight", part.weight}});
  }
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"name", info.name},
                     {"hash", info.hash},
                     {"tokenizer", info.tokenizer},
                     {"tokenizer_hash", info.tokenizer_hash},
                     {"vocab_size", info.vocab_size},
                     {"token_bytes", info.token_bytes},
                     {"validation_fraction", info.validation_fraction},
                     {"split_rule", RuleName(info.split_rule)},
                     {"end_of_text", info.end_of_text},
                     {"order", OrderName(info.order)},
                     {"streaming", info.streaming},
                     {"scored", info.scored},
                     {"documents", info.documents},
                     {"bytes_in", info.bytes_in},
                     {"train_tokens", info.train_tokens},
                     {"validation_tokens", info.validation_tokens},
                     {"create_time_unix_ms", absl::ToUnixMillis(info.create_time)},
                     {"sample_hex", absl::BytesToHexString(info.sample)},
                     {"index_sha256", info.index_sha256},
                     {"scores_sha256", info.scores_sha256},
                     {"parts", parts},
                     {"report", ReportToJson(info.report)},
                     {"shards", shards}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";  // Names may be any bytes.
}

absl::StatusOr<DatasetInfo> ManifestFromJson(std::string_view text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("format", Json()) != kFormat) {
    return Damaged(path, "is not the manifest of a data set");
  }
  DatasetInfo info;
  try {  // The one place that throws: nlohmann's typed access.
    if (const int version = json.at("version").get<int>(); version > kVersion) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s has format %d, this release reads up to %d: use the release that wrote it, or newer", path,
          version, kVersion));
    }
    info = InfoFromJson(json);
    absl::Status order;
    if (json.at("version").get<int>() >= 2) ReadVersion2(json, info, order);
    if (!order.ok()) return Damaged(path, absl::StrFormat("does not read: %s", order.message()));
  } catch (const Json::exception& e) {
    return Damaged(path, absl::StrFormat("does not read: %s", e.what()));
  }
  BDH_RETURN_IF_ERROR(Check(info, path));
  return info;
}

}  // namespace bdh::corpus
