// Words the corpus tests share: text that differs everywhere, and data sets made of it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "bdh/corpus/dataset_builder.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::corpus {

// `size` bytes of every value that look random and depend on `seed`.
inline std::string Noise(size_t size, uint32_t seed = 1) {
  std::string text(size, '\0');
  uint32_t x = seed * 2654435761u + 1;
  for (char& c : text) {
    x = x * 1664525u + 1013904223u;
    c = static_cast<char>(x >> 24);
  }
  return text;
}

inline DatasetBuilder::Options BuilderOptions(const std::string& folder) {
  return {.folder = folder, .name = "test", .tokenizer = tokenizer::Find("byte").value()};
}

inline absl::StatusOr<std::shared_ptr<const Dataset>> Build(const DatasetBuilder::Options& options,
                                                            const std::vector<std::string>& documents,
                                                            size_t piece = 1 << 20) {
  BDH_ASSIGN_OR_RETURN(const auto builder, DatasetBuilder::Create(options));
  for (const std::string& text : documents) {
    BDH_RETURN_IF_ERROR(builder->BeginDocument());
    for (size_t at = 0; at < text.size(); at += piece) {
      BDH_RETURN_IF_ERROR(builder->Append(std::string_view(text).substr(at, piece)));
    }
  }
  BDH_RETURN_IF_ERROR(builder->Finish().status());
  return Dataset::Open(options.folder);
}

inline absl::StatusOr<std::shared_ptr<const Dataset>> Add(DatasetStore& store, const std::string& name,
                                                          const std::vector<std::string>& documents) {
  BDH_ASSIGN_OR_RETURN(const auto import, store.Import({.name = name}));
  for (const std::string& text : documents) {
    BDH_RETURN_IF_ERROR(import->BeginDocument());
    BDH_RETURN_IF_ERROR(import->Append(text));
  }
  return import->Commit();
}

// A split's tokens as stored.
inline std::string Tokens(const Dataset& dataset, Split split) {
  std::string out(static_cast<size_t>(dataset.tokens(split) * dataset.info().token_bytes), '\0');
  dataset.Copy(split, 0, dataset.tokens(split), out.data());
  return out;
}

}  // namespace bdh::corpus
