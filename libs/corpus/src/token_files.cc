#include "token_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::corpus {

std::string NumberedShards::PathOf(size_t number) const {
  return absl::StrFormat("%s/%s", options_.folder, options_.file_name(number));
}

absl::Status NumberedShards::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    BDH_RETURN_IF_ERROR(BeginFileIfNone());
    const int64_t capacity = options_.file_elements(files_.size());
    const int64_t room = (capacity - file_->elements()) * options_.element_bytes;
    const std::string_view now = bytes.substr(0, static_cast<size_t>(room));
    BDH_RETURN_IF_ERROR(file_->Append(now));
    elements_ += static_cast<int64_t>(now.size()) / options_.element_bytes;
    bytes.remove_prefix(now.size());
    if (file_->elements() == capacity) BDH_RETURN_IF_ERROR(EndFile());
  }
  return absl::OkStatus();
}

absl::Status NumberedShards::BeginFileIfNone() {
  if (file_ != nullptr) return absl::OkStatus();
  const std::string path = PathOf(files_.size());
  unlink(path.c_str());  // What a crash left after the last checkpoint.
  BDH_ASSIGN_OR_RETURN(file_, ShardWriter::Create(path, options_.element_bytes));
  return absl::OkStatus();
}

absl::Status NumberedShards::EndFile() {
  BDH_ASSIGN_OR_RETURN(ShardSummary summary, file_->Finish());
  files_.push_back({options_.file_name(files_.size()), std::move(summary)});
  file_.reset();
  return absl::OkStatus();
}

absl::StatusOr<NumberedShards::State> NumberedShards::Sync() {
  State state = {.files = files_, .open = {}};
  if (file_ == nullptr) return state;
  BDH_ASSIGN_OR_RETURN(state.open, file_->Sync());
  return state;
}

absl::Status NumberedShards::Restore(State state) {
  BDH_CHECK(elements_ == 0);
  for (size_t number = 0; number < state.files.size(); ++number) {
    const ShardSummary& summary = state.files[number].summary;
    BDH_RETURN_IF_ERROR(
        MappedShard::Open(PathOf(number), options_.element_bytes, summary.elements, summary.sha256).status());
    elements_ += summary.elements;
  }
  if (state.open.elements > 0) {
    BDH_ASSIGN_OR_RETURN(file_, ShardWriter::Resume(PathOf(state.files.size()), options_.element_bytes,
                                                    state.open.elements, state.open.sha256));
    elements_ += state.open.elements;
  }
  files_ = std::move(state.files);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NumberedShards::File>> NumberedShards::Finish() {
  if (file_ != nullptr) BDH_RETURN_IF_ERROR(EndFile());
  return files_;
}

WaitingBytes::~WaitingBytes() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status WaitingBytes::Append(std::string_view bytes) {
  memory_.append(bytes);
  return static_cast<int64_t>(memory_.size()) > memory_bytes_ ? Spill() : absl::OkStatus();
}

absl::Status WaitingBytes::OpenFile(int flags) {
  if (descriptor_ >= 0) return absl::OkStatus();
  descriptor_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
  if (descriptor_ < 0) return ErrnoStatus(errno, absl::StrFormat("create %s", path_));
  return absl::OkStatus();
}

absl::Status WaitingBytes::Spill() {
  BDH_RETURN_IF_ERROR(OpenFile(O_TRUNC));
  std::string_view rest = memory_;
  while (!rest.empty()) {
    const ssize_t written = pwrite(descriptor_, rest.data(), rest.size(), spilled_);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, absl::StrFormat("write %s", path_));
    rest.remove_prefix(static_cast<size_t>(written));
    spilled_ += written;
  }
  memory_.clear();
  return absl::OkStatus();
}

absl::Status WaitingBytes::ReadAt(int64_t position, std::string& out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        pread(descriptor_, out.data() + done, out.size() - done, position + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ErrnoStatus(got < 0 ? errno : EIO, absl::StrFormat("read %s", path_));
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status WaitingBytes::Take(int64_t bytes, const std::function<absl::Status(std::string_view)>& consume) {
  BDH_CHECK(bytes <= size());
  std::string buffer;
  while (bytes > 0 && taken_ < spilled_) {
    buffer.resize(static_cast<size_t>(std::min({spilled_ - taken_, bytes, int64_t{1} << 20})));
    BDH_RETURN_IF_ERROR(ReadAt(taken_, buffer));
    BDH_RETURN_IF_ERROR(consume(buffer));
    taken_ += static_cast<int64_t>(buffer.size());
    bytes -= static_cast<int64_t>(buffer.size());
  }
  if (bytes > 0) {
    const std::string_view waiting =
        std::string_view(memory_).substr(static_cast<size_t>(taken_ - spilled_), static_cast<size_t>(bytes));
    BDH_RETURN_IF_ERROR(consume(waiting));
    taken_ += bytes;
  }
  return EmptyIfAllTaken();
}

absl::Status WaitingBytes::EmptyIfAllTaken() {
  if (size() > 0) return absl::OkStatus();
  if (spilled_ > 0 && ftruncate(descriptor_, 0) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("empty %s", path_));
  }
  memory_.clear();
  spilled_ = taken_ = 0;
  return absl::OkStatus();
}

absl::Status WaitingBytes::Sync() {
  BDH_CHECK(taken_ == 0);
  if (size() == 0) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(Spill());
  if (fdatasync(descriptor_) != 0) return ErrnoStatus(errno, absl::StrFormat("sync %s", path_));
  return absl::OkStatus();
}

absl::Status WaitingBytes::Restore(int64_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(OpenFile(0));
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path_));
  if (status.st_size < bytes) return absl::DataLossError(absl::StrFormat("%s is shorter than it was", path_));
  spilled_ = bytes;
  return absl::OkStatus();
}

void WaitingBytes::Remove() {
  unlink(path_.c_str());
}

}  // namespace bdh::corpus
