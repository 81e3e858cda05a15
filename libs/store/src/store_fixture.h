// The vocabulary of the store's tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/store/store.h"

namespace bdh::store {

// A checkpoint with its bytes, tensor by tensor.
struct Content {
  Checkpoint checkpoint;
  std::vector<std::string> bytes;

  void Add(std::string name, DType dtype, std::vector<int64_t> shape, std::string data) {
    checkpoint.tensors.push_back({.name = std::move(name),
                                  .dtype = dtype,
                                  .shape = std::move(shape),
                                  .size_bytes = static_cast<int64_t>(data.size())});
    bytes.push_back(std::move(data));
  }
  void AddBytes(std::string name, std::string data) {
    const auto size = static_cast<int64_t>(data.size());
    Add(std::move(name), DType::kU8, {size}, std::move(data));
  }
};

// Bytes that no other seed has.
inline std::string RandomBytes(uint64_t seed, size_t size) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// A tensor of many chunks, one that other seeds of the same `seed / 4` share, an empty one and a scalar.
inline Content SomeContent(std::string name, uint64_t seed, size_t size = 300'000) {
  Content content;
  content.checkpoint.name = std::move(name);
  content.checkpoint.facts = absl::StrFormat("facts %d", seed);
  content.checkpoint.provenance = "somebody";
  content.AddBytes("encoder", RandomBytes(seed, size));
  content.AddBytes("frozen", RandomBytes(1'000'000 + seed / 4, size / 3));
  content.Add("nothing", DType::kF32, {3, 0, 2}, "");
  content.Add("optimizer/step", DType::kI64, {}, RandomBytes(seed + 7, 8));
  return content;
}

inline absl::Status Send(Upload& upload, const Content& content, size_t piece_bytes = 1 << 20) {
  for (size_t i = 0; i < content.bytes.size(); ++i) {
    const std::string_view bytes = content.bytes[i];
    for (size_t offset = 0; offset < bytes.size(); offset += piece_bytes) {
      const auto status = upload.AddChunk(content.checkpoint.tensors[i].name, static_cast<int64_t>(offset),
                                          bytes.substr(offset, piece_bytes));
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

inline absl::StatusOr<Upload::Result> Put(Store& store, const Content& content,
                                          size_t piece_bytes = 1 << 20) {
  auto upload = store.Begin(content.checkpoint);
  if (!upload.ok()) return upload.status();
  if (const auto status = Send(**upload, content, piece_bytes); !status.ok()) return status;
  return (*upload)->Commit();
}

// What comes back; pieces must come in order and without gaps.
inline absl::StatusOr<Content> Get(Store& store, std::string_view reference, Selection selection = {}) {
  auto reader = store.Read(reference, std::move(selection));
  if (!reader.ok()) return reader.status();
  Content content;
  content.checkpoint = (*reader)->checkpoint();
  content.bytes.resize(content.checkpoint.tensors.size());
  while (true) {
    auto piece = (*reader)->Next();
    if (!piece.ok()) return piece.status();
    if (!piece->has_value()) return content;
    for (size_t i = 0; i < content.bytes.size(); ++i) {
      if (content.checkpoint.tensors[i].name != (*piece)->tensor) continue;
      EXPECT_EQ((*piece)->offset, static_cast<int64_t>(content.bytes[i].size()));
      content.bytes[i] += (*piece)->bytes;
    }
  }
}

}  // namespace bdh::store
