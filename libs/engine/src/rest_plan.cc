// Which form a state is kept in while it rests: the one that costs least.
#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/text.h"
#include "bdh_model_impl.h"
#include "bdh_snapshot.h"

namespace bdh::engine {
namespace {

// Rates of one ordinary core, and fractions as trained models have them. They decide only where a state
// rests, so that they be about right is enough.
constexpr double kMaddsPerSecond = 2e10;
constexpr double kBytesPerSecond = 2e9;
constexpr double kPairs = 0.35;
// Of a dense layer's products, the part that prefill does: x E whole; gate, decoder, read and fold where
// neurons fire.
constexpr double kShareOfProducts = 1 + 0.2 + 0.1 + 2 * kPairs;
// A GiB kept for a conversation that may never go on is worth so many seconds of its waiting.
constexpr double kSecondsPerGib = 10;

}  // namespace

RestPlan BdhModelImpl::PlanRest(int64_t position) const {
  const auto layers = static_cast<double>(config().n_layer);
  const double products = layers * static_cast<double>(config().neurons() * config().n_embd);
  const double factor =
      layers * (static_cast<double>(geometry_.keys) * 4 * kPairs + static_cast<double>(2 * geometry_.masks) +
                static_cast<double>(geometry_.width) * 4);
  RestPlan plan{.position = position, .seconds_per_gib = kSecondsPerGib, .choices = {}, .best = {}};
  const auto add = [&](StateForm form, double bytes, double seconds) {
    plan.choices.push_back(
        {form, static_cast<int64_t>(bytes), seconds, seconds + bytes / (1 << 30) * kSecondsPerGib});
  };
  const auto tokens = static_cast<double>(position);
  add(StateForm::kTokens, tokens * 4, tokens * products * kShareOfProducts / kMaddsPerSecond);
  const int64_t base = position == 0 ? 0 : grid_.BaseAt(position - 1);
  if (base == 0) {
    add(StateForm::kFactors, tokens * (4 + factor), tokens * factor / kBytesPerSecond);
  } else {
    const double bytes = layers * static_cast<double>(geometry_.rho_bytes()) + tokens * 4 +
                         static_cast<double>(position - base) * factor;
    add(StateForm::kDense, bytes, bytes / kBytesPerSecond);
  }
  plan.best = std::min_element(plan.choices.begin(), plan.choices.end(), [](const auto& a, const auto& b) {
                return a.cost < b.cost;
              })->form;
  return plan;
}

std::string RestPlan::ToText() const {
  std::string text =
      absl::StrFormat("a state of %d tokens at rest (1 GiB is worth %g s):\n%-9s %12s %12s %12s\n", position,
                      seconds_per_gib, "form", "memory", "to go on", "cost");
  for (const Choice& choice : choices) {
    absl::StrAppendFormat(&text, "%-9s %12s %9.1f ms %9.1f ms%s\n", Name(choice.form),
                          FormatBytes(choice.bytes), 1e3 * choice.resume_seconds, 1e3 * choice.cost,
                          choice.form == best ? "  <- kept" : "");
  }
  return text;
}

}  // namespace bdh::engine
