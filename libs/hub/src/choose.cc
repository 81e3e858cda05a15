#include "choose.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/status_macros.h"

namespace bdh::hub {
namespace {

constexpr size_t kReadmeBytesMax = size_t{4} << 20;
constexpr size_t kConfigsMax = 10'000;

using Patterns = std::map<std::string, std::vector<std::string>>;  // By split.

struct Config {
  std::string name;
  bool is_default = false;
  Patterns splits;
};

// * and ? within a name, ** any number of folders. In time of their product, whatever is in them.
bool Matches(std::string_view pattern, std::string_view path) {
  std::vector<bool> here(path.size() + 1, false);  // Where in the path what was read of the pattern may end.
  here[0] = true;
  for (size_t p = 0; p < pattern.size(); ++p) {
    std::vector<bool> next(path.size() + 1, false);
    const bool deep = pattern.substr(p, 2) == "**";
    const bool folders = pattern.substr(p, 3) == "**/";
    bool open = false;
    for (size_t s = 0; s <= path.size(); ++s) {
      const bool folder_begins = s == 0 || path[s - 1] == '/';
      if (folders) {
        open = open || (here[s] && folder_begins);
        next[s] = open && folder_begins;
      } else if (deep) {
        next[s] = open = open || here[s];
      } else if (pattern[p] == '*') {
        if (s > 0 && path[s - 1] == '/') open = false;
        next[s] = open = open || here[s];
      } else if (s > 0) {
        next[s] = here[s - 1] && (pattern[p] == path[s - 1] || (pattern[p] == '?' && path[s - 1] != '/'));
      }
    }
    p += folders ? 2 : deep ? 1 : 0;
    here = std::move(next);
  }
  return here[path.size()];
}

bool IsDataFile(std::string_view path) {
  std::string lower = absl::AsciiStrToLower(absl::string_view(path.data(), path.size()));
  for (const char* const packed : {".gz", ".zst"}) {
    if (absl::EndsWith(lower, packed)) lower.resize(lower.rfind('.'));
  }
  for (const char* const ending : {".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt"}) {
    if (absl::EndsWith(lower, ending)) return true;
  }
  return false;
}

// Configuration of the repository itself, and what is hidden, is no data.
bool IsHidden(std::string_view path) {
  for (size_t at = 0; at != std::string_view::npos; at = path.find('/', at)) {
    if (at > 0) ++at;
    if (path.substr(at, 1) == "." || path.substr(at, 2) == "__") return true;
  }
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name == "dataset_infos.json" || name == "dataset_info.json" || name == "state.json" ||
         name == "config.json";
}

std::vector<std::string> Strings(const YAML::Node& node) {
  std::vector<std::string> out;
  if (node.IsScalar()) out.push_back(node.as<std::string>());
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) {
      if (item.IsScalar()) out.push_back(item.as<std::string>());
    }
  }
  return out;
}

Config ReadConfig(const YAML::Node& node) {
  Config config;
  config.name = node["config_name"] ? node["config_name"].as<std::string>() : "default";
  config.is_default = config.name == "default" || (node["default"] && node["default"].as<bool>(false));
  const std::string folder = node["data_dir"] ? node["data_dir"].as<std::string>() + "/" : "";
  const YAML::Node data = node["data_files"];
  const auto add = [&](const std::string& split, const YAML::Node& paths) {
    for (const std::string& path : Strings(paths)) config.splits[split].push_back(folder + path);
  };
  if (data && data.IsSequence() && data.size() > 0 && data[0].IsMap()) {
    for (const YAML::Node& item : data) {
      if (item["path"]) add(item["split"] ? item["split"].as<std::string>() : "train", item["path"]);
    }
  } else if (data && data.IsMap()) {
    for (const auto& item : data) add(item.first.as<std::string>(), item.second);
  } else if (data) {
    add("train", data);
  } else if (!folder.empty()) {
    config.splits["train"].push_back(folder + "**");
  }
  return config;
}

// What is between the two lines of --- at the beginning.
std::string_view HeadOf(std::string_view readme) {
  if (readme.substr(0, 3) != "---") return {};
  const size_t end = readme.find("\n---", 3);
  return end == std::string_view::npos ? std::string_view() : readme.substr(3, end - 2);
}

absl::StatusOr<std::vector<Config>> ReadConfigs(std::string_view readme) {
  std::vector<Config> configs;
  if (readme.size() > kReadmeBytesMax) return configs;
  try {
    const YAML::Node head = YAML::Load(std::string(HeadOf(readme)));
    if (!head.IsMap() || !head["configs"] || !head["configs"].IsSequence()) return configs;
    for (const YAML::Node& node : head["configs"]) {
      if (node.IsMap() && configs.size() < kConfigsMax) configs.push_back(ReadConfig(node));
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the head of its README.md is no YAML (%s); name a file of it by https:// instead", error.what()));
  }
  return configs;
}

template <class Names>
std::string List(const Names& names) {
  constexpr size_t kShown = 50;
  std::vector<std::string> shown(names.begin(), std::next(names.begin(), std::min(names.size(), kShown)));
  if (names.size() > kShown) shown.push_back("...");
  return absl::StrJoin(shown, ", ");
}

absl::StatusOr<const Config*> FindConfig(const std::vector<Config>& configs, std::string_view wanted) {
  std::set<std::string> names;
  for (const Config& config : configs) {
    names.insert(config.name);
    if (config.name == wanted || (wanted.empty() && (config.is_default || configs.size() == 1)))
      return &config;
  }
  return absl::NotFoundError(absl::StrFormat(
      "%s; it has %s: write hf://datasets/OWNER/NAME/CONFIG",
      wanted.empty() ? "it has no default config" : absl::StrFormat("it has no config '%s'", wanted),
      List(names)));
}

// "train", "validation", "test" or nothing, by the words of a name.
std::string SplitOfName(std::string_view name) {
  static const std::map<std::string, std::string, std::less<>> kWords = {
      {"train", "train"},      {"training", "train"}, {"validation", "validation"},
      {"valid", "validation"}, {"dev", "validation"}, {"val", "validation"},
      {"test", "test"},        {"testing", "test"},   {"eval", "test"},
      {"evaluation", "test"}};
  std::string found, word;
  for (size_t i = 0; i <= name.size(); ++i) {
    if (i < name.size() && absl::ascii_isalpha(static_cast<unsigned char>(name[i]))) {
      word += absl::ascii_tolower(static_cast<unsigned char>(name[i]));
      continue;
    }
    if (const auto split = kWords.find(word); split != kWords.end()) found = split->second;
    word.clear();
  }
  return found;
}

// As the hub's library goes on: by the names of files, else by those of folders, else all is for training.
std::map<std::string, std::vector<RemoteFile>> SplitByNames(const std::vector<RemoteFile>& files) {
  for (const bool by_file : {true, false}) {
    std::map<std::string, std::vector<RemoteFile>> splits;
    for (const RemoteFile& file : files) {
      const size_t slash = file.path.rfind('/');
      const size_t cut = slash == std::string::npos ? 0 : slash + 1;
      const std::string split = SplitOfName(by_file ? file.path.substr(cut) : file.path.substr(0, cut));
      if (!split.empty()) splits[split].push_back(file);
    }
    if (!splits.empty()) return splits;
  }
  return {{"train", files}};
}

// A repository may hold the same text as parquet and as text: the kind of which there is most counts.
void KeepCommonKind(std::vector<RemoteFile>& files) {
  const auto kind = [](const RemoteFile& file) {
    std::string_view path = file.path;
    for (const std::string_view packed : {".gz", ".zst"}) {
      if (path.size() > packed.size() && path.substr(path.size() - packed.size()) == packed)
        path.remove_suffix(packed.size());
    }
    return std::string(path.substr(std::min(path.rfind('.'), path.size())));
  };
  std::map<std::string, int> counts;
  for (const RemoteFile& file : files) ++counts[kind(file)];
  if (counts.size() <= 1) return;
  const auto most = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second, a.first == ".parquet") < std::pair(b.second, b.first == ".parquet");
  });
  files.erase(std::remove_if(files.begin(), files.end(),
                             [&](const RemoteFile& file) { return kind(file) != most->first; }),
              files.end());
}

absl::Status NoSplit(std::string_view split, const std::string& there) {
  return absl::NotFoundError(
      absl::StrFormat("it has no split '%s'; it has %s", split, there.empty() ? "none" : there));
}

template <class Map>
std::set<std::string> Keys(const Map& map) {
  std::set<std::string> keys;
  for (const auto& [key, value] : map) keys.insert(key);
  return keys;
}

}  // namespace

absl::StatusOr<std::vector<RemoteFile>> ChooseDataFiles(const std::vector<RemoteFile>& files,
                                                        std::string_view readme, std::string_view config,
                                                        std::string_view split) {
  if (split.empty()) split = "train";
  std::vector<RemoteFile> data;
  for (const RemoteFile& file : files) {
    if (IsDataFile(file.path) && !IsHidden(file.path)) data.push_back(file);
  }
  BDH_ASSIGN_OR_RETURN(const std::vector<Config> configs, ReadConfigs(readme));
  const bool described =
      std::any_of(configs.begin(), configs.end(), [](const Config& c) { return !c.splits.empty(); });
  std::vector<RemoteFile> chosen;
  if (described) {
    BDH_ASSIGN_OR_RETURN(const Config* const found, FindConfig(configs, config));
    const auto patterns = found->splits.find(std::string(split));
    if (patterns == found->splits.end()) return NoSplit(split, List(Keys(found->splits)));
    for (const RemoteFile& file : data) {
      const auto fits = [&](const std::string& pattern) { return Matches(pattern, file.path); };
      if (std::any_of(patterns->second.begin(), patterns->second.end(), fits)) chosen.push_back(file);
    }
  } else {
    if (!config.empty() && config != "default") {
      // Without a description a config is a folder.
      const std::string folder = std::string(config) + "/";
      data.erase(std::remove_if(
                     data.begin(), data.end(),
                     [&](const RemoteFile& file) { return file.path.substr(0, folder.size()) != folder; }),
                 data.end());
      if (data.empty())
        return absl::NotFoundError(absl::StrFormat("it has no config and no folder '%s'", config));
    }
    auto splits = SplitByNames(data);
    const auto found = splits.find(std::string(split));
    if (found == splits.end()) return NoSplit(split, List(Keys(splits)));
    chosen = std::move(found->second);
  }
  KeepCommonKind(chosen);
  if (!chosen.empty()) return chosen;
  return absl::NotFoundError(
      absl::StrFormat("split '%s' has no file that is read here: .parquet, .jsonl, .json, .csv, .tsv or "
                      ".txt, alone or with .gz or .zst",
                      split));
}

absl::StatusOr<std::vector<RemoteFile>> ChooseModelFiles(const std::vector<RemoteFile>& files) {
  const auto is_any = [](std::string_view path, std::initializer_list<const char*> patterns) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const char* pattern) { return Matches(pattern, path); });
  };
  std::vector<RemoteFile> chosen, others;
  bool weights = false;
  for (const RemoteFile& file : files) {
    if (is_any(file.path, {"*.safetensors", "*.safetensors.index.json"})) {
      chosen.push_back(file);
      weights = true;
    } else if (is_any(file.path,
                      {"config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json",
                       "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.jinja", "README.md"})) {
      chosen.push_back(file);
    } else if (is_any(file.path, {"*.pt", "*.pth", "pytorch_model*.bin"})) {
      others.push_back(file);
    }
  }
  if (!weights) chosen.insert(chosen.end(), others.begin(), others.end());
  if (!weights && others.empty()) {
    return absl::NotFoundError(
        "it has no weights that are read here: *.safetensors, *.pt, *.pth or pytorch_model*.bin");
  }
  std::sort(chosen.begin(), chosen.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return chosen;
}

}  // namespace bdh::hub
