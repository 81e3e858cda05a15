#include "retention.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "manifest.h"

namespace bdh::store {
namespace {

absl::Status CheckPolicy(const RetentionPolicy& policy) {
  if (policy.keep_last < 0 || policy.keep_every_steps < 0 || policy.keep_best < 0) {
    return absl::InvalidArgumentError("a count of the retention policy is negative; want 0 or more");
  }
  if (policy.keep_last == 0 && policy.keep_every_steps == 0 && policy.keep_best == 0) {
    return absl::InvalidArgumentError(
        "the retention policy would keep nothing; set keep_last, keep_every_steps or keep_best");
  }
  return absl::OkStatus();
}

absl::Status CheckRun(std::string_view run) {
  return run.empty() ? absl::OkStatus() : CheckCheckpointName(CheckpointName(run, 0));
}

int64_t StepOf(std::string_view name) {
  int64_t step = 0;
  const std::string_view digits = name.substr(name.rfind('/') + 1);
  return absl::SimpleAtoi(absl::string_view(digits.data(), digits.size()), &step) ? step : 0;
}

// Ids of those that the policy itself keeps; `records` are in the order they were made.
std::set<uint64_t> KeptBy(const RetentionPolicy& policy, const std::vector<v1::StoredCheckpoint>& records) {
  std::set<uint64_t> kept;
  const auto last = static_cast<size_t>(std::max(policy.keep_last, 1));  // The newest stays whatever is said.
  for (size_t i = records.size() - std::min(records.size(), last); i < records.size(); ++i) {
    kept.insert(records[i].id());
  }
  std::vector<std::pair<double, uint64_t>> by_loss;
  for (const v1::StoredCheckpoint& record : records) {
    if (policy.keep_every_steps > 0 && StepOf(record.name()) % policy.keep_every_steps == 0) {
      kept.insert(record.id());
    }
    if (record.has_loss()) by_loss.emplace_back(record.loss(), record.id());
  }
  std::sort(by_loss.begin(), by_loss.end());
  by_loss.resize(std::min(by_loss.size(), static_cast<size_t>(policy.keep_best)));
  for (const auto& [loss, id] : by_loss) kept.insert(id);
  return kept;
}

}  // namespace

std::string_view RunOf(std::string_view name) {
  const size_t begin = std::string_view("runs/").size();
  return name.substr(begin, name.find('/', begin) - begin);
}

absl::Status Retention::Set(std::string_view run, const std::optional<RetentionPolicy>& policy) {
  BDH_RETURN_IF_ERROR(CheckRun(run));
  v1::StoredRetention stored;
  if (policy.has_value()) {
    BDH_RETURN_IF_ERROR(CheckPolicy(*policy));
    stored.set_keep_last(policy->keep_last);
    stored.set_keep_every_steps(policy->keep_every_steps);
    stored.set_keep_best(policy->keep_best);
  }
  const auto set = [&](Draft& draft) {
    if (policy.has_value()) {
      draft.Put(own::kRetention, run, stored.SerializeAsString());
    } else {
      draft.Delete(own::kRetention, run);
    }
    return absl::OkStatus();
  };
  return ledger_.Apply(set).status();
}

absl::StatusOr<RetentionRule> Retention::Get(std::string_view run) const {
  BDH_RETURN_IF_ERROR(CheckRun(run));
  RetentionRule rule;
  BDH_ASSIGN_OR_RETURN(auto bytes, GetRecord(database_, own::kRetention, run));
  if (!bytes.has_value() && !run.empty()) {
    rule.inherited = true;
    BDH_ASSIGN_OR_RETURN(bytes, GetRecord(database_, own::kRetention, ""));
  }
  if (!bytes.has_value()) {
    return absl::NotFoundError(
        run.empty() ? "the store has no retention policy"
                    : absl::StrFormat("neither run %s nor the store has a retention policy", run));
  }
  v1::StoredRetention stored;
  BDH_RETURN_IF_ERROR(ParseRecordInto(*bytes, "a retention policy", stored));
  rule.policy = {.keep_last = stored.keep_last(),
                 .keep_every_steps = stored.keep_every_steps(),
                 .keep_best = stored.keep_best()};
  return rule;
}

absl::StatusOr<std::vector<std::string>> Retention::Runs() const {
  std::vector<std::string> runs;
  const auto names = database_.NewIterator(Table::kCheckpoints);
  names->SeekToFirst();
  while (names->Valid()) {
    const std::string run(RunOf(ToView(names->key())));
    runs.push_back(run);
    names->Seek("runs/" + run + "0");  // '0' follows '/': behind all of this run.
  }
  BDH_RETURN_IF_ERROR(database_.ToStatus(names->status(), "list runs"));
  return runs;
}

absl::StatusOr<std::vector<v1::StoredCheckpoint>> Retention::Spare(std::string_view run,
                                                                   const RetentionPolicy& policy) const {
  BDH_ASSIGN_OR_RETURN(std::vector<v1::StoredCheckpoint> records, catalog_.OfRun(run));
  BDH_ASSIGN_OR_RETURN(const std::vector<Tag> tags, catalog_.Tags());
  const std::set<uint64_t> kept = KeptBy(policy, records);
  std::set<std::string_view> tagged;
  for (const Tag& tag : tags) tagged.insert(tag.checkpoint);
  records.erase(std::remove_if(records.begin(), records.end(),
                               [&](const v1::StoredCheckpoint& record) {
                                 return kept.count(record.id()) > 0 || tagged.count(record.name()) > 0;
                               }),
                records.end());
  return records;
}

// Bytes that would be freed if all these went.
absl::StatusOr<int64_t> Retention::BytesOnlyHeldBy(const std::vector<v1::StoredCheckpoint>& records) const {
  std::set<uint64_t> going;
  for (const v1::StoredCheckpoint& record : records) going.insert(record.id());
  std::set<Digest> counted;
  int64_t bytes = 0;
  for (const v1::StoredCheckpoint& record : records) {
    BDH_ASSIGN_OR_RETURN(const v1::StoredManifest manifest, catalog_.ManifestOf(record));
    for (const auto& [digest, size] : DistinctChunks(manifest)) {
      if (!counted.insert(digest).second) continue;
      BDH_ASSIGN_OR_RETURN(const std::vector<uint64_t> owners, catalog_.OwnersOf(digest));
      const bool alone =
          std::all_of(owners.begin(), owners.end(), [&](uint64_t owner) { return going.count(owner) > 0; });
      if (alone) bytes += size;
    }
  }
  return bytes;
}

absl::StatusOr<RetentionResult> Retention::Apply(std::string_view run, bool dry_run) {
  BDH_RETURN_IF_ERROR(CheckRun(run));
  std::vector<std::string> runs = {std::string(run)};
  if (run.empty()) {
    BDH_ASSIGN_OR_RETURN(runs, Runs());
  }
  RetentionResult result;
  std::vector<v1::StoredCheckpoint> going;
  bool any_policy = false;
  for (const std::string& one : runs) {
    const auto rule = Get(one);
    if (absl::IsNotFound(rule.status())) continue;
    BDH_RETURN_IF_ERROR(rule.status());
    any_policy = true;
    BDH_ASSIGN_OR_RETURN(const auto spare, Spare(one, rule->policy));
    for (const v1::StoredCheckpoint& record : spare) {
      BDH_ASSIGN_OR_RETURN(const bool pinned, ledger_.IsPinned(record.name()));
      if (!pinned) going.push_back(record);
    }
  }
  if (!any_policy && (!runs.empty() || !Get("").ok())) {
    return absl::FailedPreconditionError(run.empty()
                                             ? "no retention policy is set"
                                             : absl::StrFormat("no retention policy covers run %s", run));
  }
  if (dry_run) {
    for (const v1::StoredCheckpoint& record : going) result.deleted.push_back(record.name());
    BDH_ASSIGN_OR_RETURN(result.freed_bytes, BytesOnlyHeldBy(going));
    return result;
  }
  for (const v1::StoredCheckpoint& record : going) {
    const auto freed = ledger_.Delete(record.name());
    // Tagged, pinned or deleted meanwhile.
    if (absl::IsFailedPrecondition(freed.status()) || absl::IsNotFound(freed.status())) continue;
    BDH_RETURN_IF_ERROR(freed.status());
    result.deleted.push_back(record.name());
    result.freed_bytes += *freed;
  }
  return result;
}

void Retention::AfterCommit(std::string_view checkpoint) {
  const std::string_view run = RunOf(checkpoint);
  const auto result = Apply(run, false);
  if (absl::IsFailedPrecondition(result.status())) return;  // No policy.
  if (!result.ok()) {
    BDH_LOG(WARNING) << "retention not applied run=" << run << " error=" << result.status().message();
  } else if (!result->deleted.empty()) {
    BDH_LOG(INFO) << "retention applied run=" << run << " deleted=" << result->deleted.size()
                  << " freed_bytes=" << result->freed_bytes;
  }
}

}  // namespace bdh::store
