// What is said about checkpoints beside their content: notes and labels, pins, where tags pointed before.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/care.h"
#include "catalog.h"
#include "draft.h"
#include "ledger.h"

namespace bdh::store {

// FailedPreconditionError: somebody reads the checkpoint and has pinned it. Pins that have ended go with
// `draft`.
absl::Status CheckUnpinned(const Database& database, std::string_view checkpoint, absl::Time now,
                           Draft* draft = nullptr);

// Adds to the history of a tag; `now.checkpoint` is empty when the tag goes.
absl::Status NoteTagChange(std::string_view tag, const v1::StoredTag& now, Draft& draft);

// Thread-safe.
class Notes {
 public:
  Notes(const Store::Options& options, const Database& database, const Catalog& catalog, Ledger& ledger)
      : options_(options), database_(database), catalog_(catalog), ledger_(ledger) {}

  absl::StatusOr<std::vector<TagChange>> TagHistory(std::string_view tag, int limit) const;

  absl::Status Annotate(std::string_view reference, const Note& note);
  absl::StatusOr<Note> Get(std::string_view reference) const;
  absl::StatusOr<Store::FoundPage> Search(const std::map<std::string, std::string>& labels,
                                          std::string_view run, int size, std::string_view token) const;

  absl::StatusOr<Pin> PinCheckpoint(std::string_view reference, std::string_view holder,
                                    absl::Duration duration);
  absl::Status Unpin(std::string_view checkpoint, std::string_view holder);
  absl::StatusOr<std::vector<Pin>> ListPins() const;

 private:
  absl::StatusOr<Note> NoteOf(uint64_t id, const rocksdb::Snapshot* snapshot) const;

  const Store::Options& options_;
  const Database& database_;
  const Catalog& catalog_;
  Ledger& ledger_;
};

}  // namespace bdh::store
