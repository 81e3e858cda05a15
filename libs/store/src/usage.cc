#include "usage.h"

#include <filesystem>
#include <map>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "bdh/base/status_macros.h"
#include "draft.h"
#include "retention.h"

namespace bdh::store {
namespace {

constexpr std::string_view kBlobRun = "";  // No run is named so.

// What a file takes, not what it holds.
int64_t DiskBytes(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code gone;
    const auto size = entry->is_regular_file(gone) ? entry->file_size(gone) : 0;
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<Usage> MeasureUsage(const Database& database, const Catalog& catalog, const Chunks& chunks,
                                   const std::string& folder, Files& files) {
  Usage usage;
  const Snapshot snapshot(database);
  std::map<std::string, RunUsage, std::less<>> runs;
  absl::flat_hash_map<uint64_t, std::string> run_of;
  const auto records = database.NewIterator(Table::kCheckpoints, snapshot.get());
  for (records->SeekToFirst(); records->Valid(); records->Next()) {
    v1::StoredCheckpoint record;
    BDH_RETURN_IF_ERROR(ParseRecordInto(ToView(records->value()), "a checkpoint", record));
    const std::string run(RunOf(record.name()));
    RunUsage& mine = runs[run];
    mine.run = run;
    ++mine.checkpoints;
    mine.logical_bytes += static_cast<int64_t>(record.size_bytes());
    run_of.emplace(record.id(), run);
  }
  BDH_RETURN_IF_ERROR(database.ToStatus(records->status(), "walk the checkpoints"));
  BDH_ASSIGN_OR_RETURN(const auto blobs,
                       ScanRecords(database, own::kBlobs, "", "", SIZE_MAX, snapshot.get()));
  for (const Record& bytes : blobs) {
    v1::StoredBlob blob;
    BDH_RETURN_IF_ERROR(ParseRecordInto(bytes.value, "a blob", blob));
    usage.blob_bytes += static_cast<int64_t>(blob.size_bytes());
    run_of.emplace(blob.id(), kBlobRun);
  }
  absl::Status status;
  const auto visit = [&](const Digest& digest, int64_t size) {
    const auto owners = catalog.OwnersOf(digest, snapshot.get());
    if (!owners.ok()) {
      status = owners.status();
      return false;
    }
    std::set<std::string> holders;
    for (const uint64_t owner : *owners) {
      if (const auto run = run_of.find(owner); run != run_of.end()) holders.insert(run->second);
    }
    (holders.empty() ? usage.unreferenced_bytes : usage.stored_bytes) += size;
    if (holders.size() == 1 && *holders.begin() != kBlobRun) runs[*holders.begin()].unshared_bytes += size;
    return true;
  };
  BDH_RETURN_IF_ERROR(chunks.Walk(snapshot.get(), "", visit));
  BDH_RETURN_IF_ERROR(status);
  for (auto& [name, run] : runs) usage.runs.push_back(std::move(run));
  usage.disk_bytes = DiskBytes(folder);
  usage.disk_free_bytes = files.FreeBytes(folder);
  return usage;
}

}  // namespace bdh::store
