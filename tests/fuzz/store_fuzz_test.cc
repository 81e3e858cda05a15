// What a disk gives back of a checkpoint's manifest is taken whole or called damaged, and an accepted one
// fits itself; the same for the description of a model, which comes with it.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include "bdh/spec/model_config_json.h"
#include "bdh/testing/status_matchers.h"
#include "libs/store/src/manifest.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

constexpr int64_t kChunkBytes = 64;

v1::StoredManifest Manifest() {
  v1::StoredManifest manifest;
  manifest.set_chunk_bytes(kChunkBytes);
  for (const auto& [name, rows] : {std::pair("encoder", 10), {"decoder", 33}, {"step", 1}}) {
    v1::StoredTensor& tensor = *manifest.add_tensors();
    tensor.mutable_info()->set_name(name);
    tensor.mutable_info()->set_dtype(v1::DTYPE_F32);
    tensor.mutable_info()->add_shape(rows);
    tensor.mutable_info()->set_size_bytes(rows * 4);
    tensor.set_chunk_digests(std::string(
        static_cast<size_t>(store::ChunkCount(rows * 4, kChunkBytes)) * store::Digest::kBytes, '\x5a'));
  }
  return manifest;
}

TEST(StoreFuzz, DamagedManifestsAreCalledDamaged) {
  const std::string good = Manifest().SerializeAsString();
  BDH_ASSERT_OK(store::ParseManifest(good));
  Mutator mutator(11, {std::string_view("\0", 1), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x0a\x00",
                       "\x12\x20", "\x7f", "\x80\x80\x80\x80\x08", "encoder", "\x08\x01", "\x1a\x01\x0a"});
  const google::protobuf::LogSilencer silence;  // It tells of every text that is not UTF-8.
  const int rounds = Rounds(20000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto manifest = store::ParseManifest(mutator.Mutated(good));
    if (!manifest.ok()) {
      EXPECT_EQ(manifest.status().code(), absl::StatusCode::kDataLoss);
      continue;
    }
    ++accepted;
    for (const v1::StoredTensor& tensor : manifest->tensors()) {
      EXPECT_GE(tensor.info().size_bytes(), 0);
      const int64_t chunks =
          store::ChunkCount(tensor.info().size_bytes(), static_cast<int64_t>(manifest->chunk_bytes()));
      EXPECT_EQ(tensor.chunk_digests().size(), static_cast<size_t>(chunks) * store::Digest::kBytes);
    }
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations are too wild to test anything but the parser";
}

TEST(StoreFuzz, DamagedRecordsAreCalledDamaged) {
  v1::StoredCheckpoint record;
  record.set_id(7);
  record.set_name("runs/a/steps/1");
  record.set_create_time_us(1);
  record.set_digest(std::string(store::Digest::kBytes, 'd'));
  record.set_facts("facts");
  const std::string good = record.SerializeAsString();
  Mutator mutator(
      12, {std::string_view("\0", 1), "\xff", "\x2a\x20", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"});
  const google::protobuf::LogSilencer silence;
  const int rounds = Rounds(10000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto parsed = store::ParseRecord(mutator.Mutated(good));
    if (parsed.ok()) {
      ++accepted;
      EXPECT_EQ(store::FromRecord(*parsed).digest.size(), 2u * store::Digest::kBytes);
    } else {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss);
    }
  }
  EXPECT_GT(accepted, rounds / 100);
}

TEST(SpecFuzz, ADescriptionOfAModelIsRightOrRefused) {
  const std::string good =
      R"({"n_layer":6,"n_embd":256,"n_head":4,"mlp_internal_dim_multiplier":128,"vocab_size":256,"dropout":0.1})";
  Mutator mutator(13, {"{", "}", ",", ":", "\"", "-", "0", "9999999999", "1e9", "0.5", "null", "n_head",
                       "\"dropout\"", "[", "\xff"});
  const int rounds = Rounds(8000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto config = spec::ModelConfigFromJson(mutator.Mutated(good));
    if (!config.ok()) {
      EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << config.status();
      continue;
    }
    ++accepted;
    BDH_EXPECT_OK(spec::Validate(*config));
    const auto back = spec::ModelConfigFromJson(spec::ToJson(*config));
    BDH_ASSERT_OK(back);
    EXPECT_EQ(spec::ToJson(*back), spec::ToJson(*config));
  }
  EXPECT_GT(accepted, rounds / 500);
}

}  // namespace
}  // namespace bdh::fuzz
