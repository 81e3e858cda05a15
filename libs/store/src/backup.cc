#include "backup.h"

#include <rocksdb/utilities/checkpoint.h>

#include <filesystem>
#include <memory>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"

namespace bdh::store {
namespace {

namespace fs = std::filesystem;

// Names the folder as a backup of ours, so that no other folder is ever cleared.
constexpr char kMark[] = "bdh-store-backup";

absl::Status CheckTarget(const std::string& folder) {
  std::error_code error;
  if (!fs::exists(folder, error) || fs::is_empty(folder, error)) return absl::OkStatus();
  if (fs::exists(folder + "/" + kMark, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s holds something that is no backup of a store; choose another folder", folder));
}

}  // namespace

absl::Status BackUpInto(const std::string& store_folder, const Database& database, const std::string& folder,
                        const std::function<bool(const BackUpProgress&)>& progress) {
  BDH_RETURN_IF_ERROR(CheckTarget(folder));
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_RETURN_IF_ERROR(WriteFileAtomically(folder + "/" + kMark, store_folder + "\n"));
  std::error_code error;
  fs::remove_all(folder + "/db.new", error);
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(&database.db(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  // The log is flushed first: the backup has tables only.
  if (status.ok()) status = checkpoint->CreateCheckpoint(folder + "/db.new", 0);
  BDH_RETURN_IF_ERROR(database.ToStatus(status, absl::StrFormat("back up into %s", folder)));
  // What a store opened there once wrote is replaced, and with it the witness of its changes.
  fs::remove(folder + "/high_water", error);
  fs::remove_all(folder + "/db", error);
  fs::rename(folder + "/db.new", folder + "/db", error);
  if (error) return absl::InternalError(absl::StrFormat("rename in %s: %s", folder, error.message()));
  BDH_RETURN_IF_ERROR(SyncDirectory(folder));
  if (progress) progress({});
  return absl::OkStatus();
}

}  // namespace bdh::store
