#include "backup.h"

#include <fcntl.h>
#include <rocksdb/utilities/checkpoint.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

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

absl::Status Told(const std::error_code& error, std::string_view doing) {
  if (!error) return absl::OkStatus();
  return ErrnoStatus(error.value(), doing);
}

absl::Status SyncPath(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const bool synced = fsync(descriptor) == 0;
  const int error = errno;
  close(descriptor);
  return synced ? absl::OkStatus() : ErrnoStatus(error, absl::StrFormat("sync %s", path));
}

// Packs do not change any more once they are sealed: one of the same name and size is the same.
absl::Status CopyPack(const std::string& from, const std::string& to, int64_t size) {
  std::error_code error;
  if (fs::exists(to, error) && static_cast<int64_t>(fs::file_size(to, error)) == size)
    return absl::OkStatus();
  fs::copy_file(from, to + ".new", fs::copy_options::overwrite_existing, error);
  BDH_RETURN_IF_ERROR(Told(error, absl::StrFormat("copy %s to %s", from, to)));
  BDH_RETURN_IF_ERROR(SyncPath(to + ".new"));
  fs::rename(to + ".new", to, error);
  return Told(error, absl::StrFormat("rename %s", to));
}

absl::StatusOr<std::set<std::string>> CopyPacks(Packs& packs, const std::string& folder,
                                                const std::function<bool(const BackUpProgress&)>& progress) {
  const std::vector<Packs::Sealed> sealed = packs.SealAll();
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BackUpProgress done;
  for (const Packs::Sealed& pack : sealed) done.bytes_total += pack.size_bytes;
  std::set<std::string> names;
  for (const Packs::Sealed& pack : sealed) {
    names.insert(pack.name);
    BDH_RETURN_IF_ERROR(
        CopyPack(packs.folder() + "/" + pack.name, folder + "/" + pack.name, pack.size_bytes));
    done.bytes_done += pack.size_bytes;
    if (progress && !progress(done)) return absl::CancelledError("the backup was broken off");
  }
  BDH_RETURN_IF_ERROR(SyncDirectory(folder));
  return names;
}

absl::Status CheckpointDatabase(const Database& database, const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(&database.db(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  // The log is flushed first: the backup has tables only.
  if (status.ok()) status = checkpoint->CreateCheckpoint(folder, 0);
  return database.ToStatus(status, absl::StrFormat("back up into %s", folder));
}

// The new database takes the place of the old one. Until it has, the folder opens as the backup before or is
// refused, since high_water knows of more changes; it never opens as an empty store.
absl::Status Swap(const std::string& folder, uint64_t sequence) {
  BDH_RETURN_IF_ERROR(WriteFileAtomically(folder + "/high_water", absl::StrFormat("%020d\n", sequence)));
  std::error_code error;
  fs::remove_all(folder + "/db.old", error);
  if (fs::exists(folder + "/db", error)) {
    fs::rename(folder + "/db", folder + "/db.old", error);
    BDH_RETURN_IF_ERROR(Told(error, absl::StrFormat("rename in %s", folder)));
  }
  fs::rename(folder + "/db.new", folder + "/db", error);
  BDH_RETURN_IF_ERROR(Told(error, absl::StrFormat("rename in %s", folder)));
  BDH_RETURN_IF_ERROR(SyncDirectory(folder));
  fs::remove_all(folder + "/db.old", error);
  return absl::OkStatus();
}

}  // namespace

absl::Status BackUpInto(const std::string& store_folder, const Database& database, Packs& packs,
                        uint64_t sequence, const std::string& folder,
                        const std::function<bool(const BackUpProgress&)>& progress) {
  BDH_RETURN_IF_ERROR(CheckTarget(folder));
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  BDH_RETURN_IF_ERROR(WriteFileAtomically(folder + "/" + kMark, store_folder + "\n"));
  const Packs::Reading reading(
      packs);  // What the database of this moment points to stays until it is copied.
  BDH_RETURN_IF_ERROR(CheckpointDatabase(database, folder + "/db.new"));
  BDH_ASSIGN_OR_RETURN(const std::set<std::string> names, CopyPacks(packs, folder + "/packs", progress));
  BDH_RETURN_IF_ERROR(Swap(folder, sequence));
  // Packs of the backup before that the store has rewritten since.
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder + "/packs", error)) {
    std::error_code stays;
    if (names.count(entry.path().filename().string()) == 0) fs::remove(entry.path(), stays);
  }
  return absl::OkStatus();
}

}  // namespace bdh::store
