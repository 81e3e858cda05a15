#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "bdh/store/records.h"
#include "bdh/v1/store_manifest.pb.h"
#include "database.h"

namespace bdh::store {

// Tables of records that the store itself keeps; the underscore keeps them from colliding with others'.
namespace own {
inline constexpr std::string_view kBlobs = "_blobs";             // Id -> StoredBlob
inline constexpr std::string_view kDamage = "_damage";           // SHA-256 -> StoredDamage
inline constexpr std::string_view kNotes = "_notes";             // Id of a checkpoint -> StoredNote
inline constexpr std::string_view kPins = "_pins";               // Checkpoint, 0, holder -> StoredPin
inline constexpr std::string_view kRetention = "_retention";     // Run, or empty -> StoredRetention
inline constexpr std::string_view kScrub = "_scrub";             // -> StoredScrub
inline constexpr std::string_view kTagChanges = "_tag_changes";  // Tag, 0, number -> StoredTagChange
}  // namespace own

// The key in table `records`.
std::string RecordKey(std::string_view table, std::string_view key);

absl::StatusOr<std::vector<Record>> ScanRecords(const Database& database, std::string_view table,
                                                std::string_view prefix, std::string_view after, size_t limit,
                                                const rocksdb::Snapshot* snapshot = nullptr);
absl::StatusOr<std::optional<std::string>> GetRecord(const Database& database, std::string_view table,
                                                     std::string_view key,
                                                     const rocksdb::Snapshot* snapshot = nullptr);

// The value of a record, parsed. DataLossError: it is no such message.
template <class Message>
absl::Status ParseRecordInto(std::string_view bytes, std::string_view what, Message& out) {
  if (out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::OkStatus();
  return absl::DataLossError("the record of " + std::string(what) + " is damaged");
}

// One change of the store on its way: the batch, and the state after it.
class Draft final : public Transaction {
 public:
  Draft(const Database& database, v1::StoredState state) : state(std::move(state)), database_(database) {}

  absl::StatusOr<std::optional<std::string>> Get(std::string_view table, std::string_view key) override;
  absl::StatusOr<std::vector<Record>> Scan(std::string_view table, std::string_view prefix,
                                           std::string_view after, size_t limit) override;
  void Put(std::string_view table, std::string_view key, std::string_view value) override;
  void Delete(std::string_view table, std::string_view key) override;
  absl::Status DeleteBlob(uint64_t id) override;

  // Runs what a caller adds, which may use its own tables only.
  absl::Status Run(const Change& change);

  // Objects that this change unlists: their chunks are to be collected once it is durable.
  const std::vector<uint64_t>& unlisted() const { return unlisted_; }
  // Takes an object out of sight; its chunks are freed after the change, also if a crash comes between.
  void Unlist(uint64_t id);

  rocksdb::WriteBatch batch;
  v1::StoredState state;

 private:
  const Database& database_;
  std::map<std::string, std::optional<std::string>> written_;  // By the key in the table.
  std::vector<uint64_t> unlisted_;
  absl::Status misused_;
  bool by_caller_ = false;
};

}  // namespace bdh::store
