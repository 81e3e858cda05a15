// Makes a data set's files from documents that stream in.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh {
class Sha256;
}

namespace bdh::corpus {

class NumberedShards;
class WaitingBytes;

// What makes the same documents another data set.
struct Identity {
  std::string tokenizer;  // "byte", or the hash of another one.
  double validation_fraction = 0.1;
  SplitRule split_rule = SplitRule::kTail;
  bool end_of_text = false;
  Order order = Order::kRandom;
  bool scored = false;
};

// What identifies a data set: hashes identity and documents as they stream by.
class ContentHash {
 public:
  explicit ContentHash(Identity identity);
  ~ContentHash();
  void BeginDocument(std::optional<double> score = std::nullopt);
  void Append(std::string_view text);
  // The hash of the document that ends, as a number: the same text has the same one in every data set.
  uint64_t EndDocument();
  int64_t documents() const { return documents_; }
  // What identifies all that came so far; goes on.
  std::string Peek() const;
  // In lower-case hex. The object is used up.
  std::string Finish();

 private:
  const Identity identity_;
  const std::unique_ptr<Sha256> all_, document_, scores_;
  uint64_t document_bytes_ = 0;
  int64_t documents_ = 0;
  bool in_document_ = false;
};

// What a token takes on disk: 1, 2 or 4.
int TokenBytes(int vocab_size);

// What kAuto comes to.
SplitRule ResolveRule(SplitRule rule, int64_t documents);

// One thread at a time calls; text is tokenized by threads of its own. Memory is bounded however long a
// document is. The files are the same whatever the number of threads and the pieces text comes in.
//
// A text is tokenized in sections of up to 256 KiB, cut before a space between two letters where there is
// one: the tokens of a section do not depend on its neighbours.
class DatasetBuilder {
 public:
  struct Options {
    std::string folder = "";  // Made here. What is in it is nothing until Finish() said OK.
    std::string name = "";
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer = nullptr;
    // Share that goes to validation, 0 to 0.5.
    double validation_fraction = 0.1;
    SplitRule split_rule = SplitRule::kTail;
    // The tokenizer's end of text follows every document that has text. It has one.
    bool end_of_text = false;
    Order order = Order::kRandom;
    bool scored = false;
    int64_t shard_tokens = int64_t{64} << 20;
    // A document's tokens wait for its end, which says where its tail begins: in memory up to this, then in a
    // file.
    int64_t document_buffer_bytes = int64_t{8} << 20;
    int threads = 1;
    // After so many tokens all files are made durable and what it takes to go on from there is noted in
    // journal.json: a builder for the same folder, after a crash, passes over text that is in the shards
    // already. 0: never.
    int64_t checkpoint_tokens = 0;
    // Set for a data set that is served while it is made: its hash. Its first shards are small ones.
    std::string streaming_hash = "";
    // Hears of finished shards that are durable, at checkpoints.
    std::function<absl::Status(const DatasetInfo& so_far)> on_checkpoint = nullptr;
  };

  // A folder that is there is gone on with if its journal is of the same options, and emptied otherwise.
  static absl::StatusOr<std::unique_ptr<DatasetBuilder>> Create(Options options);
  // Deletes the folder unless Finish() said OK or there is a journal to go on from.
  ~DatasetBuilder();

  // FailedPreconditionError: gone on with, and the text is another than before; the folder starts anew with
  // the next builder.
  absl::Status BeginDocument(std::optional<double> score = std::nullopt);
  // More text of the document. RESOURCE_EXHAUSTED: the disk is full; the builder is of no more use.
  absl::Status Append(std::string_view text);
  // Writes what is tokenized by now. Append does so too: for when more text is long in coming.
  absl::Status WriteReady() { return WriteFinished(SIZE_MAX); }
  int64_t tokens() const { return tokens_; }
  // Tokens that an earlier builder had made.
  int64_t resumed_tokens() const { return resumed_tokens_; }

  // Ends the last document, syncs all files and writes the manifest. InvalidArgumentError: no text, or a
  // split that would be empty.
  absl::StatusOr<DatasetInfo> Finish(Report report = {});

 private:
  class Workers;
  struct Group;
  struct PlacedDocument {
    int64_t tokens;
    uint64_t hash;
    double score;
  };

  explicit DatasetBuilder(Options options);
  absl::Status Start();
  absl::Status OpenFiles();
  std::string Fingerprint() const;
  absl::Status Restore(const std::string& journal);
  absl::Status EndDocument();
  void CutPiece();
  void EndPiece(size_t bytes, bool last, uint64_t hash);
  absl::Status SubmitGroup();
  absl::Status TextChanged();
  absl::Status WriteFinished(size_t in_flight_max);
  absl::Status WriteGroup(const Group& group);
  absl::Status DocumentDone(const PlacedDocument& document);
  absl::Status Place(const PlacedDocument& document);
  absl::Status PlacePending(SplitRule rule);
  absl::Status Checkpoint(const Group& group);
  absl::Status CheckSplits() const;
  absl::Status FinishFiles();
  std::vector<ShardInfo> FinishedShards() const;

  const Options options_;
  DatasetInfo info_;
  ContentHash hash_;
  std::unique_ptr<WaitingBytes> waiting_;
  std::unique_ptr<NumberedShards> train_, validation_, index_, scores_;

  // The document that comes in.
  bool in_document_ = false;
  double score_ = 0;
  int64_t document_bytes_ = 0;
  size_t piece_begin_ = 0;  // In group_->text.
  std::shared_ptr<Group> group_;
  int64_t pieces_in_ = 0, skip_pieces_ = 0;
  std::string resumed_digest_;

  // What is being tokenized, in order.
  std::deque<std::shared_ptr<Group>> in_flight_;

  // What was written.
  int64_t tokens_ = 0, resumed_tokens_ = 0, documents_done_ = 0, open_tokens_ = 0;
  int64_t checkpointed_tokens_ = 0;
  size_t checkpointed_shards_ = 0;
  std::vector<PlacedDocument> pending_;  // Their tokens are in the spool; the rule is not known yet.
  SplitRule rule_;

  bool folder_made_ = false, journal_written_ = false, finished_ = false;
  std::unique_ptr<Workers> workers_;  // Last: its threads use groups.
};

}  // namespace bdh::corpus
