#include "bdh/corpus/dataset_builder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "manifest.h"
#include "sha256.h"
#include "shard.h"

namespace bdh::corpus {
namespace {

constexpr size_t kSampleBytes = 1024;
// Text tokenized at once, so that the token buffer stays small whatever the caller hands in.
constexpr size_t kEncodeBytes = size_t{1} << 16;

int TokenBytes(int vocab_size) {
  return vocab_size <= 1 << 8 ? 1 : vocab_size <= 1 << 16 ? 2 : 4;
}

template <class T>
void StoreAs(const std::vector<int32_t>& tokens, std::string& out) {
  out.resize(tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const T token = static_cast<T>(tokens[i]);
    std::memcpy(out.data() + i * sizeof(T), &token, sizeof(T));
  }
}

void Store(const std::vector<int32_t>& tokens, int token_bytes, std::string& out) {
  if (token_bytes == 1) return StoreAs<uint8_t>(tokens, out);
  if (token_bytes == 2) return StoreAs<uint16_t>(tokens, out);
  StoreAs<uint32_t>(tokens, out);
}

std::string_view AsBytes(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

}  // namespace

ContentHash::ContentHash(std::string_view tokenizer, double validation_fraction)
    : all_(std::make_unique<Sha256>()), document_(std::make_unique<Sha256>()) {
  all_->Update(absl::StrFormat("bdh-dataset 1\n%s\n%.17g\n", tokenizer, validation_fraction));
}

ContentHash::~ContentHash() = default;

void ContentHash::BeginDocument() {
  EndDocument();
  in_document_ = true;
}

void ContentHash::Append(std::string_view text) {
  document_bytes_ += text.size();
  document_->Update(text);
}

void ContentHash::EndDocument() {
  if (!in_document_) return;
  all_->Update(AsBytes(document_bytes_));
  all_->Update(document_->Finish());
  document_bytes_ = 0;
  in_document_ = false;
}

std::string ContentHash::Finish() {
  EndDocument();
  return all_->FinishHex();
}

// A run of elements over as many files as it takes. A file is begun when there is something for it.
class DatasetBuilder::SplitWriter {
 public:
  // `file_name` names the file of a given number.
  SplitWriter(std::string folder, std::function<std::string(size_t)> file_name, int element_bytes,
              int64_t file_elements)
      : folder_(std::move(folder)),
        file_name_(std::move(file_name)),
        element_bytes_(element_bytes),
        file_elements_(file_elements) {}

  absl::Status Append(std::string_view bytes) {
    while (!bytes.empty()) {
      BDH_RETURN_IF_ERROR(BeginFileIfNone());
      const int64_t room = (file_elements_ - file_->elements()) * element_bytes_;
      const std::string_view now = bytes.substr(0, static_cast<size_t>(room));
      BDH_RETURN_IF_ERROR(file_->Append(now));
      elements_ += static_cast<int64_t>(now.size()) / element_bytes_;
      bytes.remove_prefix(now.size());
      if (file_->elements() == file_elements_) BDH_RETURN_IF_ERROR(EndFile());
    }
    return absl::OkStatus();
  }

  int64_t elements() const { return elements_; }

  struct File {
    std::string name;
    ShardSummary summary;
  };
  absl::StatusOr<std::vector<File>> Finish() {
    if (file_ != nullptr) BDH_RETURN_IF_ERROR(EndFile());
    return std::move(files_);
  }

 private:
  absl::Status BeginFileIfNone() {
    if (file_ != nullptr) return absl::OkStatus();
    const std::string path = absl::StrFormat("%s/%s", folder_, file_name_(files_.size()));
    BDH_ASSIGN_OR_RETURN(file_, ShardWriter::Create(path, element_bytes_));
    return absl::OkStatus();
  }

  absl::Status EndFile() {
    BDH_ASSIGN_OR_RETURN(ShardSummary summary, file_->Finish());
    files_.push_back({file_name_(files_.size()), std::move(summary)});
    file_.reset();
    return absl::OkStatus();
  }

  const std::string folder_;
  const std::function<std::string(size_t)> file_name_;
  const int element_bytes_;
  const int64_t file_elements_;
  std::unique_ptr<ShardWriter> file_;
  std::vector<File> files_;
  int64_t elements_ = 0;
};

// The bytes of one document until its end is known: in memory, then in a file that has no name.
class DatasetBuilder::Spool {
 public:
  Spool(std::string folder, int64_t memory_bytes) : folder_(std::move(folder)), memory_bytes_(memory_bytes) {}
  ~Spool() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  absl::Status Append(std::string_view bytes) {
    memory_.append(bytes);
    return static_cast<int64_t>(memory_.size()) > memory_bytes_ ? Spill() : absl::OkStatus();
  }

  int64_t size() const { return spilled_ + static_cast<int64_t>(memory_.size()); }

  // Hands the first `head_bytes` to `head`, the rest to `tail`, and is empty.
  absl::Status Drain(int64_t head_bytes, SplitWriter& head, SplitWriter& tail) {
    int64_t position = 0;
    const auto give = [&](std::string_view bytes) -> absl::Status {
      const int64_t to_head =
          std::clamp<int64_t>(head_bytes - position, 0, static_cast<int64_t>(bytes.size()));
      position += static_cast<int64_t>(bytes.size());
      BDH_RETURN_IF_ERROR(head.Append(bytes.substr(0, static_cast<size_t>(to_head))));
      return tail.Append(bytes.substr(static_cast<size_t>(to_head)));
    };
    std::string buffer;
    while (position < spilled_) {
      buffer.resize(static_cast<size_t>(std::min<int64_t>(spilled_ - position, 1 << 20)));
      BDH_RETURN_IF_ERROR(ReadAt(position, buffer));
      BDH_RETURN_IF_ERROR(give(buffer));
    }
    BDH_RETURN_IF_ERROR(give(memory_));
    memory_.clear();
    return Empty();
  }

 private:
  absl::Status Spill() {
    if (descriptor_ < 0) descriptor_ = open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor_ < 0) return OpenNamed();
    return WriteOut();
  }

  // Not every file system knows O_TMPFILE.
  absl::Status OpenNamed() {
    const std::string path = absl::StrFormat("%s/spool", folder_);
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor_ < 0) return ErrnoStatus(errno, absl::StrFormat("create %s", path));
    unlink(path.c_str());
    return WriteOut();
  }

  absl::Status WriteOut() {
    std::string_view rest = memory_;
    while (!rest.empty()) {
      const ssize_t written = pwrite(descriptor_, rest.data(), rest.size(), spilled_);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, absl::StrFormat("write a temporary file in %s", folder_));
      rest.remove_prefix(static_cast<size_t>(written));
      spilled_ += written;
    }
    memory_.clear();
    return absl::OkStatus();
  }

  absl::Status ReadAt(int64_t position, std::string& out) const {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got =
          pread(descriptor_, out.data() + done, out.size() - done, position + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        return ErrnoStatus(got < 0 ? errno : EIO, absl::StrFormat("read a temporary file in %s", folder_));
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

  absl::Status Empty() {
    if (spilled_ > 0 && ftruncate(descriptor_, 0) != 0) {
      return ErrnoStatus(errno, absl::StrFormat("empty a temporary file in %s", folder_));
    }
    spilled_ = 0;
    return absl::OkStatus();
  }

  const std::string folder_;
  const int64_t memory_bytes_;
  std::string memory_;
  int descriptor_ = -1;
  int64_t spilled_ = 0;
};

absl::StatusOr<std::unique_ptr<DatasetBuilder>> DatasetBuilder::Create(Options options) {
  auto builder = std::unique_ptr<DatasetBuilder>(new DatasetBuilder(std::move(options)));
  BDH_RETURN_IF_ERROR(builder->Start());
  return builder;
}

DatasetBuilder::DatasetBuilder(Options options)
    : options_(std::move(options)), hash_(options_.tokenizer->name(), options_.validation_fraction) {
  info_.name = options_.name;
  info_.tokenizer = std::string(options_.tokenizer->name());
  info_.vocab_size = options_.tokenizer->vocab_size();
  info_.token_bytes = TokenBytes(info_.vocab_size);
  info_.validation_fraction = options_.validation_fraction;
}

DatasetBuilder::~DatasetBuilder() {
  if (finished_ || !folder_made_) return;
  std::error_code ignored;  // What cannot be removed now is removed when the store is opened again.
  std::filesystem::remove_all(options_.folder, ignored);
}

absl::Status DatasetBuilder::Start() {
  if (mkdir(options_.folder.c_str(), 0755) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("create folder %s", options_.folder));
  }
  folder_made_ = true;
  const auto numbered = [](Split split) {
    return [split](size_t number) { return absl::StrFormat("%s-%05d.tokens", SplitName(split), number); };
  };
  train_ = std::make_unique<SplitWriter>(options_.folder, numbered(Split::kTrain), info_.token_bytes,
                                         options_.shard_tokens);
  validation_ = std::make_unique<SplitWriter>(options_.folder, numbered(Split::kValidation),
                                              info_.token_bytes, options_.shard_tokens);
  index_ = std::make_unique<SplitWriter>(
      options_.folder, [](size_t) { return std::string(kIndexFile); }, sizeof(int64_t), INT64_MAX / 8);
  spool_ = std::make_unique<Spool>(options_.folder, options_.document_buffer_bytes);
  return absl::OkStatus();
}

absl::Status DatasetBuilder::BeginDocument() {
  BDH_RETURN_IF_ERROR(EndDocument());
  hash_.BeginDocument();
  in_document_ = true;
  ++info_.documents;
  return absl::OkStatus();
}

absl::Status DatasetBuilder::Append(std::string_view text) {
  BDH_CHECK(in_document_) << "BeginDocument comes first";
  hash_.Append(text);
  info_.bytes_in += static_cast<int64_t>(text.size());
  // Documents without text add nothing, so this is still the first that has some.
  if (tokens_ == spool_->size() / info_.token_bytes && info_.sample.size() < kSampleBytes) {
    info_.sample.append(text.substr(0, kSampleBytes - info_.sample.size()));
  }
  while (!text.empty()) {
    // Bytes may be cut anywhere. A tokenizer whose tokens span pieces will need one that carries over.
    const std::string_view piece = text.substr(0, kEncodeBytes);
    text.remove_prefix(piece.size());
    encoded_.clear();
    options_.tokenizer->Encode(piece, encoded_);
    Store(encoded_, info_.token_bytes, stored_);
    tokens_ += static_cast<int64_t>(encoded_.size());
    BDH_RETURN_IF_ERROR(spool_->Append(stored_));
  }
  return absl::OkStatus();
}

absl::Status DatasetBuilder::EndDocument() {
  if (!in_document_) return absl::OkStatus();
  in_document_ = false;
  const int64_t tokens = spool_->size() / info_.token_bytes;
  const auto tail = static_cast<int64_t>(static_cast<double>(tokens) * options_.validation_fraction);
  BDH_RETURN_IF_ERROR(spool_->Drain((tokens - tail) * info_.token_bytes, *train_, *validation_));
  const Dataset::DocumentEnd end = {train_->elements(), validation_->elements()};
  return index_->Append(AsBytes(end));
}

absl::Status DatasetBuilder::CheckSplits() const {
  if (train_->elements() == 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "data set '%s' has no text: %d documents with %d bytes in all; send text or name files", info_.name,
        info_.documents, info_.bytes_in));
  }
  if (validation_->elements() == 0 && options_.validation_fraction > 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the validation split of data set '%s' would be empty: validation_fraction %g of %d "
                        "tokens in %d documents; "
                        "give longer documents, a larger share, or validation_fraction 0 for none",
                        info_.name, options_.validation_fraction, tokens_, info_.documents));
  }
  return absl::OkStatus();
}

absl::Status DatasetBuilder::FinishFiles() {
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    SplitWriter& writer = split == Split::kTrain ? *train_ : *validation_;
    (split == Split::kTrain ? info_.train_tokens : info_.validation_tokens) = writer.elements();
    BDH_ASSIGN_OR_RETURN(auto files, writer.Finish());
    for (auto& [name, summary] : files) {
      info_.shards.push_back({name, split, summary.elements, summary.size_bytes, summary.sha256});
    }
  }
  BDH_ASSIGN_OR_RETURN(const auto index, index_->Finish());
  info_.index_sha256 = index.at(0).summary.sha256;
  return absl::OkStatus();
}

absl::StatusOr<DatasetInfo> DatasetBuilder::Finish() {
  BDH_RETURN_IF_ERROR(EndDocument());
  BDH_RETURN_IF_ERROR(CheckSplits());
  BDH_RETURN_IF_ERROR(FinishFiles());
  info_.hash = hash_.Finish();
  info_.create_time = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()));  // As the manifest keeps it.
  // Syncs the folder too, and with it the entries of the shards.
  BDH_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrFormat("%s/%s", options_.folder, kManifestFile), ManifestToJson(info_)));
  finished_ = true;
  return info_;
}

}  // namespace bdh::corpus
