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
constexpr int kVersion = 1;

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
  if (info.documents < 1 || info.documents > (int64_t{1} << 40) || info.vocab_size < 1 ||
      info.hash.size() != 64) {
    return Damaged(path, "holds numbers that cannot be");
  }
  return CheckShards(info, path);
}

}  // namespace

std::string ManifestToJson(const DatasetInfo& info) {
  Json shards = Json::array();
  for (const ShardInfo& shard : info.shards) shards.push_back(ShardToJson(shard));
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"name", info.name},
                     {"hash", info.hash},
                     {"tokenizer", info.tokenizer},
                     {"vocab_size", info.vocab_size},
                     {"token_bytes", info.token_bytes},
                     {"validation_fraction", info.validation_fraction},
                     {"documents", info.documents},
                     {"bytes_in", info.bytes_in},
                     {"train_tokens", info.train_tokens},
                     {"validation_tokens", info.validation_tokens},
                     {"create_time_unix_ms", absl::ToUnixMillis(info.create_time)},
                     {"sample_hex", absl::BytesToHexString(info.sample)},
                     {"index_sha256", info.index_sha256},
                     {"shards", shards}};
  return json.dump(2) + "\n";
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
  } catch (const Json::exception& e) {
    return Damaged(path, absl::StrFormat("does not read: %s", e.what()));
  }
  BDH_RETURN_IF_ERROR(Check(info, path));
  return info;
}

}  // namespace bdh::corpus
