#include "bdh/corpus/dataset_builder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "encode_workers.h"
#include "journal.h"
#include "manifest.h"
#include "token_files.h"

namespace bdh::corpus {
namespace {

constexpr size_t kSampleBytes = 1024;
constexpr size_t kPieceBytes = size_t{256} << 10;
constexpr int64_t kFirstStreamedShard = int64_t{1} << 18;

bool IsBytes(const tokenizer::Tokenizer& tokenizer) {
  return tokenizer.kind() == tokenizer::Kind::kByte;
}

std::string_view AsBytes(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

template <class T>
void StoreAs(const std::vector<int32_t>& tokens, std::string& out) {
  const size_t at = out.size();
  out.resize(at + tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const T token = static_cast<T>(tokens[i]);
    std::memcpy(out.data() + at + i * sizeof(T), &token, sizeof(T));
  }
}

void Store(const std::vector<int32_t>& tokens, int token_bytes, std::string& out) {
  if (token_bytes == 1) return StoreAs<uint8_t>(tokens, out);
  if (token_bytes == 2) return StoreAs<uint16_t>(tokens, out);
  StoreAs<uint32_t>(tokens, out);
}

// Where to cut a piece of a long document so that its tokens are those it would have had in one: every split
// pattern we know begins a word with the space before it.
size_t CutOf(std::string_view text) {
  for (size_t i = text.size() - 1; i > text.size() / 2; --i) {
    if (text[i - 1] == ' ' && absl::ascii_isalpha(static_cast<unsigned char>(text[i])) && i >= 2 &&
        absl::ascii_isalpha(static_cast<unsigned char>(text[i - 2]))) {
      return i - 1;
    }
  }
  for (size_t i = text.size() - 1; i > text.size() / 2; --i) {
    if (text[i - 1] == '\n' && !absl::ascii_isspace(static_cast<unsigned char>(text[i]))) return i;
  }
  size_t cut = text.size();
  for (int back = 0; back < 4 && (static_cast<unsigned char>(text[cut - 1]) & 0xC0) == 0x80; ++back) --cut;
  return static_cast<unsigned char>(text[cut - 1]) >= 0xC0 ? cut - 1 : text.size();
}

double DrawOf(uint64_t hash) {
  return static_cast<double>(hash >> 11) / static_cast<double>(uint64_t{1} << 53);
}

Identity IdentityOf(const DatasetBuilder::Options& options) {
  return {.tokenizer = IsBytes(*options.tokenizer) ? "byte" : options.tokenizer->hash(),
          .validation_fraction = options.validation_fraction,
          .split_rule = options.split_rule,
          .end_of_text = options.end_of_text,
          .order = options.order,
          .scored = options.scored};
}

}  // namespace

int TokenBytes(int vocab_size) {
  return vocab_size <= 1 << 8 ? 1 : vocab_size <= 1 << 16 ? 2 : 4;
}

void DatasetBuilder::Group::Encode(const tokenizer::Tokenizer& tokenizer, bool end_of_text, int token_bytes) {
  std::vector<int32_t> tokens;
  size_t at = 0;
  for (TextPiece& piece : pieces) {
    tokens.clear();
    tokenizer.Encode(std::string_view(text).substr(at, piece.bytes), tokens);
    if (end_of_text && piece.last && piece.has_text) tokens.push_back(*tokenizer.end_of_text());
    piece.tokens = static_cast<int64_t>(tokens.size());
    Store(tokens, token_bytes, stored);
    at += piece.bytes;
  }
}

DatasetBuilder::Workers::Workers(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, bool end_of_text,
                                 int token_bytes, int threads)
    : tokenizer_(std::move(tokenizer)), end_of_text_(end_of_text), token_bytes_(token_bytes) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

DatasetBuilder::Workers::~Workers() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void DatasetBuilder::Workers::Submit(std::shared_ptr<Group> group) {
  MutexLock lock(mutex_);
  queue_.push_back(std::move(group));
  changed_.NotifyOne();
}

bool DatasetBuilder::Workers::Done(const Group& group) {
  MutexLock lock(mutex_);
  return group.done;
}

void DatasetBuilder::Workers::Await(const Group& group) {
  MutexLock lock(mutex_);
  while (!group.done) finished_.Wait(mutex_);
}

void DatasetBuilder::Workers::Work() {
  while (true) {
    std::shared_ptr<Group> group;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      group = std::move(queue_.front());
      queue_.pop_front();
    }
    group->Encode(*tokenizer_, end_of_text_, token_bytes_);
    MutexLock lock(mutex_);
    group->done = true;
    finished_.NotifyAll();
  }
}

absl::StatusOr<std::unique_ptr<DatasetBuilder>> DatasetBuilder::Create(Options options) {
  BDH_CHECK(!options.end_of_text || options.tokenizer->end_of_text().has_value());
  auto builder = std::unique_ptr<DatasetBuilder>(new DatasetBuilder(std::move(options)));
  BDH_RETURN_IF_ERROR(builder->Start());
  return builder;
}

DatasetBuilder::DatasetBuilder(Options options)
    : options_(std::move(options)), hash_(IdentityOf(options_)), rule_(options_.split_rule) {
  info_.name = options_.name;
  info_.tokenizer = std::string(options_.tokenizer->name());
  info_.tokenizer_hash = options_.tokenizer->hash();
  info_.vocab_size = options_.tokenizer->vocab_size();
  info_.token_bytes = TokenBytes(info_.vocab_size);
  info_.validation_fraction = options_.validation_fraction;
  info_.split_rule = options_.split_rule;
  info_.end_of_text = options_.end_of_text;
  info_.order = options_.order;
  info_.scored = options_.scored;
  info_.streaming = !options_.streaming_hash.empty();
  info_.hash = options_.streaming_hash;
  group_ = std::make_shared<Group>();
}

DatasetBuilder::~DatasetBuilder() {
  workers_.reset();
  if (finished_ || journal_written_ || !folder_made_) return;
  std::error_code ignored;  // What cannot be removed now is removed when the store is opened again.
  std::filesystem::remove_all(options_.folder, ignored);
}

std::string DatasetBuilder::Fingerprint() const {
  const Identity identity = IdentityOf(options_);
  return Sha256Hex(absl::StrFormat("%s\n%.17g\n%d %d %d %d\n%d\n%s", identity.tokenizer,
                                   identity.validation_fraction, static_cast<int>(identity.split_rule),
                                   identity.end_of_text, static_cast<int>(identity.order), identity.scored,
                                   options_.shard_tokens, options_.streaming_hash));
}

absl::Status DatasetBuilder::Start() {
  const auto journal = ReadFile(absl::StrFormat("%s/%s", options_.folder, kJournalFile));
  if (journal.ok()) {
    folder_made_ = true;
    BDH_RETURN_IF_ERROR(OpenFiles());
    const absl::Status restored = Restore(*journal);
    if (restored.ok()) {
      journal_written_ = true;
      return absl::OkStatus();
    }
    BDH_LOG(WARNING) << "cannot go on with an unfinished data set name=" << options_.name
                     << " reason=" << restored.message();
  }
  std::error_code ignored;
  if (journal.ok()) std::filesystem::remove_all(options_.folder, ignored);
  if (mkdir(options_.folder.c_str(), 0755) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("create folder %s", options_.folder));
  }
  folder_made_ = true;
  return OpenFiles();
}

absl::Status DatasetBuilder::OpenFiles() {
  // Of a data set that is served while it is made the first shards are there soon.
  const bool streamed = !options_.streaming_hash.empty();
  const auto size = [streamed, full = options_.shard_tokens](size_t number) {
    return streamed && number < 32 ? std::min(full, kFirstStreamedShard << number) : full;
  };
  const auto shards = [&](Split split) {
    return std::make_unique<NumberedShards>(NumberedShards::Options{
        .folder = options_.folder,
        .file_name =
            [split](size_t number) { return absl::StrFormat("%s-%05d.tokens", SplitName(split), number); },
        .file_elements = size,
        .element_bytes = info_.token_bytes});
  };
  const auto one_file = [&](const char* name) {
    return std::make_unique<NumberedShards>(
        NumberedShards::Options{.folder = options_.folder,
                                .file_name = [name](size_t) { return std::string(name); },
                                .file_elements = [](size_t) { return INT64_MAX / 8; },
                                .element_bytes = 8});
  };
  train_ = shards(Split::kTrain);
  validation_ = shards(Split::kValidation);
  index_ = one_file(kIndexFile);
  scores_ = one_file(kScoresFile);
  waiting_ = std::make_unique<WaitingBytes>(absl::StrFormat("%s/waiting", options_.folder),
                                            options_.document_buffer_bytes);
  return absl::OkStatus();
}

absl::Status DatasetBuilder::Restore(const std::string& json) {
  BDH_ASSIGN_OR_RETURN(Journal journal, JournalFromJson(json));
  if (journal.fingerprint != Fingerprint()) return absl::FailedPreconditionError("it was begun otherwise");
  BDH_RETURN_IF_ERROR(train_->Restore(std::move(journal.train)));
  BDH_RETURN_IF_ERROR(validation_->Restore(std::move(journal.validation)));
  BDH_RETURN_IF_ERROR(index_->Restore(std::move(journal.index)));
  BDH_RETURN_IF_ERROR(scores_->Restore(std::move(journal.scores)));
  BDH_RETURN_IF_ERROR(waiting_->Restore(journal.waiting_bytes));
  for (const auto& document : journal.pending) {
    pending_.push_back({document.tokens, document.hash, document.score});
  }
  skip_pieces_ = journal.pieces;
  resumed_digest_ = journal.digest;
  tokens_ = resumed_tokens_ = checkpointed_tokens_ = journal.tokens;
  documents_done_ = journal.documents;
  open_tokens_ = journal.open_tokens;
  rule_ = static_cast<SplitRule>(journal.rule);
  checkpointed_shards_ = train_->files().size() + validation_->files().size();
  info_.shards = FinishedShards();
  if (options_.on_checkpoint != nullptr) BDH_RETURN_IF_ERROR(options_.on_checkpoint(info_));
  return absl::OkStatus();
}

absl::Status DatasetBuilder::BeginDocument(std::optional<double> score) {
  BDH_RETURN_IF_ERROR(EndDocument());
  score_ = score.value_or(std::numeric_limits<double>::infinity());
  hash_.BeginDocument(options_.scored ? std::optional(score_) : std::nullopt);
  in_document_ = true;
  document_bytes_ = 0;
  ++info_.documents;
  return absl::OkStatus();
}

absl::Status DatasetBuilder::Append(std::string_view text) {
  BDH_CHECK(in_document_) << "BeginDocument comes first";
  if (info_.sample.size() < kSampleBytes && document_bytes_ == info_.bytes_in) {  // Of the first with text.
    info_.sample.append(text.substr(0, kSampleBytes - info_.sample.size()));
  }
  while (!text.empty()) {
    const size_t open = group_->text.size() - piece_begin_;
    const std::string_view now = text.substr(0, kPieceBytes - open);
    text.remove_prefix(now.size());
    hash_.Append(now);
    group_->text.append(now);
    info_.bytes_in += static_cast<int64_t>(now.size());
    document_bytes_ += static_cast<int64_t>(now.size());
    if (group_->text.size() - piece_begin_ < kPieceBytes) continue;
    // Always looked at with the same bytes, however they came in.
    const std::string_view piece = std::string_view(group_->text).substr(piece_begin_);
    const size_t cut = IsBytes(*options_.tokenizer) ? piece.size() : CutOf(piece);
    std::string rest(piece.substr(cut));
    group_->text.resize(piece_begin_ + cut);
    EndPiece(cut, /*last=*/false, 0);
    BDH_RETURN_IF_ERROR(SubmitGroup());
    group_->text = std::move(rest);
  }
  return absl::OkStatus();
}

void DatasetBuilder::EndPiece(size_t bytes, bool last, uint64_t hash) {
  group_->pieces.push_back(
      {.bytes = bytes, .last = last, .has_text = document_bytes_ > 0, .hash = hash, .score = score_});
  piece_begin_ = group_->text.size();
}

absl::Status DatasetBuilder::EndDocument() {
  if (!in_document_) return absl::OkStatus();
  in_document_ = false;
  const uint64_t hash = hash_.EndDocument();
  EndPiece(group_->text.size() - piece_begin_, /*last=*/true, hash);
  if (group_->text.size() < kPieceBytes && group_->pieces.size() < kPieceBytes / 64) return absl::OkStatus();
  return SubmitGroup();
}

absl::Status DatasetBuilder::TextChanged() {
  journal_written_ = false;  // Of no more use.
  return absl::FailedPreconditionError(absl::StrFormat(
      "the text of data set '%s' is not the one that was begun with: it changed since the attempt that was "
      "broken off; nothing of that is kept now, add it once more",
      options_.name));
}

absl::Status DatasetBuilder::SubmitGroup() {
  const std::shared_ptr<Group> group = std::exchange(group_, std::make_shared<Group>());
  piece_begin_ = 0;
  pieces_in_ += static_cast<int64_t>(group->pieces.size());
  group->pieces_before_end = pieces_in_;
  if (options_.checkpoint_tokens > 0) group->digest = hash_.Peek();
  if (pieces_in_ <= skip_pieces_) {
    if (pieces_in_ < skip_pieces_ || group->digest == resumed_digest_) return absl::OkStatus();
    return TextChanged();
  }
  if (workers_ == nullptr) {
    workers_ = std::make_unique<Workers>(options_.tokenizer, options_.end_of_text, info_.token_bytes,
                                         options_.threads);
  }
  workers_->Submit(group);
  in_flight_.push_back(group);
  // Enough for the threads to go on while a checkpoint waits for the disk.
  const auto waiting = static_cast<size_t>(options_.checkpoint_tokens / static_cast<int64_t>(kPieceBytes));
  return WriteFinished(std::max(2 * static_cast<size_t>(options_.threads) + 1, waiting));
}

// Writes what is ready, and waits until no more than so many are not.
absl::Status DatasetBuilder::WriteFinished(size_t in_flight_max) {
  while (!in_flight_.empty()) {
    const std::shared_ptr<Group> group = in_flight_.front();
    if (in_flight_.size() <= in_flight_max && !workers_->Done(*group)) return absl::OkStatus();
    workers_->Await(*group);
    in_flight_.pop_front();
    BDH_RETURN_IF_ERROR(WriteGroup(*group));
  }
  return absl::OkStatus();
}

absl::Status DatasetBuilder::WriteGroup(const Group& group) {
  size_t at = 0;
  for (const TextPiece& piece : group.pieces) {
    const auto bytes = static_cast<size_t>(piece.tokens * info_.token_bytes);
    BDH_RETURN_IF_ERROR(waiting_->Append(std::string_view(group.stored).substr(at, bytes)));
    at += bytes;
    tokens_ += piece.tokens;
    open_tokens_ += piece.tokens;
    if (!piece.last) continue;
    ++documents_done_;
    BDH_RETURN_IF_ERROR(DocumentDone({std::exchange(open_tokens_, 0), piece.hash, piece.score}));
  }
  const size_t shards = train_->files().size() + validation_->files().size();
  const bool due = tokens_ - checkpointed_tokens_ >= options_.checkpoint_tokens ||
                   (options_.on_checkpoint != nullptr && shards > checkpointed_shards_);
  return options_.checkpoint_tokens > 0 && due ? Checkpoint(group) : absl::OkStatus();
}

absl::Status DatasetBuilder::DocumentDone(const PlacedDocument& document) {
  if (rule_ != SplitRule::kAuto) return Place(document);
  pending_.push_back(document);
  return pending_.size() < static_cast<size_t>(kManyDocuments) ? absl::OkStatus()
                                                               : PlacePending(SplitRule::kDocument);
}

absl::Status DatasetBuilder::PlacePending(SplitRule rule) {
  rule_ = rule;
  for (const PlacedDocument& document : std::exchange(pending_, {})) BDH_RETURN_IF_ERROR(Place(document));
  return absl::OkStatus();
}

absl::Status DatasetBuilder::Place(const PlacedDocument& document) {
  int64_t tail = 0;
  if (rule_ == SplitRule::kTail) {
    tail = static_cast<int64_t>(static_cast<double>(document.tokens) * options_.validation_fraction);
  } else if (DrawOf(document.hash) < options_.validation_fraction) {
    tail = document.tokens;
  }
  const auto into = [](NumberedShards& shards) {
    return [&shards](std::string_view bytes) { return shards.Append(bytes); };
  };
  BDH_RETURN_IF_ERROR(waiting_->Take((document.tokens - tail) * info_.token_bytes, into(*train_)));
  BDH_RETURN_IF_ERROR(waiting_->Take(tail * info_.token_bytes, into(*validation_)));
  if (options_.scored) BDH_RETURN_IF_ERROR(scores_->Append(AsBytes(document.score)));
  const Dataset::DocumentEnd end = {train_->elements(), validation_->elements()};
  return index_->Append(AsBytes(end));
}

absl::Status DatasetBuilder::Checkpoint(const Group& group) {
  Journal journal = {.fingerprint = Fingerprint(),
                     .pieces = group.pieces_before_end,
                     .digest = group.digest,
                     .tokens = tokens_,
                     .documents = documents_done_,
                     .open_tokens = open_tokens_,
                     .pending = {},
                     .rule = static_cast<int>(rule_),
                     .waiting_bytes = waiting_->size(),
                     .train = {},
                     .validation = {},
                     .index = {},
                     .scores = {}};
  for (const auto& document : pending_)
    journal.pending.push_back({document.tokens, document.hash, document.score});
  BDH_ASSIGN_OR_RETURN(journal.train, train_->Sync());
  BDH_ASSIGN_OR_RETURN(journal.validation, validation_->Sync());
  BDH_ASSIGN_OR_RETURN(journal.index, index_->Sync());
  BDH_ASSIGN_OR_RETURN(journal.scores, scores_->Sync());
  BDH_RETURN_IF_ERROR(waiting_->Sync());
  BDH_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrFormat("%s/%s", options_.folder, kJournalFile), JournalToJson(journal)));
  journal_written_ = true;
  checkpointed_tokens_ = tokens_;
  checkpointed_shards_ = train_->files().size() + validation_->files().size();
  if (options_.on_checkpoint == nullptr) return absl::OkStatus();
  DatasetInfo so_far = info_;
  so_far.documents = documents_done_;
  so_far.shards = FinishedShards();
  so_far.train_tokens = train_->elements();
  so_far.validation_tokens = validation_->elements();
  return options_.on_checkpoint(so_far);
}

std::vector<ShardInfo> DatasetBuilder::FinishedShards() const {
  std::vector<ShardInfo> shards;
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    for (const auto& [name, summary] : (split == Split::kTrain ? *train_ : *validation_).files()) {
      shards.push_back({name, split, summary.elements, summary.size_bytes, summary.sha256});
    }
  }
  return shards;
}

absl::Status DatasetBuilder::CheckSplits() const {
  if (train_->elements() == 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "data set '%s' has no text%s: %d documents with %d bytes in all; send text or name files", info_.name,
        tokens_ > 0 ? " to train on" : "", info_.documents, info_.bytes_in));
  }
  if (validation_->elements() == 0 && options_.validation_fraction > 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the validation split of data set '%s' would be empty: validation_fraction %g of %d "
                        "tokens in %d documents; "
                        "give longer documents, a larger share, %sor validation_fraction 0 for none",
                        info_.name, options_.validation_fraction, tokens_, info_.documents,
                        rule_ == SplitRule::kDocument ? "the tail of each document, " : ""));
  }
  return absl::OkStatus();
}

absl::Status DatasetBuilder::FinishFiles() {
  info_.train_tokens = train_->elements();
  info_.validation_tokens = validation_->elements();
  BDH_RETURN_IF_ERROR(train_->Finish().status());
  BDH_RETURN_IF_ERROR(validation_->Finish().status());
  info_.shards = FinishedShards();
  BDH_ASSIGN_OR_RETURN(const auto index, index_->Finish());
  info_.index_sha256 = index.at(0).summary.sha256;
  BDH_ASSIGN_OR_RETURN(const auto scores, scores_->Finish());
  if (!scores.empty()) info_.scores_sha256 = scores.at(0).summary.sha256;
  return absl::OkStatus();
}

absl::StatusOr<DatasetInfo> DatasetBuilder::Finish(Report report) {
  BDH_RETURN_IF_ERROR(EndDocument());
  if (workers_ == nullptr && pieces_in_ + static_cast<int64_t>(group_->pieces.size()) > skip_pieces_) {
    // All text in one group is not worth a thread.
    pieces_in_ += static_cast<int64_t>(group_->pieces.size());
    group_->pieces_before_end = pieces_in_;
    group_->digest = hash_.Peek();
    group_->Encode(*options_.tokenizer, options_.end_of_text, info_.token_bytes);
    BDH_RETURN_IF_ERROR(WriteGroup(*group_));
  } else if (!group_->pieces.empty()) {
    BDH_RETURN_IF_ERROR(SubmitGroup());
  }
  if (pieces_in_ < skip_pieces_) return TextChanged();
  BDH_RETURN_IF_ERROR(WriteFinished(0));
  if (rule_ == SplitRule::kAuto) BDH_RETURN_IF_ERROR(PlacePending(SplitRule::kTail));
  info_.split_rule = rule_;
  BDH_RETURN_IF_ERROR(CheckSplits());
  BDH_RETURN_IF_ERROR(FinishFiles());
  const std::string content_hash = hash_.Finish();
  if (!info_.streaming) info_.hash = content_hash;
  info_.report = std::move(report);
  info_.create_time = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()));  // As the manifest keeps it.
  // Syncs the folder too, and with it the entries of the shards.
  BDH_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrFormat("%s/%s", options_.folder, kManifestFile), ManifestToJson(info_)));
  waiting_->Remove();
  unlink(absl::StrFormat("%s/%s", options_.folder, kJournalFile).c_str());
  finished_ = true;
  return info_;
}

}  // namespace bdh::corpus
