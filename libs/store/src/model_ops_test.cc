// Operations on models: averages in every float type against sums done by hand, differences, copies between
// two stores that send only what is missing, and repairs. Two real stores, chunks small enough that tensors
// have many.

#include "bdh/store/model_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "numbers.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kA[] = "runs/a/steps/1", kB[] = "runs/a/steps/2", kC[] = "runs/a/steps/3";
constexpr char kMean[] = "runs/mean/steps/3";

std::string Bytes(DType dtype, const std::vector<double>& values) {
  std::string bytes;
  AppendFromDoubles(dtype, values, bytes);
  return bytes;
}
std::vector<double> Values(DType dtype, std::string_view bytes) {
  std::vector<double> values(bytes.size() / static_cast<size_t>(ElementBytes(dtype)));
  ToDoubles(dtype, bytes, values);
  return values;
}
std::vector<double> Ramp(size_t count, double first, double step) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = first + step * static_cast<double>(i);
  return values;
}

class ModelOpsTest : public testing::Test {
 protected:
  void SetUp() override { store_ = Open("here", 65536); }
  std::unique_ptr<Store> Open(const std::string& name, int64_t chunk_bytes) {
    auto opened =
        Store::Open({.folder = folder_.path() + "/" + name, .chunk_bytes = chunk_bytes, .min_free_bytes = 0});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  // A model whose numbers follow from `seed`, with what is not averaged beside it.
  Content Model(const std::string& name, double seed, size_t size = 300'000) {
    Content content;
    content.checkpoint.name = name;
    content.checkpoint.facts = name;
    const auto add = [&](const std::string& tensor, DType dtype, const std::vector<double>& values) {
      content.Add(tensor, dtype, {static_cast<int64_t>(values.size())}, Bytes(dtype, values));
    };
    add("f32", DType::kF32, Ramp(size, seed, 0.001));
    add("bf16", DType::kBf16, Ramp(1000, seed * 8, 0.5));
    add("f16", DType::kF16, Ramp(1000, seed * 8, 0.5));
    add("f64", DType::kF64, Ramp(1000, seed, 1e-9));
    add("frozen", DType::kF32, Ramp(1000, 0.1, 0.3));
    content.Add("positions", DType::kI64, {2}, std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16));
    content.Add("nothing", DType::kF32, {0, 3}, "");
    content.AddBytes("optimizer/moment", RandomBytes(static_cast<uint64_t>(seed * 100), 5000));
    return content;
  }
  void PutModels() {
    BDH_ASSERT_OK(Put(*store_, Model(kA, 1)));
    BDH_ASSERT_OK(Put(*store_, Model(kB, 2)));
    BDH_ASSERT_OK(Put(*store_, Model(kC, 6)));
  }
  absl::StatusOr<Upload::Result> AverageOf(AverageOptions options) {
    options.prefixes_excluded = {"optimizer/"};
    return Average(*store_, options,
                   [&](const std::vector<Checkpoint>& sources) -> absl::StatusOr<Checkpoint> {
                     described_ = sources.size();
                     return Checkpoint{.name = kMean, .facts = "average"};
                   });
  }
  // What `tensor` holds, and what it would with this seed.
  void ExpectSeed(double seed) {
    const auto got = Get(*store_, kMean);
    ASSERT_TRUE(got.ok()) << got.status();
    const Content want = Model(kMean, seed);
    ASSERT_EQ(got->bytes.size(), want.bytes.size() - 1) << "without the optimizer";
    for (size_t i = 0; i < got->bytes.size(); ++i) {
      const Tensor& tensor = got->checkpoint.tensors[i];
      EXPECT_EQ(tensor.name, want.checkpoint.tensors[i].name);
      if (!IsFloat(tensor.dtype)) {
        EXPECT_EQ(got->bytes[i], want.bytes[i]);
        continue;
      }
      const auto is = Values(tensor.dtype, got->bytes[i]), asked = Values(tensor.dtype, want.bytes[i]);
      const double bound = tensor.dtype == DType::kBf16  ? 1.0 / 128
                           : tensor.dtype == DType::kF16 ? 1.0 / 1024
                           : tensor.dtype == DType::kF32 ? 1e-6
                                                         : 1e-15;
      for (size_t j = 0; j < is.size(); ++j) {
        ASSERT_NEAR(is[j], asked[j], bound * std::abs(asked[j])) << tensor.name << "[" << j << "]";
      }
    }
  }

  // Flips two bits in the largest file below the store, and opens it again.
  void DamageTwoChunks() {
    BDH_ASSERT_OK(store_->Flush());
    store_.reset();
    std::filesystem::path largest;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path() + "/here")) {
      if (!entry.is_regular_file()) continue;
      if (largest.empty() || entry.file_size() > std::filesystem::file_size(largest)) largest = entry.path();
    }
    {
      std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
      for (const int64_t at : {1'000'000, 2'000'000}) {
        file.seekg(at);
        const char was = static_cast<char>(file.get());
        file.seekp(at);
        file.put(static_cast<char>(was ^ 1));
      }
    }
    store_ = Open("here", 65536);
  }

  TempDirectory folder_;
  std::unique_ptr<Store> store_;
  size_t described_ = 0;
};

TEST(Numbers, EveryHalfComesBackAndWhatLiesBetweenGoesToTheNearest) {
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    const int exponents = dtype == DType::kF16 ? 0x7c00 : 0x7f80;
    for (int bits = 0; bits < 0x10000; ++bits) {
      if ((bits & exponents) == exponents && (bits & 0x7fff) != exponents) continue;  // Not a number.
      const auto half = static_cast<uint16_t>(bits);
      std::string bytes(2, '\0');
      std::memcpy(bytes.data(), &half, 2);
      const auto value = Values(dtype, bytes);
      ASSERT_EQ(Bytes(dtype, value), bytes) << bits;
      // A little above the middle of this one and the next goes to the next, a little below stays.
      if ((bits & 0x7fff) >= exponents - 1 || bits > 0x7fff) continue;
      const uint16_t above = half + 1;
      std::string next(2, '\0');
      std::memcpy(next.data(), &above, 2);
      const double middle = (value[0] + Values(dtype, next)[0]) / 2;
      ASSERT_EQ(Bytes(dtype, {std::nextafter(middle, 1e300)}), next) << bits;
      ASSERT_EQ(Bytes(dtype, {std::nextafter(middle, -1e300)}), bytes) << bits;
      ASSERT_EQ(Bytes(dtype, {middle}), bits % 2 == 0 ? bytes : next) << "ties go to even: " << bits;
    }
  }
  EXPECT_TRUE(std::isinf(Values(DType::kF16, Bytes(DType::kF16, {65520}))[0]));
  EXPECT_EQ(Values(DType::kF16, Bytes(DType::kF16, {65519}))[0], 65504);
  EXPECT_TRUE(std::isnan(Values(DType::kBf16, Bytes(DType::kBf16, {std::nan("")}))[0]));
}

TEST_F(ModelOpsTest, TheMeanOfThreeIsTheirMeanInEveryFloatType) {
  PutModels();
  int64_t done = 0, total = 0;
  AverageOptions options{.references = {kA, kB, kC}, .prefixes_excluded = {"optimizer/"}};
  BDH_ASSERT_OK(Average(
      *store_, options,
      [](const std::vector<Checkpoint>&) -> absl::StatusOr<Checkpoint> {
        return Checkpoint{.name = kMean, .facts = "average"};
      },
      [&](const Progress& progress) {
        EXPECT_GT(progress.bytes_done, done);
        done = progress.bytes_done;
        total = progress.bytes_total;
        return true;
      }));
  EXPECT_EQ(done, total);
  ExpectSeed(3);
}

TEST_F(ModelOpsTest, WeightsAndDecayCount) {
  PutModels();
  BDH_ASSERT_OK(AverageOf({.references = {kA, kB, kC}, .weights = {3, 0, 1}}));
  EXPECT_EQ(described_, 3u);
  ExpectSeed((3 * 1 + 6) / 4.0);
  BDH_ASSERT_OK(store_->Delete(kMean));
  BDH_ASSERT_OK(store_->SetTag("first", kA));
  BDH_ASSERT_OK(AverageOf({.references = {"first", kB, kC}, .decay = 0.5}));
  ExpectSeed(0.25 * 1 + 0.25 * 2 + 0.5 * 6);
}

TEST_F(ModelOpsTest, WhatIsTheSameInAllIsTakenAsItIsAndCostsNothing) {
  PutModels();
  BDH_ASSERT_OK_AND_ASSIGN(const auto made, AverageOf({.references = {kA, kB, kC}}));
  EXPECT_EQ(made.stored_bytes, 300'000 * 4 + 2000 + 2000 + 8000) << "neither `frozen` nor `positions`";
}

TEST_F(ModelOpsTest, WhatCannotBeAveragedIsRefusedByName) {
  PutModels();
  const auto refused = [&](AverageOptions options) {
    const auto status = AverageOf(std::move(options)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused({.references = {kA}}), HasSubstr("want 2 to 64"));
  EXPECT_THAT(refused({.references = std::vector<std::string>(65, kA)}), HasSubstr("want 2 to 64"));
  EXPECT_THAT(refused({.references = {kA, kB}, .weights = {1}}), HasSubstr("1 weights for 2"));
  EXPECT_THAT(refused({.references = {kA, kB}, .weights = {1, -1}}), HasSubstr("above 0"));
  EXPECT_THAT(refused({.references = {kA, kB}, .weights = {1, std::nan("")}}), HasSubstr("finite"));
  EXPECT_THAT(refused({.references = {kA, kB}, .weights = {1, 1}, .decay = 0.5}), HasSubstr("not both"));
  EXPECT_THAT(refused({.references = {kA, kB}, .decay = 1.5}), HasSubstr("decay is 1.5"));
  EXPECT_EQ(AverageOf({.references = {kA, "none"}}).status().code(), absl::StatusCode::kNotFound);

  BDH_ASSERT_OK(Put(*store_, Model("runs/a/steps/4", 4, 300'001)));
  EXPECT_THAT(refused({.references = {kA, "runs/a/steps/4"}}), HasSubstr("tensor f32 is [300000] in"));
  Content other = Model("runs/a/steps/5", 5);
  other.bytes[5][0] = 9;
  BDH_ASSERT_OK(Put(*store_, other));
  EXPECT_THAT(refused({.references = {kA, "runs/a/steps/5"}}), HasSubstr("tensor positions holds integers"));
  other = Model("runs/a/steps/6", 5);
  other.AddBytes("more", "x");
  BDH_ASSERT_OK(Put(*store_, other));
  EXPECT_THAT(refused({.references = {kA, "runs/a/steps/6"}}), HasSubstr("has no tensor more"));
  EXPECT_THAT(refused({.references = {"runs/a/steps/6", kA}}), HasSubstr("has no tensor more"));
  EXPECT_EQ(store_->Describe(kMean).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelOpsTest, AnAverageThatIsBrokenOffLeavesNothing) {
  PutModels();
  const int64_t before = store_->totals().stored_bytes;
  const auto stopped = Average(
      *store_, {.references = {kA, kB}, .prefixes_excluded = {"optimizer/"}},
      [](const std::vector<Checkpoint>&) -> absl::StatusOr<Checkpoint> { return Checkpoint{.name = kMean}; },
      [](const Progress& progress) { return progress.bytes_done < 1'500'000; });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(store_->totals().stored_bytes, before);
  EXPECT_EQ(store_->Check()->orphans, 0);
}

TEST_F(ModelOpsTest, ADiffHasTheNormsOfWhatDiffers) {
  Content left, right;
  left.checkpoint.name = kA;
  right.checkpoint.name = kB;
  const auto add = [](Content& content, const std::string& name, DType dtype,
                      const std::vector<double>& values) {
    content.Add(name, dtype, {static_cast<int64_t>(values.size())}, Bytes(dtype, values));
  };
  add(left, "only left", DType::kF32, {1});
  add(right, "only right", DType::kF32, {1});
  add(left, "same", DType::kF32, {1, 2});
  add(right, "same", DType::kF32, {1, 2});
  add(left, "moved", DType::kF32, {3, 4, 0});
  add(right, "moved", DType::kBf16, {3, 2, 4});
  add(left, "shape", DType::kF32, {1, 2});
  add(right, "shape", DType::kF32, {1});
  add(left, "long", DType::kF64, Ramp(200'000, 0, 0));
  add(right, "long", DType::kF64, Ramp(200'000, 1, 0));
  BDH_ASSERT_OK(Put(*store_, left));
  BDH_ASSERT_OK(Put(*store_, right));
  BDH_ASSERT_OK_AND_ASSIGN(const auto diffs, Diff(*store_, kA, kB));
  std::vector<std::string> lines;
  for (const TensorDiff& diff : diffs) {
    lines.push_back(absl::StrFormat("%s%s%s%s %.4g %.4g %.4g", diff.tensor, diff.left ? " l" : "",
                                    diff.right ? " r" : "", diff.equal ? " =" : "", diff.left_norm,
                                    diff.difference_norm, diff.difference_max));
  }
  EXPECT_THAT(lines, ElementsAre("long l r 0 447.2 1", "moved l r 5 4.472 4", "only left l 0 0 0",
                                 "only right r 0 0 0", "same l r = 0 0 0", "shape l r 0 0 0"));
  EXPECT_EQ(Diff(*store_, kA, "none").status().code(), absl::StatusCode::kNotFound);
}

// A store in the same process, as what a copy goes to and a repair comes from.
class OtherStore : public CopyTarget, public RepairSource {
 public:
  explicit OtherStore(Store& store) : store_(store) {}

  absl::StatusOr<Missing> FindMissing(const std::string& upload,
                                      const std::vector<std::string>& digests) override {
    auto found = store_.FindMissingChunks(upload, digests);
    if (!found.ok()) return found.status();
    return Missing{.indexes = *found, .chunk_bytes = store_.chunk_bytes()};
  }
  absl::Status PutChunks(const std::string& upload, const NextChunk& next) override {
    while (true) {
      auto chunk = next();
      if (!chunk.ok() || !chunk->has_value()) return chunk.status();
      if (sent == lose_after) return absl::UnavailableError("the line is cut");
      ++sent;
      const auto put = store_.PutChunk(upload, (*chunk)->digest, (*chunk)->bytes);
      if (!put.ok()) return put.status();
    }
  }
  absl::Status Commit(const std::string& upload, const Checkpoint& checkpoint,
                      const std::vector<TensorDigests>& chunks) override {
    return store_.CommitUpload(upload, checkpoint, chunks).status();
  }
  absl::Status ReadTensor(const std::string& checkpoint, const std::string& tensor,
                          const Take& take) override {
    auto reader = store_.Read(checkpoint, {.tensors = {tensor}});
    if (!reader.ok()) return reader.status();
    while (true) {
      const auto piece = (*reader)->Next();
      if (!piece.ok()) return piece.status();
      if (!piece->has_value() || !take((*piece)->bytes)) return absl::OkStatus();
    }
  }

  int sent = 0, lose_after = -1;

 private:
  Store& store_;
};

TEST_F(ModelOpsTest, ACopySendsOnlyWhatIsMissingAndGoesOnWhereItBroke) {
  PutModels();
  const auto there = Open("there", 65536);
  OtherStore target(*there);
  target.lose_after = 5;
  EXPECT_EQ(Copy(*store_, {kA}, target).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(there->Describe(kA).status().code(), absl::StatusCode::kNotFound);
  target.lose_after = -1;
  BDH_ASSERT_OK_AND_ASSIGN(const CopyProgress first, Copy(*store_, {kA}, target));
  EXPECT_EQ(first.bytes_done, first.bytes_total);
  EXPECT_EQ(first.bytes_skipped, 5 * 65536);
  const int sent = target.sent;
  BDH_ASSERT_OK_AND_ASSIGN(const CopyProgress again, Copy(*store_, {kA}, target));
  EXPECT_EQ(again.bytes_skipped, again.bytes_total);
  EXPECT_EQ(target.sent, sent);
  BDH_ASSERT_OK(Copy(*store_, {kA, kB}, target));
  EXPECT_LT(target.sent, sent * 2 - 1) << "`frozen` and `positions` were there";
  for (const char* name : {kA, kB}) {
    BDH_ASSERT_OK_AND_ASSIGN(const Content is, Get(*there, name));
    BDH_ASSERT_OK_AND_ASSIGN(const Content was, Get(*store_, name));
    EXPECT_TRUE(is.bytes == was.bytes);
    EXPECT_EQ(is.checkpoint.digest, was.checkpoint.digest);
    EXPECT_EQ(is.checkpoint.facts, was.checkpoint.facts);
  }
  EXPECT_EQ(Copy(*store_, {"none"}, target).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelOpsTest, AStoreThatCutsOtherwiseGetsTheSameTensors) {
  PutModels();
  const auto there = Open("there", 100'000);
  OtherStore target(*there);
  BDH_ASSERT_OK(Copy(*store_, {kA}, target));
  BDH_ASSERT_OK_AND_ASSIGN(const Content is, Get(*there, kA));
  BDH_ASSERT_OK_AND_ASSIGN(const Content was, Get(*store_, kA));
  EXPECT_TRUE(is.bytes == was.bytes);
}

TEST_F(ModelOpsTest, DamageIsRepairedFromAnotherStore) {
  Content content;
  content.checkpoint.name = kA;
  content.AddBytes("weights", RandomBytes(1, 4'000'000));
  BDH_ASSERT_OK(Put(*store_, content));
  const auto there = Open("there", 100'000);
  OtherStore other(*there);
  BDH_ASSERT_OK_AND_ASSIGN(const RepairProgress nothing, Repair(*store_, other));
  EXPECT_EQ(nothing.damaged_chunks, 0);
  DamageTwoChunks();
  BDH_ASSERT_OK_AND_ASSIGN(const VerifyResult found, store_->Verify({.reference = kA}));
  ASSERT_EQ(found.damaged_chunks, 2);
  EXPECT_EQ(Get(*store_, kA).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Repair(*store_, other).status().code(), absl::StatusCode::kNotFound) << "it does not have it";
  BDH_ASSERT_OK(Put(*there, content));
  BDH_ASSERT_OK_AND_ASSIGN(const RepairProgress repaired, Repair(*store_, other));
  EXPECT_EQ(repaired.damaged_chunks, 2);
  EXPECT_EQ(repaired.repaired_chunks, 2);
  BDH_ASSERT_OK_AND_ASSIGN(const Content whole, Get(*store_, kA));
  EXPECT_TRUE(whole.bytes == content.bytes);
}

TEST_F(ModelOpsTest, DamageIsRepairedByPuttingTheSameBytesAgain) {
  Content content;
  content.checkpoint.name = kA;
  content.AddBytes("weights", RandomBytes(1, 4'000'000));
  BDH_ASSERT_OK(Put(*store_, content));
  DamageTwoChunks();
  ASSERT_EQ(store_->Verify({.reference = kA})->damaged_chunks, 2);
  BDH_ASSERT_OK(Put(*store_, content));
  EXPECT_EQ(store_->Verify({.reference = kA})->damaged_chunks, 0);
  BDH_ASSERT_OK_AND_ASSIGN(const Content whole, Get(*store_, kA));
  EXPECT_TRUE(whole.bytes == content.bytes);
}

}  // namespace
}  // namespace bdh::store
