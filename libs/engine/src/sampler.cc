#include "bdh/engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace bdh::engine {
namespace {

// SplitMix64's output function: every bit of the input reaches every bit of the output.
uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Draw `index` of a stream, uniform in [0, 1). Counted, not carried: a draw can be made again from its
// number.
double Uniform(uint64_t seed, uint64_t index) {
  const uint64_t bits = Mix(Mix(seed + 0x9e3779b97f4a7c15u) + (index + 1) * 0x9e3779b97f4a7c15u);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

absl::StatusOr<int32_t> Likeliest(std::span<const float> logits) {
  size_t best = 0;
  bool finite = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    finite = finite && std::isfinite(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (finite && !logits.empty()) return static_cast<int32_t>(best);
  return absl::InternalError(
      "the model computed a logit that is not a finite number; its weights are damaged");
}

}  // namespace

absl::Status Validate(const SamplingParams& params) {
  if (!(params.temperature >= 0 && params.temperature <= 2)) {  // Written so that NaN fails.
    return absl::InvalidArgumentError(
        absl::StrFormat("temperature is %g; want 0 (greedy) to 2", params.temperature));
  }
  if (params.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("top_k is %d; want 0 (all tokens) or more", params.top_k));
  }
  if (!(params.top_p >= 0 && params.top_p <= 1)) {
    return absl::InvalidArgumentError(absl::StrFormat("top_p is %g; want 0 to 1", params.top_p));
  }
  return absl::OkStatus();
}

// The candidates, likeliest first.
void Sampler::Rank(std::span<const float> logits) {
  const auto likelier = [](const auto& one, const auto& other) {
    return one.first != other.first ? one.first > other.first : one.second < other.second;
  };
  ranked_.clear();
  for (size_t i = 0; i < logits.size(); ++i) ranked_.emplace_back(logits[i], static_cast<int32_t>(i));
  const size_t kept = params_.top_k == 0 ? ranked_.size() : std::min<size_t>(params_.top_k, ranked_.size());
  std::partial_sort(ranked_.begin(), ranked_.begin() + kept, ranked_.end(), likelier);
  ranked_.resize(kept);
}

absl::StatusOr<int32_t> Sampler::Next(std::span<const float> logits) {
  const absl::StatusOr<int32_t> likeliest = Likeliest(logits);
  const double uniform = Uniform(params_.seed, draws_++);
  if (!likeliest.ok() || params_.temperature == 0 || params_.top_k == 1 || params_.top_p == 0)
    return likeliest;

  Rank(logits);
  weights_.clear();
  double total = 0;
  for (const auto& [logit, token] : ranked_) {
    weights_.push_back(std::exp((double{logit} - ranked_.front().first) / params_.temperature));
    total += weights_.back();
  }
  if (params_.top_p < 1) {
    double reached = 0;
    size_t kept = 0;
    while (kept < weights_.size() && reached < params_.top_p * total) reached += weights_[kept++];
    weights_.resize(kept);
    total = reached;
  }
  double rest = uniform * total;
  size_t chosen = 0;
  while (chosen + 1 < weights_.size() && rest >= weights_[chosen]) rest -= weights_[chosen++];
  return ranked_[chosen].second;
}

}  // namespace bdh::engine
