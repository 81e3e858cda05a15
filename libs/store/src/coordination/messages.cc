#include "bdh/store/coordination_messages.h"

namespace bdh::store {

google::protobuf::Duration ToMessage(absl::Duration duration) {
  google::protobuf::Duration out;
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return out;
}

absl::Duration FromMessage(const google::protobuf::Duration& message) {
  return absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

google::protobuf::Timestamp ToMessage(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t micros = absl::ToUnixMicros(time);
  out.set_seconds(micros / 1'000'000);
  out.set_nanos(static_cast<int32_t>(micros % 1'000'000) * 1000);
  return out;
}

absl::Time FromMessage(const google::protobuf::Timestamp& message) {
  return absl::FromUnixSeconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

v1::GroupSpec ToMessage(const GroupSpec& spec) {
  v1::GroupSpec out;
  out.set_min_workers(spec.min_workers);
  out.set_max_workers(spec.max_workers);
  *out.mutable_settle_duration() = ToMessage(spec.settle);
  *out.mutable_lease_duration() = ToMessage(spec.lease);
  return out;
}

GroupSpec FromMessage(const v1::GroupSpec& message) {
  return {.min_workers = message.min_workers(),
          .max_workers = message.max_workers(),
          .settle = FromMessage(message.settle_duration()),
          .lease = FromMessage(message.lease_duration())};
}

v1::Worker ToMessage(const Worker& worker) {
  v1::Worker out;
  out.set_name(worker.name);
  out.set_address(worker.address);
  out.mutable_labels()->insert(worker.labels.begin(), worker.labels.end());
  return out;
}

Worker FromMessage(const v1::Worker& message) {
  return {.name = message.name(),
          .address = message.address(),
          .labels = {message.labels().begin(), message.labels().end()}};
}

v1::Generation ToMessage(const Generation& generation) {
  v1::Generation out;
  out.set_number(generation.number);
  for (const Member& member : generation.members) {
    v1::Member& stored = *out.add_members();
    *stored.mutable_worker() = ToMessage(member.worker);
    stored.set_rank(member.rank);
  }
  *out.mutable_form_time() = ToMessage(generation.form_time);
  return out;
}

Generation FromMessage(const v1::Generation& message) {
  Generation generation{
      .number = message.number(), .members = {}, .form_time = FromMessage(message.form_time())};
  for (const v1::Member& member : message.members()) {
    generation.members.push_back({.worker = FromMessage(member.worker()), .rank = member.rank()});
  }
  return generation;
}

}  // namespace bdh::store
