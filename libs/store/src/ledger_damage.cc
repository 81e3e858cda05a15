// Damage: written down, so that a restart does not serve it again; forgotten once the right bytes are there.
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "ledger.h"

namespace bdh::store {

absl::Status Ledger::LoadDamage() {
  BDH_ASSIGN_OR_RETURN(const auto records, ScanRecords(database_, own::kDamage, "", "", SIZE_MAX));
  const MutexLock lock(mutex_);
  for (const Record& record : records) {
    v1::StoredDamage damage;
    BDH_RETURN_IF_ERROR(ParseRecordInto(record.value, "a damaged chunk", damage));
    if (record.key.size() == Digest::kBytes) damaged_[Digest::FromBytes(record.key)] = damage.message();
  }
  return absl::OkStatus();
}

void Ledger::MarkDamaged(const Digest& digest, std::string_view message) {
  v1::StoredDamage damage;
  damage.set_message(std::string(message));
  damage.set_time_us(absl::ToUnixMicros(options_.clock()));
  const MutexLock lock(mutex_);
  // Uploads in flight that trust it would commit the damage: their commit is refused, the next try writes it.
  if (const auto held = held_.find(digest); held != held_.end()) held->second.stored = false;
  if (!damaged_.emplace(digest, message).second) return;
  rocksdb::WriteBatch batch;
  batch.Put(database_[Table::kRecords], RecordKey(own::kDamage, digest.view()), damage.SerializeAsString());
  const absl::Status status = database_.WriteDurably(batch);
  BDH_LOG(ERROR) << "chunk quarantined sha256=" << digest.Hex() << " reason=\"" << message << '"'
                 << (status.ok() ? "" : " (not written down)");
}

absl::Status Ledger::ClearDamage(const Digest& digest) {
  const MutexLock lock(mutex_);
  if (damaged_.erase(digest) == 0) return absl::OkStatus();
  rocksdb::WriteBatch batch;
  batch.Delete(database_[Table::kRecords], RecordKey(own::kDamage, digest.view()));
  return database_.WriteDurably(batch);
}

std::optional<std::string> Ledger::DamageOf(const Digest& digest) const {
  const MutexLock lock(mutex_);
  const auto found = damaged_.find(digest);
  if (found == damaged_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<Digest, std::string>> Ledger::Damaged() const {
  const MutexLock lock(mutex_);
  return {damaged_.begin(), damaged_.end()};
}

absl::Status Ledger::Heal(const Digest& digest, std::string_view bytes) {
  if (!DamageOf(digest).has_value()) {
    return absl::NotFoundError(absl::StrFormat("chunk %s is not known to be damaged", digest.Hex()));
  }
  BDH_RETURN_IF_ERROR(Hold(digest, bytes).status());
  const absl::Status synced = chunks_.Sync();
  Release({{digest, static_cast<int64_t>(bytes.size())}});
  return synced;
}

}  // namespace bdh::store
