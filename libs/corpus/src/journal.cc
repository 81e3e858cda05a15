#include "journal.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace bdh::corpus {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const ShardSummary& summary) {
  return {{"elements", summary.elements}, {"size_bytes", summary.size_bytes}, {"sha256", summary.sha256}};
}

ShardSummary SummaryFrom(const Json& json) {
  return {json.at("elements").get<int64_t>(), json.at("size_bytes").get<int64_t>(),
          json.at("sha256").get<std::string>()};
}

Json ToJson(const NumberedShards::State& state) {
  Json files = Json::array();
  for (const auto& file : state.files)
    files.push_back({{"name", file.name}, {"summary", ToJson(file.summary)}});
  return {{"files", files}, {"open", ToJson(state.open)}};
}

NumberedShards::State StateFrom(const Json& json) {
  NumberedShards::State state;
  for (const Json& file : json.at("files")) {
    state.files.push_back({file.at("name").get<std::string>(), SummaryFrom(file.at("summary"))});
  }
  state.open = SummaryFrom(json.at("open"));
  return state;
}

}  // namespace

std::string JournalToJson(const Journal& journal) {
  Json pending = Json::array();
  for (const auto& document : journal.pending) {
    pending.push_back({document.tokens, document.hash, document.score});
  }
  return Json({{"format", "bdh-dataset-journal 1"},
               {"fingerprint", journal.fingerprint},
               {"pieces", journal.pieces},
               {"digest", journal.digest},
               {"tokens", journal.tokens},
               {"documents", journal.documents},
               {"open_tokens", journal.open_tokens},
               {"pending", pending},
               {"rule", journal.rule},
               {"waiting_bytes", journal.waiting_bytes},
               {"train", ToJson(journal.train)},
               {"validation", ToJson(journal.validation)},
               {"index", ToJson(journal.index)},
               {"scores", ToJson(journal.scores)}})
      .dump();
}

absl::StatusOr<Journal> JournalFromJson(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Journal journal;
  try {  // nlohmann's typed access throws.
    journal.fingerprint = json.at("fingerprint").get<std::string>();
    journal.pieces = json.at("pieces").get<int64_t>();
    journal.digest = json.at("digest").get<std::string>();
    journal.tokens = json.at("tokens").get<int64_t>();
    journal.documents = json.at("documents").get<int64_t>();
    journal.open_tokens = json.at("open_tokens").get<int64_t>();
    for (const Json& document : json.at("pending")) {
      journal.pending.push_back({document.at(0).get<int64_t>(), document.at(1).get<uint64_t>(),
                                 document.at(2).is_null() ? std::numeric_limits<double>::infinity()
                                                          : document.at(2).get<double>()});
    }
    journal.rule = json.at("rule").get<int>();
    journal.waiting_bytes = json.at("waiting_bytes").get<int64_t>();
    journal.train = StateFrom(json.at("train"));
    journal.validation = StateFrom(json.at("validation"));
    journal.index = StateFrom(json.at("index"));
    journal.scores = StateFrom(json.at("scores"));
  } catch (const Json::exception& e) {
    return absl::DataLossError(absl::StrFormat("does not read: %s", e.what()));
  }
  return journal;
}

}  // namespace bdh::corpus
