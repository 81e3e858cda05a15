#include "bdh/store/snapshots.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/snapshot_records.pb.h"

namespace bdh::store {
namespace {

constexpr char kOwners[] = "session_owners";
constexpr char kSnapshots[] = "session_snapshots";
constexpr char kTenants[] = "session_tenants";
constexpr char kState[] = "sessions";  // One record, under kAll.
constexpr char kAll[] = "all";

constexpr size_t kMaxSession = 128;
constexpr size_t kMaxText = 256;
constexpr size_t kMaxHeader = 64 << 10;
constexpr int kMaxPage = 1000;
constexpr size_t kScan = 1000;
constexpr absl::Duration kOwnersStay = absl::Hours(24);

absl::Status CheckSession(std::string_view session) {
  const bool good = std::all_of(session.begin(), session.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '/' || c == '-';
  });
  if (good && !session.empty() && session.size() <= kMaxSession) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("session '%s': want 1 to %d of [A-Za-z0-9._:/-]",
                                                    session.substr(0, kMaxSession), kMaxSession));
}

absl::Status CheckTime(std::string_view what, absl::Duration time, absl::Duration max) {
  if (time >= absl::Seconds(1) && time <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %s; want 1s to %s", what,
                                                    absl::FormatDuration(time), absl::FormatDuration(max)));
}

std::string_view TenantOf(std::string_view tenant_and_user) {
  return tenant_and_user.substr(0, std::min(tenant_and_user.find('/'), tenant_and_user.size()));
}

std::string ForPeople(std::string_view tenant) {
  return tenant.empty() ? "the tenant without a name" : absl::StrFormat("tenant %s", tenant);
}

// A record that is not there is as one without fields.
template <class Message>
absl::StatusOr<Message> Parse(std::string_view table, std::string_view key,
                              const std::optional<std::string>& bytes) {
  Message message;
  if (bytes.has_value() && !message.ParseFromString(*bytes)) {
    return absl::DataLossError(absl::StrFormat("the record of %s in %s is damaged", key, table));
  }
  return message;
}
template <class Message>
absl::StatusOr<Message> Get(Transaction& transaction, std::string_view table, std::string_view key) {
  BDH_ASSIGN_OR_RETURN(const auto bytes, transaction.Get(table, key));
  return Parse<Message>(table, key, bytes);
}
template <class Message>
absl::StatusOr<Message> Get(const Store& store, std::string_view table, std::string_view key) {
  BDH_ASSIGN_OR_RETURN(const auto bytes, store.GetRecord(table, key));
  return Parse<Message>(table, key, bytes);
}

SessionSnapshot FromStored(std::string_view session, const v1::StoredSessionSnapshot& stored) {
  return {.session = std::string(session),
          .tenant = stored.tenant(),
          .header = stored.header(),
          .generation = stored.generation(),
          .size_bytes = stored.size_bytes(),
          .create_time = absl::FromUnixMicros(stored.create_time_us()),
          .expire_time = absl::FromUnixMicros(stored.expire_time_us())};
}

// Whether a snapshot is there is told by its blob: none has the number 0.
bool IsThere(const v1::StoredSessionSnapshot& stored) {
  return stored.blob() != 0;
}

absl::Status CheckGeneration(std::string_view session, const v1::StoredSessionOwner& owner,
                             int64_t generation) {
  if (owner.generation() == generation && generation > 0) return absl::OkStatus();
  if (owner.generation() == 0) {
    return absl::AbortedError(
        absl::StrFormat("session %s has no owner; own it before you write to it", session));
  }
  return absl::AbortedError(absl::StrFormat("generation %d of session %s is over: %s owns it with %d",
                                            generation, session, owner.owner(), owner.generation()));
}

absl::Status AddToTenant(Transaction& transaction, std::string_view tenant, int64_t snapshots,
                         int64_t bytes) {
  BDH_ASSIGN_OR_RETURN(auto stored, Get<v1::StoredTenant>(transaction, kTenants, tenant));
  stored.set_snapshots(stored.snapshots() + snapshots);
  stored.set_bytes(stored.bytes() + bytes);
  if (stored.snapshots() == 0) {
    transaction.Delete(kTenants, tenant);
  } else {
    transaction.Put(kTenants, tenant, stored.SerializeAsString());
  }
  return absl::OkStatus();
}

absl::Status OverQuota(std::string_view tenant, int64_t used, int64_t wanted, int64_t quota) {
  return absl::ResourceExhaustedError(
      absl::StrFormat("the snapshots of %s take %s, and another %s would not fit into %s "
                      "(checkpoint_store.snapshot_quota_bytes); delete some",
                      ForPeople(tenant), FormatBytes(static_cast<uint64_t>(used)),
                      FormatBytes(static_cast<uint64_t>(wanted)), FormatBytes(static_cast<uint64_t>(quota))));
}

// Deletes the record and its share of the quota; the blob is its deleter's.
absl::Status Forget(Transaction& transaction, std::string_view session,
                    const v1::StoredSessionSnapshot& stored) {
  transaction.Delete(kSnapshots, session);
  return AddToTenant(transaction, TenantOf(stored.tenant()), -1, -stored.size_bytes());
}

}  // namespace

class SnapshotStore::Upload final : public SnapshotUpload {
 public:
  Upload(SnapshotStore& owner, Put put, std::unique_ptr<BlobUpload> blob)
      : owner_(owner), put_(std::move(put)), blob_(std::move(blob)) {}

  absl::Status Add(std::string_view bytes) override { return blob_->Add(bytes); }

  absl::StatusOr<Result> Commit(const End& end) override {
    if (end.header.size() > kMaxHeader) {
      return absl::InvalidArgumentError(absl::StrFormat("the snapshot's header has %d bytes; want at most %d",
                                                        end.header.size(), kMaxHeader));
    }
    Result result;
    BDH_ASSIGN_OR_RETURN(const auto committed,
                         blob_->Commit([&](Transaction& transaction, const Blob& blob) -> absl::Status {
                           BDH_RETURN_IF_ERROR(CheckBytes(blob, end));
                           BDH_ASSIGN_OR_RETURN(result.snapshot, Replace(transaction, blob, end));
                           return absl::OkStatus();
                         }));
    result.stored_bytes = committed.stored_bytes;
    return result;
  }

 private:
  absl::Status CheckBytes(const Blob& blob, const End& end) const {
    if (blob.size_bytes != end.size_bytes) {
      return absl::DataLossError(absl::StrFormat("snapshot of %s: %d bytes came and its end says %d",
                                                 put_.session, blob.size_bytes, end.size_bytes));
    }
    if (blob.sha256 != end.sha256) {
      return absl::DataLossError(
          absl::StrFormat("snapshot of %s: its bytes have SHA-256 %s and its end says %s", put_.session,
                          blob.sha256, end.sha256.substr(0, 64)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<SessionSnapshot> Replace(Transaction& transaction, const Blob& blob, const End& end) const {
    const std::string& session = put_.session;
    BDH_ASSIGN_OR_RETURN(const auto owner, Get<v1::StoredSessionOwner>(transaction, kOwners, session));
    BDH_RETURN_IF_ERROR(CheckGeneration(session, owner, put_.generation));
    BDH_ASSIGN_OR_RETURN(const auto old, Get<v1::StoredSessionSnapshot>(transaction, kSnapshots, session));
    if (IsThere(old)) {
      BDH_RETURN_IF_ERROR(Forget(transaction, session, old));
      BDH_RETURN_IF_ERROR(transaction.DeleteBlob(old.blob()));
    }
    const std::string_view tenant = TenantOf(put_.tenant);
    BDH_ASSIGN_OR_RETURN(const auto used, Get<v1::StoredTenant>(transaction, kTenants, tenant));
    if (used.bytes() + blob.size_bytes > owner_.options_.quota_bytes) {
      return OverQuota(tenant, used.bytes(), blob.size_bytes, owner_.options_.quota_bytes);
    }
    BDH_RETURN_IF_ERROR(AddToTenant(transaction, tenant, 1, blob.size_bytes));
    const absl::Time now = owner_.options_.clock();
    v1::StoredSessionSnapshot stored;
    stored.set_tenant(put_.tenant);
    stored.set_header(end.header);
    stored.set_generation(put_.generation);
    stored.set_blob(blob.id);
    stored.set_size_bytes(blob.size_bytes);
    stored.set_create_time_us(absl::ToUnixMicros(now));
    stored.set_expire_time_us(absl::ToUnixMicros(now + put_.time_to_live));
    transaction.Put(kSnapshots, session, stored.SerializeAsString());
    return FromStored(session, stored);
  }

  SnapshotStore& owner_;
  const Put put_;
  const std::unique_ptr<BlobUpload> blob_;
};

SnapshotStore::SnapshotStore(Store& store, Options options) : store_(store), options_(std::move(options)) {}

absl::StatusOr<SnapshotStore::Ownership> SnapshotStore::Own(std::string_view session, std::string_view owner,
                                                            absl::Duration lease, bool unless_owned) {
  BDH_RETURN_IF_ERROR(CheckSession(session));
  BDH_RETURN_IF_ERROR(CheckTime("lease_duration", lease, absl::Hours(1)));
  if (owner.empty() || owner.size() > kMaxText) {
    return absl::InvalidArgumentError(
        absl::StrFormat("owner has %d bytes; want 1 to %d", owner.size(), kMaxText));
  }
  Ownership made;
  BDH_RETURN_IF_ERROR(store_.Write([&](Transaction& transaction) -> absl::Status {
    BDH_ASSIGN_OR_RETURN(auto stored, Get<v1::StoredSessionOwner>(transaction, kOwners, session));
    const absl::Time now = options_.clock();
    const absl::Time end = absl::FromUnixMicros(stored.lease_end_us());
    const bool is_new = stored.generation() == 0;
    if (is_new || stored.owner() != owner) {
      if (unless_owned && !is_new && end > now) {
        return absl::FailedPreconditionError(absl::StrFormat("%s owns session %s until %s", stored.owner(),
                                                             session,
                                                             absl::FormatTime(end, absl::UTCTimeZone())));
      }
      BDH_ASSIGN_OR_RETURN(auto all, Get<v1::StoredSessions>(transaction, kState, kAll));
      if (is_new && all.sessions() >= options_.max_sessions) {
        return absl::ResourceExhaustedError(
            absl::StrFormat("the store knows the owners of %d sessions and no more; sessions without a "
                            "snapshot are forgotten a "
                            "day after their lease",
                            all.sessions()));
      }
      all.set_sessions(all.sessions() + is_new);
      all.set_generation(all.generation() + 1);
      transaction.Put(kState, kAll, all.SerializeAsString());
      stored.set_generation(all.generation());
      stored.set_owner(std::string(owner));
    }
    made = {.generation = stored.generation(), .expire_time = now + lease};
    stored.set_lease_end_us(absl::ToUnixMicros(made.expire_time));
    transaction.Put(kOwners, session, stored.SerializeAsString());
    return absl::OkStatus();
  }));
  return made;
}

absl::Status SnapshotStore::CheckRoom(const Put& put) const {
  if (put.size_bytes > options_.max_snapshot_bytes) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the snapshot of %s has %s and the store takes at most %s (checkpoint_store.max_snapshot_bytes)",
        put.session, FormatBytes(static_cast<uint64_t>(put.size_bytes)),
        FormatBytes(static_cast<uint64_t>(options_.max_snapshot_bytes))));
  }
  const std::string_view tenant = TenantOf(put.tenant);
  BDH_ASSIGN_OR_RETURN(const auto used, Get<v1::StoredTenant>(store_, kTenants, tenant));
  BDH_ASSIGN_OR_RETURN(const auto old, Get<v1::StoredSessionSnapshot>(store_, kSnapshots, put.session));
  const int64_t replaced = IsThere(old) && TenantOf(old.tenant()) == tenant ? old.size_bytes() : 0;
  const int64_t kept = used.bytes() - replaced;
  if (kept + put.size_bytes <= options_.quota_bytes) return absl::OkStatus();
  return OverQuota(tenant, kept, put.size_bytes, options_.quota_bytes);
}

absl::StatusOr<std::unique_ptr<SnapshotUpload>> SnapshotStore::Begin(Put put) {
  BDH_RETURN_IF_ERROR(CheckSession(put.session));
  BDH_RETURN_IF_ERROR(CheckTime("time_to_live", put.time_to_live, absl::Hours(24 * 365)));
  if (put.tenant.size() > kMaxText) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tenant has %d bytes; want at most %d", put.tenant.size(), kMaxText));
  }
  // Looked at again in the step that commits; here so that gigabytes do not travel in vain.
  BDH_ASSIGN_OR_RETURN(const auto owner, Get<v1::StoredSessionOwner>(store_, kOwners, put.session));
  BDH_RETURN_IF_ERROR(CheckGeneration(put.session, owner, put.generation));
  absl::Status room = CheckRoom(put);
  if (absl::IsResourceExhausted(room)) {
    BDH_RETURN_IF_ERROR(CollectExpired().status());
    room = CheckRoom(put);
  }
  BDH_RETURN_IF_ERROR(room);
  BDH_ASSIGN_OR_RETURN(auto blob, store_.BeginBlob(absl::StrFormat("snapshot of session %s", put.session),
                                                   options_.max_snapshot_bytes));
  return std::make_unique<Upload>(*this, std::move(put), std::move(blob));
}

absl::StatusOr<SnapshotStore::Opened> SnapshotStore::Read(std::string_view session) {
  BDH_RETURN_IF_ERROR(CheckSession(session));
  // A snapshot that is replaced between the two looks is looked for again.
  for (uint64_t seen = 0;;) {
    BDH_ASSIGN_OR_RETURN(const auto stored, Get<v1::StoredSessionSnapshot>(store_, kSnapshots, session));
    if (!IsThere(stored) || absl::FromUnixMicros(stored.expire_time_us()) <= options_.clock()) {
      return absl::NotFoundError(absl::StrFormat("no snapshot of session %s, or it has expired", session));
    }
    auto bytes = store_.ReadBlob(stored.blob());
    if (bytes.ok()) return Opened{.snapshot = FromStored(session, stored), .bytes = *std::move(bytes)};
    if (!absl::IsNotFound(bytes.status())) return bytes.status();
    if (seen == stored.blob()) {
      return absl::DataLossError(
          absl::StrFormat("the bytes of the snapshot of session %s are gone", session));
    }
    seen = stored.blob();
  }
}

absl::StatusOr<SnapshotStore::Page> SnapshotStore::List(std::string_view tenant, int size,
                                                        std::string_view token) const {
  if (size < 1 || size > kMaxPage) {
    return absl::InvalidArgumentError(absl::StrFormat("page size is %d; want 1 to %d", size, kMaxPage));
  }
  if (!token.empty() && !CheckSession(token).ok()) {
    return absl::InvalidArgumentError("page_token is none that this store gave");
  }
  BDH_ASSIGN_OR_RETURN(const auto records,
                       store_.ScanRecords(kSnapshots, "", token, static_cast<size_t>(size)));
  Page page;
  const absl::Time now = options_.clock();
  for (const Record& record : records) {
    v1::StoredSessionSnapshot stored;
    if (!stored.ParseFromString(record.value)) {
      return absl::DataLossError(absl::StrFormat("the record of the snapshot of %s is damaged", record.key));
    }
    const bool wanted = tenant.empty() || stored.tenant() == tenant || TenantOf(stored.tenant()) == tenant;
    if (wanted && absl::FromUnixMicros(stored.expire_time_us()) > now) {
      page.snapshots.push_back(FromStored(record.key, stored));
    }
  }
  if (records.size() == static_cast<size_t>(size)) page.next_token = records.back().key;
  return page;
}

absl::StatusOr<int64_t> SnapshotStore::Delete(std::string_view session, std::optional<int64_t> generation) {
  BDH_RETURN_IF_ERROR(CheckSession(session));
  BDH_ASSIGN_OR_RETURN(const auto found, Get<v1::StoredSessionSnapshot>(store_, kSnapshots, session));
  const auto forget = [&](Transaction& transaction) -> absl::Status {
    if (generation.has_value()) {
      BDH_ASSIGN_OR_RETURN(const auto owner, Get<v1::StoredSessionOwner>(transaction, kOwners, session));
      BDH_RETURN_IF_ERROR(CheckGeneration(session, owner, *generation));
    }
    BDH_ASSIGN_OR_RETURN(const auto stored, Get<v1::StoredSessionSnapshot>(transaction, kSnapshots, session));
    if (stored.blob() != found.blob()) {
      return absl::AbortedError(
          absl::StrFormat("the snapshot of session %s was replaced meanwhile", session));
    }
    return IsThere(stored) ? Forget(transaction, session, stored) : absl::OkStatus();
  };
  return store_.DeleteBlob(found.blob(), forget);
}

absl::StatusOr<int64_t> SnapshotStore::CollectExpired() {
  int64_t collected = 0;
  const absl::Time now = options_.clock();
  std::string after;
  std::vector<Record> records;
  do {
    BDH_ASSIGN_OR_RETURN(records, store_.ScanRecords(kSnapshots, "", after, kScan));
    for (const Record& record : records) {
      v1::StoredSessionSnapshot stored;
      if (!stored.ParseFromString(record.value) || absl::FromUnixMicros(stored.expire_time_us()) > now)
        continue;
      const auto freed = store_.DeleteBlob(stored.blob(), [&](Transaction& transaction) -> absl::Status {
        BDH_ASSIGN_OR_RETURN(const auto still,
                             Get<v1::StoredSessionSnapshot>(transaction, kSnapshots, record.key));
        if (still.blob() != stored.blob()) return absl::AbortedError("replaced meanwhile");
        return Forget(transaction, record.key, still);
      });
      if (!freed.ok() && !absl::IsAborted(freed.status())) return freed.status();
      collected += freed.ok();
    }
    if (!records.empty()) after = records.back().key;
  } while (records.size() == kScan);
  BDH_RETURN_IF_ERROR(ForgetOwners(now));
  return collected;
}

absl::Status SnapshotStore::ForgetOwners(absl::Time now) {
  std::string after;
  std::vector<Record> records;
  bool more = false;
  do {
    BDH_ASSIGN_OR_RETURN(records, store_.ScanRecords(kOwners, "", after, kScan));
    more = records.size() == kScan;
    if (!records.empty()) after = records.back().key;
    std::erase_if(records, [&](const Record& record) {
      v1::StoredSessionOwner owner;
      if (!owner.ParseFromString(record.value)) return true;
      if (absl::FromUnixMicros(owner.lease_end_us()) + kOwnersStay > now) return true;
      const auto snapshot = store_.GetRecord(kSnapshots, record.key);
      return !snapshot.ok() || snapshot->has_value();
    });
    if (records.empty()) continue;
    BDH_RETURN_IF_ERROR(store_.Write([&](Transaction& transaction) -> absl::Status {
      BDH_ASSIGN_OR_RETURN(auto all, Get<v1::StoredSessions>(transaction, kState, kAll));
      for (const Record& record : records) {
        BDH_ASSIGN_OR_RETURN(const auto snapshot, transaction.Get(kSnapshots, record.key));
        BDH_ASSIGN_OR_RETURN(const auto still, transaction.Get(kOwners, record.key));
        if (snapshot.has_value() || still != record.value) continue;
        transaction.Delete(kOwners, record.key);
        all.set_sessions(all.sessions() - 1);
      }
      transaction.Put(kState, kAll, all.SerializeAsString());
      return absl::OkStatus();
    }));
  } while (more);
  return absl::OkStatus();
}

absl::StatusOr<SnapshotStore::Totals> SnapshotStore::totals() const {
  Totals totals;
  std::string after;
  std::vector<Record> records;
  do {
    BDH_ASSIGN_OR_RETURN(records, store_.ScanRecords(kTenants, "", after, kScan));
    for (const Record& record : records) {
      v1::StoredTenant tenant;
      if (!tenant.ParseFromString(record.value)) continue;
      totals.snapshots += tenant.snapshots();
      totals.bytes += tenant.bytes();
      after = record.key;
    }
  } while (records.size() == kScan);
  return totals;
}

}  // namespace bdh::store
