#include "bdh/corpus/dataset.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "document_order.h"
#include "manifest.h"
#include "shard.h"

namespace bdh::corpus {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(100);

constexpr struct {
  Order order;
  std::string_view name;
} kOrders[] = {{Order::kRandom, "random"}, {Order::kEpoch, "epoch"},   {Order::kSequential, "sequential"},
               {Order::kLanes, "lanes"},   {Order::kLength, "length"}, {Order::kScore, "score"},
               {Order::kWindow, "window"}};

}  // namespace

std::string_view SplitName(Split split) {
  return split == Split::kTrain ? "train" : "validation";
}

std::string_view OrderName(Order order) {
  return kOrders[static_cast<size_t>(order)].name;
}

absl::StatusOr<Order> ParseOrder(std::string_view name) {
  for (const auto& known : kOrders) {
    if (known.name == name) return known.order;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "there is no order '%s'; there are random, epoch, sequential, lanes, length, score and window", name));
}

absl::StatusOr<std::shared_ptr<const Dataset>> Dataset::Open(const std::string& folder) {
  const std::string path = absl::StrFormat("%s/%s", folder, kManifestFile);
  const auto json = ReadFile(path);
  if (absl::IsNotFound(json.status())) {
    return absl::DataLossError(
        absl::StrFormat("%s is missing; delete the data set and add its text again", path));
  }
  if (!json.ok()) return json.status();
  BDH_ASSIGN_OR_RETURN(DatasetInfo info, ManifestFromJson(*json, path));
  auto dataset = std::shared_ptr<Dataset>(new Dataset(std::move(info), folder));
  BDH_RETURN_IF_ERROR(dataset->Grow(dataset->info_));
  return dataset;
}

std::shared_ptr<const Dataset> Dataset::WithParts(DatasetInfo info, std::vector<Part> parts) {
  auto dataset = std::shared_ptr<Dataset>(new Dataset(std::move(info), ""));
  dataset->parts_ = std::move(parts);
  MutexLock lock(dataset->mutex_);
  dataset->current_ = dataset->info_;
  return dataset;
}

std::shared_ptr<Dataset> Dataset::Growing(DatasetInfo info, std::string folder) {
  auto dataset = std::shared_ptr<Dataset>(new Dataset(std::move(info), std::move(folder)));
  MutexLock lock(dataset->mutex_);
  dataset->growing_ = true;
  dataset->current_ = dataset->info_;
  return dataset;
}

Dataset::~Dataset() = default;

std::shared_ptr<const Dataset::Contents> Dataset::contents() const {
  MutexLock lock(mutex_);
  return contents_;
}

absl::Status Dataset::Map(const DatasetInfo& info, Contents& contents) const {
  size_t number[2] = {0, 0};
  for (const ShardInfo& shard : info.shards) {
    const bool train = shard.split == Split::kTrain;
    std::vector<Piece>& pieces = train ? contents.train : contents.validation;
    int64_t& tokens = train ? contents.train_tokens : contents.validation_tokens;
    if (number[train]++ < pieces.size()) continue;
    BDH_ASSIGN_OR_RETURN(auto mapped, MappedShard::Open(absl::StrFormat("%s/%s", folder_, shard.file),
                                                        info.token_bytes, shard.tokens, shard.sha256));
    pieces.push_back({tokens, std::move(mapped)});
    tokens += shard.tokens;
  }
  if (!info.index_sha256.empty()) {
    BDH_ASSIGN_OR_RETURN(contents.index,
                         MappedShard::Open(absl::StrFormat("%s/%s", folder_, kIndexFile), sizeof(int64_t),
                                           2 * info.documents, info.index_sha256));
  }
  if (!info.scores_sha256.empty()) {
    BDH_ASSIGN_OR_RETURN(contents.scores,
                         MappedShard::Open(absl::StrFormat("%s/%s", folder_, kScoresFile), sizeof(double),
                                           info.documents, info.scores_sha256));
  }
  return absl::OkStatus();
}

absl::Status Dataset::Grow(const DatasetInfo& info) {
  Contents grown = *contents();
  BDH_RETURN_IF_ERROR(Map(info, grown));
  MutexLock lock(mutex_);
  contents_ = std::make_shared<const Contents>(std::move(grown));
  current_ = info;
  grown_.NotifyAll();
  return absl::OkStatus();
}

void Dataset::EndGrowth(const absl::Status& outcome) {
  MutexLock lock(mutex_);
  growing_ = !outcome.ok();
  growth_ = outcome;
  grown_.NotifyAll();
}

DatasetInfo Dataset::CurrentInfo() const {
  MutexLock lock(mutex_);
  return current_;
}

bool Dataset::complete() const {
  MutexLock lock(mutex_);
  return !growing_;
}

absl::Status Dataset::AwaitTokens(Split split, int64_t tokens, const std::function<bool()>& cancelled) const {
  MutexLock lock(mutex_);
  while (growing_ && contents_->tokens(split) < tokens) {
    BDH_RETURN_IF_ERROR(growth_);
    if (cancelled()) return absl::CancelledError("the reader is gone");
    grown_.WaitFor(mutex_, absl::ToChronoNanoseconds(kPoll));
  }
  return absl::OkStatus();
}

int64_t Dataset::tokens(Split split) const {
  if (!parts_.empty()) return split == Split::kTrain ? info_.train_tokens : info_.validation_tokens;
  return contents()->tokens(split);
}

Dataset::DocumentEnd Dataset::document_end(int64_t document) const {
  BDH_CHECK(document >= 0 && document < info_.documents);
  DocumentEnd end;
  static_assert(sizeof(end) == 2 * sizeof(int64_t));
  std::memcpy(&end, contents()->index->data + document * static_cast<int64_t>(sizeof(end)), sizeof(end));
  return end;
}

double Dataset::score(int64_t document) const {
  BDH_CHECK(document >= 0 && document < info_.documents);
  double score;
  std::memcpy(&score, contents()->scores->data + document * static_cast<int64_t>(sizeof(score)),
              sizeof(score));
  return score;
}

int64_t Dataset::DocumentAt(Split split, int64_t position) const {
  // The first one that ends after it.
  int64_t low = 0, high = info_.documents;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (document_end(middle).of(split) > position) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void Dataset::VisitDocumentBegins(Split split, int64_t position, int64_t count,
                                  const std::function<void(int64_t)>& visit) const {
  if (contents()->index == nullptr) return;  // Still being made.
  int64_t document = DocumentAt(split, position);
  int64_t begin = document == 0 ? 0 : document_end(document - 1).of(split);
  for (; document < info_.documents && begin < position + count; ++document) {
    const int64_t end = document_end(document).of(split);
    if (begin >= position && end > begin) visit(begin);
    begin = end;
  }
}

absl::StatusOr<std::shared_ptr<const DocumentOrder>> Dataset::DocumentsInOrder(Split split,
                                                                               Order order) const {
  if (info_.documents > DocumentOrder::kDocumentsMax) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("data set '%s' has %d documents, and at most %d are sorted; take another order",
                        info_.name, info_.documents, DocumentOrder::kDocumentsMax));
  }
  MutexLock lock(orders_mutex_);
  auto& kept = orders_[split == Split::kTrain][order == Order::kScore];
  if (kept == nullptr) kept = std::make_shared<const DocumentOrder>(*this, split, order);
  return kept;
}

void Dataset::Copy(Split split, int64_t position, int64_t count, char* out) const {
  const std::shared_ptr<const Contents> contents = this->contents();
  BDH_CHECK(position >= 0 && count >= 0 && count <= contents->tokens(split) - position);
  const std::vector<Piece>& pieces = contents->pieces(split);
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

std::vector<int32_t> Dataset::Tokens(Split split, int64_t position, int64_t count) const {
  std::string stored(static_cast<size_t>(count * info_.token_bytes), '\0');
  Copy(split, position, count, stored.data());
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) {  // Little-endian: the bytes that are not stored are zero.
    std::memcpy(&tokens[i], stored.data() + i * static_cast<size_t>(info_.token_bytes),
                static_cast<size_t>(info_.token_bytes));
  }
  return tokens;
}

int64_t Dataset::verify_bytes() const {
  int64_t bytes = 0;
  const auto contents = this->contents();
  for (const auto* pieces : {&contents->train, &contents->validation}) {
    for (const Piece& piece : *pieces) bytes += piece.shard->map_bytes;
  }
  for (const auto& index : {contents->index, contents->scores})
    bytes += index == nullptr ? 0 : index->map_bytes;
  for (const Part& part : parts_) bytes += part.dataset->verify_bytes();
  return bytes;
}

absl::Status Dataset::Verify(const std::function<absl::Status(int64_t)>& progress) const {
  const auto contents = this->contents();
  for (const auto* pieces : {&contents->train, &contents->validation}) {
    for (const Piece& piece : *pieces) BDH_RETURN_IF_ERROR(piece.shard->Verify(progress));
  }
  for (const auto& index : {contents->index, contents->scores}) {
    if (index != nullptr) BDH_RETURN_IF_ERROR(index->Verify(progress));
  }
  for (const Part& part : parts_) BDH_RETURN_IF_ERROR(part.dataset->Verify(progress));
  return absl::OkStatus();
}

absl::Status Dataset::VerifyOnce() const {
  for (const Part& part : parts_) BDH_RETURN_IF_ERROR(part.dataset->VerifyOnce());
  // What was written a moment ago by this process is not read back.
  if (verify_bytes() > kVerifyOnceBytesMax || !parts_.empty() || !complete()) return absl::OkStatus();
  MutexLock lock(verify_mutex_);
  if (!verified_) verdict_ = Verify();
  verified_ = true;
  return verdict_;
}

}  // namespace bdh::corpus
