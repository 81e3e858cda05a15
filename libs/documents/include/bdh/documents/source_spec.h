// A named data source as a file: configs/data/*.yaml, of which the well-known sets are built in.
//
//   name: tinystories
//   description: Short stories in simple English, made by GPT-3.5 and GPT-4.
//   license: cdla-sharing-1.0
//   source: hf://datasets/roneneldan/TinyStories      # or sources: [...]
//   split: train
//   column: text
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/documents/options.h"

namespace bdh::documents {

struct SourceSpec {
  std::string name;
  std::string description;
  std::string license;
  std::string size;  // In words, for people: what is downloaded.
  // hf://datasets/NAME[/CONFIG][@REVISION], https:// of one file, or absolute paths.
  std::vector<std::string> sources;
  std::string split;  // Of a data set on the hub: "train". Empty: train.
  Options
      options;  // From the keys format, column, score_column, split_text, separator, utf8, nfc, dedupe, ...
};

// InvalidArgumentError: "tinystories.yaml:3: colum: unknown key; ...".
absl::StatusOr<SourceSpec> ParseSourceSpec(std::string_view yaml, std::string_view origin);

// The well-known sets, by name.
const std::vector<SourceSpec>& WellKnownSources();

// NotFoundError lists those there are.
absl::StatusOr<SourceSpec> FindWellKnownSource(std::string_view name);

}  // namespace bdh::documents
