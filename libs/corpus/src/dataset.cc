#include "bdh/corpus/dataset.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "manifest.h"
#include "shard.h"

namespace bdh::corpus {

std::string_view SplitName(Split split) {
  return split == Split::kTrain ? "train" : "validation";
}

absl::StatusOr<std::shared_ptr<const Dataset>> Dataset::Open(const std::string& folder) {
  const std::string path = absl::StrFormat("%s/%s", folder, kManifestFile);
  const auto json = ReadFile(path);
  if (absl::IsNotFound(json.status())) {
    return absl::DataLossError(
        absl::StrFormat("%s is missing; delete the data set and add its text again", path));
  }
  if (!json.ok()) return json.status();
  auto dataset = std::shared_ptr<Dataset>(new Dataset());
  BDH_ASSIGN_OR_RETURN(dataset->info_, ManifestFromJson(*json, path));
  BDH_RETURN_IF_ERROR(dataset->Map(folder));
  return dataset;
}

Dataset::~Dataset() = default;

absl::Status Dataset::Map(const std::string& folder) {
  int64_t train = 0, validation = 0;
  for (const ShardInfo& shard : info_.shards) {
    int64_t& begin = shard.split == Split::kTrain ? train : validation;
    BDH_ASSIGN_OR_RETURN(auto mapped, MappedShard::Open(absl::StrFormat("%s/%s", folder, shard.file),
                                                        info_.token_bytes, shard.tokens, shard.sha256));
    (shard.split == Split::kTrain ? train_ : validation_).push_back({begin, std::move(mapped)});
    begin += shard.tokens;
  }
  BDH_ASSIGN_OR_RETURN(index_, MappedShard::Open(absl::StrFormat("%s/%s", folder, kIndexFile),
                                                 sizeof(int64_t), 2 * info_.documents, info_.index_sha256));
  return absl::OkStatus();
}

int64_t Dataset::tokens(Split split) const {
  return split == Split::kTrain ? info_.train_tokens : info_.validation_tokens;
}

Dataset::DocumentEnd Dataset::document_end(int64_t document) const {
  BDH_CHECK(document >= 0 && document < info_.documents);
  DocumentEnd end;
  static_assert(sizeof(end) == 2 * sizeof(int64_t));
  std::memcpy(&end, index_->data + document * static_cast<int64_t>(sizeof(end)), sizeof(end));
  return end;
}

void Dataset::Copy(Split split, int64_t position, int64_t count, char* out) const {
  BDH_CHECK(position >= 0 && count >= 0 && count <= tokens(split) - position);
  const std::vector<Piece>& pieces = split == Split::kTrain ? train_ : validation_;
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), position,
                                [](int64_t p, const Piece& piece) { return p < piece.begin; });
  while (count > 0) {
    const Piece& here = *(piece - 1);
    const int64_t offset = position - here.begin;
    const int64_t n = std::min(count, here.shard->elements - offset);
    std::memcpy(out, here.shard->data + offset * info_.token_bytes,
                static_cast<size_t>(n * info_.token_bytes));
    out += n * info_.token_bytes;
    position += n;
    count -= n;
    ++piece;
  }
}

absl::Status Dataset::Verify() const {
  for (const auto* pieces : {&train_, &validation_}) {
    for (const Piece& piece : *pieces) BDH_RETURN_IF_ERROR(piece.shard->Verify());
  }
  return index_->Verify();
}

absl::Status Dataset::VerifyOnce() const {
  if ((info_.train_tokens + info_.validation_tokens) * info_.token_bytes > kVerifyOnceBytesMax) {
    return absl::OkStatus();
  }
  MutexLock lock(verify_mutex_);
  if (!verified_) verdict_ = Verify();
  verified_ = true;
  return verdict_;
}

}  // namespace bdh::corpus
