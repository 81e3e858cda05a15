#include "notes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "manifest.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxNoteBytes = 4096, kMaxLabels = 64, kMaxLabelBytes = 256, kMaxHolderBytes = 256;
constexpr int kMaxTagChanges = 1000;
constexpr absl::Duration kMaxPin = absl::Hours(1);

std::string WithZero(std::string_view text) {
  std::string out(text);
  out.push_back('\0');
  return out;
}

absl::Status CheckNote(const Note& note) {
  if (note.text.size() > kMaxNoteBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the note has %d bytes; at most %d are kept", note.text.size(), kMaxNoteBytes));
  }
  if (note.labels.size() > kMaxLabels) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the note has %d labels; at most %d are kept", note.labels.size(), kMaxLabels));
  }
  for (const auto& [key, value] : note.labels) {
    if (key.empty() || key.size() > kMaxLabelBytes || value.size() > kMaxLabelBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("label \"%s\" is too long or has no key; keys and values have at most %d bytes",
                          key.substr(0, 80), kMaxLabelBytes));
    }
  }
  return absl::OkStatus();
}

bool HasAll(const Note& note, const std::map<std::string, std::string>& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto found = note.labels.find(label.first);
    return found != note.labels.end() && found->second == label.second;
  });
}

absl::StatusOr<absl::Time> PinnedUntil(std::string_view bytes) {
  v1::StoredPin pin;
  BDH_RETURN_IF_ERROR(ParseRecordInto(bytes, "a pin", pin));
  return absl::FromUnixMicros(pin.expire_time_us());
}

}  // namespace

absl::Status CheckUnpinned(const Database& database, std::string_view checkpoint, absl::Time now,
                           Draft* draft) {
  BDH_ASSIGN_OR_RETURN(const auto pins,
                       ScanRecords(database, own::kPins, WithZero(checkpoint), "", SIZE_MAX));
  for (const Record& pin : pins) {
    BDH_ASSIGN_OR_RETURN(const absl::Time until, PinnedUntil(pin.value));
    if (until > now) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s is in use: %s has pinned it until %s", checkpoint, pin.key.substr(checkpoint.size() + 1),
          absl::FormatTime(absl::RFC3339_sec, until, absl::UTCTimeZone())));
    }
    if (draft != nullptr) draft->Delete(own::kPins, pin.key);
  }
  return absl::OkStatus();
}

absl::Status NoteTagChange(std::string_view tag, const v1::StoredTag& now, Draft& draft) {
  v1::StoredTagChange change;
  change.set_checkpoint(now.checkpoint());
  change.set_time_us(now.update_time_us());
  const std::string prefix = WithZero(tag);
  // Numbers go down, so that the newest sorts first.
  draft.Put(own::kTagChanges, prefix + IdKey(UINT64_MAX - draft.state.sequence()),
            change.SerializeAsString());
  BDH_ASSIGN_OR_RETURN(const auto kept, draft.Scan(own::kTagChanges, prefix, "", kMaxTagChanges + 16));
  for (size_t i = kMaxTagChanges - 1; i < kept.size(); ++i) draft.Delete(own::kTagChanges, kept[i].key);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TagChange>> Notes::TagHistory(std::string_view tag, int limit) const {
  BDH_RETURN_IF_ERROR(CheckTagName(tag));
  if (limit < 1 || limit > kMaxTagChanges) {
    return absl::InvalidArgumentError(
        absl::StrFormat("page_size is %d; want 1 to %d", limit, kMaxTagChanges));
  }
  BDH_ASSIGN_OR_RETURN(const auto records,
                       ScanRecords(database_, own::kTagChanges, WithZero(tag), "", limit));
  std::vector<TagChange> changes;
  for (const Record& record : records) {
    v1::StoredTagChange change;
    BDH_RETURN_IF_ERROR(ParseRecordInto(record.value, "a tag's history", change));
    changes.push_back({.checkpoint = change.checkpoint(), .time = absl::FromUnixMicros(change.time_us())});
  }
  if (!changes.empty()) return changes;
  // Set by a store that did not write histories yet.
  BDH_ASSIGN_OR_RETURN(const auto tags, catalog_.Tags());
  for (const Tag& set : tags) {
    if (set.name == tag) changes.push_back({.checkpoint = set.checkpoint, .time = set.update_time});
  }
  if (changes.empty()) return absl::NotFoundError(absl::StrFormat("there never was a tag \"%s\"", tag));
  return changes;
}

absl::StatusOr<Note> Notes::NoteOf(uint64_t id, const rocksdb::Snapshot* snapshot) const {
  BDH_ASSIGN_OR_RETURN(const auto bytes, GetRecord(database_, own::kNotes, IdKey(id), snapshot));
  v1::StoredNote stored;
  if (bytes.has_value()) {
    BDH_RETURN_IF_ERROR(ParseRecordInto(*bytes, "a note", stored));
  }
  return Note{.text = stored.text(), .labels = {stored.labels().begin(), stored.labels().end()}};
}

absl::Status Notes::Annotate(std::string_view reference, const Note& note) {
  BDH_RETURN_IF_ERROR(CheckNote(note));
  v1::StoredNote stored;
  stored.set_text(note.text);
  for (const auto& [key, value] : note.labels) (*stored.mutable_labels())[key] = value;
  const auto set = [&](Draft& draft) -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(reference));
    if (note.text.empty() && note.labels.empty()) {
      draft.Delete(own::kNotes, IdKey(record.id()));
    } else {
      draft.Put(own::kNotes, IdKey(record.id()), stored.SerializeAsString());
    }
    return absl::OkStatus();
  };
  return ledger_.Apply(set).status();
}

absl::StatusOr<Note> Notes::Get(std::string_view reference) const {
  const Snapshot snapshot(database_);
  BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(reference, snapshot.get()));
  return NoteOf(record.id(), snapshot.get());
}

absl::StatusOr<Store::FoundPage> Notes::Search(const std::map<std::string, std::string>& labels,
                                               std::string_view run, int size, std::string_view token) const {
  Store::FoundPage found;
  const Snapshot snapshot(database_);
  const auto wanted = [&](const v1::StoredCheckpoint& record) -> absl::StatusOr<bool> {
    BDH_ASSIGN_OR_RETURN(Note note, NoteOf(record.id(), snapshot.get()));
    if (!HasAll(note, labels)) return false;
    found.notes.push_back(std::move(note));
    return true;
  };
  BDH_ASSIGN_OR_RETURN(Store::Page page, catalog_.List(run, size, token, snapshot.get(), wanted));
  found.checkpoints = std::move(page.checkpoints);
  found.notes.resize(found.checkpoints.size());  // One more may have been seen to know that a page follows.
  found.next_token = std::move(page.next_token);
  return found;
}

absl::StatusOr<Pin> Notes::PinCheckpoint(std::string_view reference, std::string_view holder,
                                         absl::Duration duration) {
  if (holder.empty() || holder.size() > kMaxHolderBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("holder has %d bytes; want 1 to %d", holder.size(), kMaxHolderBytes));
  }
  if (duration <= absl::ZeroDuration() || duration > kMaxPin) {
    return absl::InvalidArgumentError(absl::StrFormat("lease_duration is %s; want more than 0, at most %s",
                                                      absl::FormatDuration(duration),
                                                      absl::FormatDuration(kMaxPin)));
  }
  Pin pin{.checkpoint = "", .holder = std::string(holder), .expire_time = {}};
  const auto set = [&](Draft& draft) -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const v1::StoredCheckpoint record, catalog_.Find(reference));
    pin.checkpoint = record.name();
    v1::StoredPin stored;
    stored.set_expire_time_us(absl::ToUnixMicros(options_.clock() + duration));
    pin.expire_time = absl::FromUnixMicros(stored.expire_time_us());
    draft.Put(own::kPins, WithZero(record.name()) + pin.holder, stored.SerializeAsString());
    return absl::OkStatus();
  };
  BDH_RETURN_IF_ERROR(ledger_.Apply(set).status());
  return pin;
}

absl::Status Notes::Unpin(std::string_view checkpoint, std::string_view holder) {
  BDH_RETURN_IF_ERROR(CheckCheckpointName(checkpoint));
  const std::string key = WithZero(checkpoint) + std::string(holder);
  BDH_ASSIGN_OR_RETURN(const auto pin, GetRecord(database_, own::kPins, key));
  if (!pin.has_value()) return absl::OkStatus();
  const auto remove = [&](Draft& draft) {
    draft.Delete(own::kPins, key);
    return absl::OkStatus();
  };
  return ledger_.Apply(remove).status();
}

absl::StatusOr<std::vector<Pin>> Notes::ListPins() const {
  BDH_ASSIGN_OR_RETURN(const auto records, ScanRecords(database_, own::kPins, "", "", SIZE_MAX));
  const absl::Time now = options_.clock();
  std::vector<Pin> pins;
  for (const Record& record : records) {
    BDH_ASSIGN_OR_RETURN(const absl::Time until, PinnedUntil(record.value));
    const size_t zero = record.key.find('\0');
    if (until <= now || zero == std::string::npos) continue;
    pins.push_back({.checkpoint = record.key.substr(0, zero),
                    .holder = record.key.substr(zero + 1),
                    .expire_time = until});
  }
  return pins;
}

}  // namespace bdh::store
