#include "services/data_loader/convert.h"

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"

namespace bdh::data_loader {
namespace {

using corpus::Order;

v1::Order ToProto(Order order) {
  switch (order) {
    case Order::kRandom:
      return v1::ORDER_RANDOM;
    case Order::kEpoch:
      return v1::ORDER_EPOCH;
    case Order::kSequential:
      return v1::ORDER_SEQUENTIAL;
    case Order::kLanes:
      return v1::ORDER_LANES;
    case Order::kLength:
      return v1::ORDER_LENGTH;
    case Order::kScore:
      return v1::ORDER_SCORE;
    case Order::kWindow:
      return v1::ORDER_WINDOW;
  }
  return v1::ORDER_UNSPECIFIED;
}

v1::SplitRule ToProto(corpus::SplitRule rule) {
  return rule == corpus::SplitRule::kTail       ? v1::SPLIT_RULE_TAIL
         : rule == corpus::SplitRule::kDocument ? v1::SPLIT_RULE_DOCUMENT
                                                : v1::SPLIT_RULE_UNSPECIFIED;
}

}  // namespace

v1::Dataset ToProto(const corpus::Dataset& dataset) {
  const corpus::DatasetInfo info = dataset.CurrentInfo();
  v1::Dataset out;
  out.set_name(info.name);
  out.set_hash(info.hash);
  out.set_tokenizer(info.tokenizer);
  out.set_vocab_size(info.vocab_size);
  out.set_documents(info.documents);
  out.set_bytes_in(info.bytes_in);
  out.set_train_tokens(info.train_tokens);
  out.set_validation_tokens(info.validation_tokens);
  const int64_t ms = absl::ToUnixMillis(info.create_time);
  out.mutable_create_time()->set_seconds(ms / 1000);
  out.mutable_create_time()->set_nanos(static_cast<int32_t>(ms % 1000 * 1000000));
  out.set_order(ToProto(info.order));
  out.set_split_rule(ToProto(info.split_rule));
  out.set_end_of_text(info.end_of_text);
  out.set_streaming(info.streaming);
  out.set_complete(dataset.complete());
  out.set_scored(info.scored);
  for (const corpus::DatasetInfo::Part& part : info.parts) {
    v1::DatasetPart& wire = *out.add_parts();
    wire.set_dataset(part.dataset);
    wire.set_weight(part.weight);
    wire.set_hash(part.hash);
  }
  return out;
}

absl::StatusOr<std::optional<Order>> ToOrder(v1::Order order) {
  if (order == v1::ORDER_UNSPECIFIED) return std::nullopt;
  for (const Order known : {Order::kRandom, Order::kEpoch, Order::kSequential, Order::kLanes, Order::kLength,
                            Order::kScore, Order::kWindow}) {
    if (ToProto(known) == order) return known;
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("order is %d, which this release does not know; leave it to the data set, or upgrade",
                      static_cast<int>(order)));
}

absl::StatusOr<corpus::DatasetSpec> ToStoreSpec(const v1::DatasetSpec& spec) {
  corpus::DatasetSpec out = {.name = spec.name(), .tokenizer = spec.tokenizer()};
  if (spec.has_validation_fraction()) out.validation_fraction = spec.validation_fraction();
  if (spec.has_end_of_text()) out.end_of_text = spec.end_of_text();
  if (spec.split_rule() == v1::SPLIT_RULE_TAIL) out.split_rule = corpus::SplitRule::kTail;
  if (spec.split_rule() == v1::SPLIT_RULE_DOCUMENT) out.split_rule = corpus::SplitRule::kDocument;
  BDH_ASSIGN_OR_RETURN(out.order, ToOrder(spec.order()));
  out.scored = !spec.documents().score_column().empty();
  return out;
}

}  // namespace bdh::data_loader
