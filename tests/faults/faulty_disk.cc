#include "faulty_disk.h"

#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace bdh::faults {
namespace {

constexpr size_t kSector = 512;

struct Write {
  size_t offset;
  std::string bytes;
};

struct Inode {
  std::string now, durable;
  std::vector<Write> unsynced;
};

using Names = std::map<std::string, std::shared_ptr<Inode>>;

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// "/a//b/" and "/a/b" are one.
std::string Clean(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (c != '/' || out.empty() || out.back() != '/') out += c;
  }
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

void Apply(std::string& bytes, size_t offset, std::string_view piece) {
  if (bytes.size() < offset + piece.size()) bytes.resize(offset + piece.size());
  std::memcpy(&bytes[offset], piece.data(), piece.size());
}

enum class Fault { kNone, kFull, kMissing, kExists };

// Changes of names that happen at once.
using NameChange = std::vector<std::pair<std::string, std::shared_ptr<Inode>>>;

void Apply(const NameChange& change, Names& names) {
  for (const auto& [path, inode] : change) {
    if (inode == nullptr) {
      names.erase(path);
    } else {
      names[path] = inode;
    }
  }
}

// Which names a disk has after it lost power, and which it may have: by folder, what was not synced, in
// order.
struct Folders {
  Names durable;
  std::map<std::string, std::vector<NameChange>> journal;

  void Settle(const NameChange& change) { Apply(change, durable); }

  // One that nobody else writes to.
  Folders Copy() const {
    std::map<Inode*, std::shared_ptr<Inode>> copies;
    const auto copy = [&](const std::shared_ptr<Inode>& inode) {
      if (inode == nullptr) return inode;
      auto& made = copies[inode.get()];
      if (made == nullptr) made = std::make_shared<Inode>(Inode{"", inode->durable, inode->unsynced});
      return made;
    };
    Folders out;
    for (const auto& [path, inode] : durable) out.durable[path] = copy(inode);
    for (const auto& [folder, changes] : journal) {
      for (const NameChange& change : changes) {
        NameChange& added = out.journal[folder].emplace_back();
        for (const auto& [path, inode] : change) added.emplace_back(path, copy(inode));
      }
    }
    return out;
  }
};

}  // namespace

struct FaultyDisk::Image {
  std::map<std::string, std::string> files;
};

struct FaultyDisk::Core {
  mutable std::mutex mutex;
  Names now;
  Folders disk;
  std::optional<Folders> cut;  // What the disk held when the power went.
  int64_t cut_after = 0, capacity = -1;
  std::set<std::string> locks;

  // With each write, sync or change of a name the power may go.
  void Spend() {
    if (cut_after > 0 && --cut_after == 0) cut = disk.Copy();
  }
  void Change(const NameChange& change) {
    Apply(change, now);
    disk.journal[FolderOf(change.front().first)].push_back(change);
    Spend();
  }
  int64_t Used() const {
    int64_t bytes = 0;
    for (const auto& [path, inode] : now) bytes += static_cast<int64_t>(inode->now.size());
    return bytes;
  }
  Fault WriteAt(Inode& inode, size_t offset, std::string_view bytes) {
    const std::lock_guard lock(mutex);
    const size_t end = offset + bytes.size();
    const auto grows = static_cast<int64_t>(end > inode.now.size() ? end - inode.now.size() : 0);
    if (capacity >= 0 && grows > 0 && Used() + grows > capacity) return Fault::kFull;
    Apply(inode.now, offset, bytes);
    // Before the power goes: the last write may have come to the disk in part.
    inode.unsynced.push_back({offset, std::string(bytes)});
    Spend();
    return Fault::kNone;
  }
  void Sync(Inode& inode) {
    const std::lock_guard lock(mutex);
    Spend();
    inode.durable = inode.now;
    inode.unsynced.clear();
  }
  void SyncFolder(const std::string& folder) {
    const std::lock_guard lock(mutex);
    Spend();
    for (const NameChange& change : disk.journal[folder]) disk.Settle(change);
    disk.journal.erase(folder);
  }
  std::shared_ptr<Inode> Find(const std::string& path) const {
    const auto found = now.find(Clean(path));
    return found == now.end() ? nullptr : found->second;
  }
};

namespace {

using Core = FaultyDisk::Core;

absl::Status ToStatus(Fault fault, const std::string& doing) {
  switch (fault) {
    case Fault::kNone:
      return absl::OkStatus();
    case Fault::kFull:
      return absl::ResourceExhaustedError(doing + ": No space left on device");
    case Fault::kMissing:
      return absl::NotFoundError(doing + ": No such file");
    case Fault::kExists:
      return absl::AlreadyExistsError(doing + ": File exists");
  }
  return absl::OkStatus();
}

rocksdb::IOStatus ToIo(Fault fault) {
  switch (fault) {
    case Fault::kNone:
      return rocksdb::IOStatus::OK();
    case Fault::kFull:
      return rocksdb::IOStatus::NoSpace("No space left on device");
    case Fault::kMissing:
      return rocksdb::IOStatus::PathNotFound("No such file");
    case Fault::kExists:
      return rocksdb::IOStatus::IOError("File exists");
  }
  return rocksdb::IOStatus::OK();
}

// ---- Under the store's own files ----

class PlainFile final : public store::File {
 public:
  PlainFile(std::shared_ptr<Core> core, std::shared_ptr<Inode> inode, std::string path)
      : core_(std::move(core)), inode_(std::move(inode)), path_(std::move(path)) {}
  absl::Status WriteAt(int64_t offset, std::string_view bytes) override {
    return ToStatus(core_->WriteAt(*inode_, static_cast<size_t>(offset), bytes), "write " + path_);
  }
  absl::Status ReadAt(int64_t offset, size_t size, char* out) const override {
    const std::lock_guard lock(core_->mutex);
    if (static_cast<size_t>(offset) + size > inode_->now.size())
      return absl::DataLossError(path_ + " ends before");
    std::memcpy(out, inode_->now.data() + offset, size);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    core_->Sync(*inode_);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Inode> inode_;
  const std::string path_;
};

class PlainFiles final : public store::Files {
 public:
  explicit PlainFiles(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  absl::StatusOr<std::unique_ptr<store::File>> Open(const std::string& given, Mode mode) override {
    const std::string path = Clean(given);
    std::shared_ptr<Inode> inode;
    {
      const std::lock_guard lock(core_->mutex);
      inode = core_->Find(path);
      if (inode == nullptr && mode == Mode::kRead) return ToStatus(Fault::kMissing, "open " + path);
      if (inode != nullptr && mode == Mode::kCreate) return ToStatus(Fault::kExists, "open " + path);
      if (inode == nullptr) {
        inode = std::make_shared<Inode>();
        core_->Change({{path, inode}});
      }
    }
    return std::make_unique<PlainFile>(core_, inode, path);
  }
  absl::Status Remove(const std::string& path) override {
    const std::lock_guard lock(core_->mutex);
    core_->Change({{Clean(path), nullptr}});
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<Entry>> List(const std::string& given) override {
    const std::string folder = Clean(given);
    std::vector<Entry> entries;
    const std::lock_guard lock(core_->mutex);
    for (const auto& [path, inode] : core_->now) {
      if (FolderOf(path) != folder) continue;
      entries.push_back({path.substr(folder.size() + 1), static_cast<int64_t>(inode->now.size())});
    }
    return entries;
  }
  absl::Status MakeFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncFolder(const std::string& folder) override {
    core_->SyncFolder(Clean(folder));
    return absl::OkStatus();
  }
  int64_t FreeBytes(const std::string&) override {
    const std::lock_guard lock(core_->mutex);
    return core_->capacity < 0 ? INT64_MAX : std::max<int64_t>(0, core_->capacity - core_->Used());
  }
  absl::StatusOr<std::shared_ptr<void>> Lock(const std::string& path,
                                             std::string_view busy_message) override {
    const std::lock_guard lock(core_->mutex);
    if (!core_->locks.insert(path).second) return absl::FailedPreconditionError(std::string(busy_message));
    return std::shared_ptr<void>(nullptr, [core = core_, path](void*) {
      const std::lock_guard held(core->mutex);
      core->locks.erase(path);
    });
  }

 private:
  const std::shared_ptr<Core> core_;
};

// ---- Under RocksDB ----

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(std::shared_ptr<Core> core, std::shared_ptr<Inode> inode)
      : core_(std::move(core)), inode_(std::move(inode)), size_(inode_->now.size()) {}
  using FSWritableFile::Append;
  using FSWritableFile::PositionedAppend;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    const Fault fault = core_->WriteAt(*inode_, size_, {data.data(), data.size()});
    if (fault == Fault::kNone) size_ += data.size();
    return ToIo(fault);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return size == size_ ? IOStatus::OK() : IOStatus::NotSupported("truncate");
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    core_->Sync(*inode_);
    return IOStatus::OK();
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return size_; }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Inode> inode_;
  size_t size_;
};

IOStatus ReadInode(const Core& core, const Inode& inode, uint64_t offset, size_t n, Slice* result,
                   char* scratch) {
  const std::lock_guard lock(core.mutex);
  const size_t begin = std::min<size_t>(offset, inode.now.size());
  const size_t size = std::min(n, inode.now.size() - begin);
  std::memcpy(scratch, inode.now.data() + begin, size);
  *result = Slice(scratch, size);
  return IOStatus::OK();
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  SequentialFile(std::shared_ptr<Core> core, std::shared_ptr<Inode> inode)
      : core_(std::move(core)), inode_(std::move(inode)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    const IOStatus status = ReadInode(*core_, *inode_, offset_, n, result, scratch);
    if (status.ok()) offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Inode> inode_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  RandomAccessFile(std::shared_ptr<Core> core, std::shared_ptr<Inode> inode)
      : core_(std::move(core)), inode_(std::move(inode)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadInode(*core_, *inode_, offset, n, result, scratch);
  }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Inode> inode_;
};

class Folder final : public rocksdb::FSDirectory {
 public:
  Folder(std::shared_ptr<Core> core, std::string path) : core_(std::move(core)), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    core_->SyncFolder(path_);
    return IOStatus::OK();
  }

 private:
  const std::shared_ptr<Core> core_;
  const std::string path_;
};

// RocksDB's own log is not what is looked at here.
class Silence final : public rocksdb::Logger {
 public:
  using Logger::Logv;
  void Logv(const char*, va_list) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class NoLock final : public rocksdb::FileLock {};

class FaultyFileSystem final : public rocksdb::FileSystem {
 public:
  explicit FaultyFileSystem(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  const char* Name() const override { return "FaultyFileSystem"; }

  IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result, IODebugContext*) override {
    const auto inode = Look(path);
    if (inode == nullptr) return ToIo(Fault::kMissing);
    *result = std::make_unique<SequentialFile>(core_, inode);
    return IOStatus::OK();
  }
  IOStatus NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext*) override {
    const auto inode = Look(path);
    if (inode == nullptr) return ToIo(Fault::kMissing);
    *result = std::make_unique<RandomAccessFile>(core_, inode);
    return IOStatus::OK();
  }
  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    std::shared_ptr<Inode> inode;
    {
      const std::lock_guard lock(core_->mutex);
      inode = std::make_shared<Inode>();  // One that was there is replaced.
      core_->Change({{Clean(path), inode}});
    }
    *result = std::make_unique<WritableFile>(core_, inode);
    return IOStatus::OK();
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result, IODebugContext*) override {
    *result = std::make_unique<Folder>(core_, Clean(path));
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    return Look(path) != nullptr ? IOStatus::OK() : IOStatus::NotFound();
  }
  IOStatus GetChildren(const std::string& given, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    const std::string folder = Clean(given);
    result->clear();
    const std::lock_guard lock(core_->mutex);
    for (const auto& [path, inode] : core_->now) {
      if (FolderOf(path) == folder) result->push_back(path.substr(folder.size() + 1));
    }
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    const std::lock_guard lock(core_->mutex);
    if (core_->Find(path) == nullptr) return ToIo(Fault::kMissing);
    core_->Change({{Clean(path), nullptr}});
    return IOStatus::OK();
  }
  IOStatus CreateDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus CreateDirIfMissing(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override {
    const auto inode = Look(path);
    if (inode == nullptr) return ToIo(Fault::kMissing);
    const std::lock_guard lock(core_->mutex);
    *size = inode->now.size();
    return IOStatus::OK();
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* time,
                                   IODebugContext*) override {
    *time = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override {
    const std::lock_guard lock(core_->mutex);
    const auto inode = core_->Find(from);
    if (inode == nullptr) return ToIo(Fault::kMissing);
    core_->Change({{Clean(from), nullptr}, {Clean(to), inode}});
    return IOStatus::OK();
  }
  IOStatus LockFile(const std::string&, const IOOptions&, rocksdb::FileLock** lock,
                    IODebugContext*) override {
    *lock = new NoLock();
    return IOStatus::OK();
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete static_cast<NoLock*>(lock);
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<Silence>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* out,
                           IODebugContext*) override {
    *out = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_folder, IODebugContext*) override {
    *is_folder = Look(path) == nullptr;
    return IOStatus::OK();
  }

 private:
  std::shared_ptr<Inode> Look(const std::string& path) const {
    const std::lock_guard lock(core_->mutex);
    return core_->Find(path);
  }
  const std::shared_ptr<Core> core_;
};

// A write that came to the disk in part: to the end of a sector, or to somewhere within one.
void Tear(std::string& bytes, const Write& torn, std::mt19937_64& random) {
  size_t size = torn.bytes.empty() ? 0 : random() % torn.bytes.size();
  if (random() % 2 == 0) size -= std::min(size, (torn.offset + size) % kSector);
  Apply(bytes, torn.offset, std::string_view(torn.bytes).substr(0, size));
}

// What is left of a file after a power cut.
void Survive(Inode& inode, std::mt19937_64& random) {
  std::string bytes = inode.durable;
  const bool with_holes = random() % 4 == 0;
  const size_t whole = with_holes ? inode.unsynced.size() : random() % (inode.unsynced.size() + 1);
  for (size_t i = 0; i < whole; ++i) {
    if (!with_holes || random() % 2 == 0) Apply(bytes, inode.unsynced[i].offset, inode.unsynced[i].bytes);
  }
  if (whole < inode.unsynced.size() && random() % 2 == 0) Tear(bytes, inode.unsynced[whole], random);
  inode.now = inode.durable = std::move(bytes);
  inode.unsynced.clear();
}

}  // namespace

FaultyDisk::FaultyDisk()
    : core_(std::make_shared<Core>()),
      files_(std::make_unique<PlainFiles>(core_)),
      env_(rocksdb::NewCompositeEnv(std::make_shared<FaultyFileSystem>(core_))) {}

FaultyDisk::~FaultyDisk() = default;

void FaultyDisk::CutAfter(int64_t operations) {
  const std::lock_guard lock(core_->mutex);
  core_->cut_after = operations;
}

bool FaultyDisk::is_cut() const {
  const std::lock_guard lock(core_->mutex);
  return core_->cut.has_value();
}

void FaultyDisk::Restart(std::mt19937_64& random) {
  const std::lock_guard lock(core_->mutex);
  Folders left = core_->cut.has_value() ? *std::move(core_->cut) : core_->disk.Copy();
  // File systems write the changes of a folder to their journal in order: the first so many survive.
  for (const auto& [folder, changes] : left.journal) {
    const size_t count = random() % (changes.size() + 1);
    for (size_t i = 0; i < count; ++i) left.Settle(changes[i]);
  }
  left.journal.clear();
  for (const auto& [path, inode] : left.durable) Survive(*inode, random);
  core_->now = left.durable;
  core_->disk = std::move(left);
  core_->cut.reset();
  core_->cut_after = 0;
}

void FaultyDisk::SetCapacity(int64_t bytes) {
  const std::lock_guard lock(core_->mutex);
  core_->capacity = bytes;
}

int64_t FaultyDisk::used_bytes() const {
  const std::lock_guard lock(core_->mutex);
  return core_->Used();
}

bool FaultyDisk::FlipBit(const std::string& suffix, std::mt19937_64& random, std::string* where) {
  const std::lock_guard lock(core_->mutex);
  std::vector<std::pair<std::string, std::shared_ptr<Inode>>> found;
  for (const auto& [path, inode] : core_->now) {
    const bool fits =
        path.size() >= suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
    if (fits && !inode->now.empty()) found.emplace_back(path, inode);
  }
  if (found.empty()) return false;
  const auto& [path, inode] = found[random() % found.size()];
  const size_t byte = random() % inode->now.size();
  inode->now[byte] = static_cast<char>(inode->now[byte] ^ (1 << random() % 8));
  inode->durable = inode->now;
  *where = path + " byte " + std::to_string(byte);
  return true;
}

std::string FaultyDisk::Lose(const std::string& suffix, std::mt19937_64& random) {
  const std::lock_guard lock(core_->mutex);
  std::vector<std::string> found;
  for (const auto& [path, inode] : core_->now) {
    if (path.size() >= suffix.size() &&
        path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0) {
      found.push_back(path);
    }
  }
  if (found.empty()) return "";
  const std::string& path = found[random() % found.size()];
  core_->disk.durable.erase(path);
  core_->now.erase(path);
  return path;
}

std::shared_ptr<const FaultyDisk::Image> FaultyDisk::Save() const {
  const std::lock_guard lock(core_->mutex);
  auto image = std::make_shared<Image>();
  for (const auto& [path, inode] : core_->now) image->files[path] = inode->now;
  return image;
}

void FaultyDisk::Load(const Image& image) {
  const std::lock_guard lock(core_->mutex);
  core_->now.clear();
  for (const auto& [path, bytes] : image.files) {
    auto inode = std::make_shared<Inode>();
    inode->now = inode->durable = bytes;
    core_->now[path] = inode;
  }
  core_->disk = {.durable = core_->now, .journal = {}};
}

}  // namespace bdh::faults
