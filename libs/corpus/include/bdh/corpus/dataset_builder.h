// Makes a data set's files from documents that stream in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::corpus {

class Sha256;

// What identifies a data set: hashes tokenizer, validation share and documents as they stream by.
class ContentHash {
 public:
  ContentHash(std::string_view tokenizer, double validation_fraction);
  ~ContentHash();
  void BeginDocument();
  void Append(std::string_view text);
  // In lower-case hex. The object is used up.
  std::string Finish();

 private:
  void EndDocument();

  const std::unique_ptr<Sha256> all_, document_;
  uint64_t document_bytes_ = 0;
  bool in_document_ = false;
};

// One thread at a time. Memory is bounded however long a document is.
class DatasetBuilder {
 public:
  struct Options {
    std::string folder = "";  // Made here; must not exist. What is in it is nothing until Finish() said OK.
    std::string name = "";
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer = nullptr;
    // Share of every document's tail that goes to validation, 0 to 0.5.
    double validation_fraction = 0.1;
    int64_t shard_tokens = int64_t{64} << 20;
    // A document's tokens wait for its end, which says where its tail begins: in memory up to this, then in a
    // file.
    int64_t document_buffer_bytes = int64_t{8} << 20;
  };

  static absl::StatusOr<std::unique_ptr<DatasetBuilder>> Create(Options options);
  // Deletes the folder unless Finish() said OK.
  ~DatasetBuilder();

  absl::Status BeginDocument();
  // More text of the document. RESOURCE_EXHAUSTED: the disk is full; the builder is of no more use.
  absl::Status Append(std::string_view text);
  int64_t tokens() const { return tokens_; }

  // Ends the last document, syncs all files and writes the manifest. InvalidArgumentError: no text, or a
  // split that would be empty.
  absl::StatusOr<DatasetInfo> Finish();

 private:
  class SplitWriter;
  class Spool;

  explicit DatasetBuilder(Options options);
  absl::Status Start();
  absl::Status EndDocument();
  absl::Status CheckSplits() const;
  absl::Status FinishFiles();

  const Options options_;
  DatasetInfo info_;
  ContentHash hash_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<SplitWriter> train_, validation_, index_;
  std::vector<int32_t> encoded_;
  std::string stored_;
  int64_t tokens_ = 0;
  bool in_document_ = false;
  bool folder_made_ = false;
  bool finished_ = false;
};

}  // namespace bdh::corpus
