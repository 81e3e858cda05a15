#include "bdh/corpus/sampler.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"

namespace bdh::corpus {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every output bit depends on every input bit. Mix(key
// + n * kGolden) is number n of the SplitMix64 stream that begins at key, reached without the ones before.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t HashPrefix(const std::string& hex) {
  uint64_t prefix = 0;
  for (const char c : std::string_view(hex).substr(0, 16)) {
    prefix = prefix << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return prefix;
}

// Uniform in [0, n), off by at most n / 2^64.
uint64_t Scale(uint64_t random, uint64_t n) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * n) >> 64);
}

}  // namespace

RowRange SliceOf(int64_t batch_size, int64_t rank, int64_t world_size) {
  return {rank * batch_size / world_size, (rank + 1) * batch_size / world_size};
}

absl::StatusOr<Sampler> Sampler::Create(std::shared_ptr<const Dataset> dataset, const Options& options) {
  const int64_t tokens = dataset->tokens(options.split);
  if (options.batch_size < 1 || options.block_size < 1) {
    return absl::InvalidArgumentError(absl::StrFormat("batch_size %d and block_size %d; want at least 1",
                                                      options.batch_size, options.block_size));
  }
  if (tokens < options.block_size + 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the %s split of data set '%s' has %d tokens, and a row of block_size %d needs %d; %s",
        SplitName(options.split), dataset->info().name, tokens, options.block_size, options.block_size + 1,
        tokens > 2 ? absl::StrFormat("set block_size to %d or less, or add text", tokens - 1)
                   : std::string("add text, or a larger validation_fraction")));
  }
  return Sampler(std::move(dataset), options);
}

Sampler::Sampler(std::shared_ptr<const Dataset> dataset, const Options& options)
    : dataset_(std::move(dataset)), options_(options) {
  key_ = Mix(Mix(Mix(HashPrefix(dataset_->info().hash)) + options_.seed) +
             static_cast<uint64_t>(options_.split));
  positions_ = static_cast<uint64_t>(dataset_->tokens(options_.split) - options_.block_size);
}

int64_t Sampler::RowPosition(int64_t step, int64_t row) const {
  const uint64_t sample =
      static_cast<uint64_t>(step) * static_cast<uint64_t>(options_.batch_size) + static_cast<uint64_t>(row);
  return static_cast<int64_t>(Scale(Mix(key_ + (sample + 1) * kGolden), positions_));
}

void Sampler::Fill(int64_t step, RowRange rows, char* out) const {
  BDH_CHECK(rows.begin >= 0 && rows.end <= options_.batch_size);
  for (int64_t row = rows.begin; row < rows.end; ++row, out += row_bytes()) {
    dataset_->Copy(options_.split, RowPosition(step, row), columns(), out);
  }
}

}  // namespace bdh::corpus
