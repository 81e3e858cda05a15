// The vocabulary of the store's tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/store/store.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/temp_directory.h"

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

constexpr size_t kChunk = 65536;

// A store in a folder of its own, on a clock that moves on by a second whenever it is asked.
class StoreFixture : public testing::Test {
 protected:
  void SetUp() override { Open(); }

  Store::Options SomeOptions() {
    Store::Options options;
    options.folder = folder_.path() + "/store";
    options.chunk_bytes = kChunk;
    options.min_free_bytes = 0;
    options.clock = [this] { return now_ += absl::Seconds(1); };
    return options;
  }
  void Open() { Open(SomeOptions()); }
  void Open(const Store::Options& options) {
    store_.reset();
    auto store = Store::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void ExpectWhole(const Content& content) {
    const auto got = Get(*store_, content.checkpoint.name);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_TRUE(got->bytes == content.bytes) << content.checkpoint.name;
    EXPECT_EQ(got->checkpoint.facts, content.checkpoint.facts);
  }
  Store::Audit Audit() {
    const auto audit = store_->Check();
    EXPECT_TRUE(audit.ok()) << audit.status();
    return audit.ok() ? *audit : Store::Audit();
  }
  std::vector<std::string> Names(std::string_view run = "") {
    std::vector<std::string> names;
    const auto page = store_->List(run, 1000, "");
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return names;
    for (const Checkpoint& checkpoint : page->checkpoints) names.push_back(checkpoint.name);
    return names;
  }

  TempDirectory folder_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000'000);
  std::unique_ptr<Store> store_;
};

}  // namespace bdh::store
