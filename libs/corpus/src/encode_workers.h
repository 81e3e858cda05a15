// Threads that tokenize groups of text; whoever gave them asks for the results in order.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bdh/base/mutex.h"
#include "bdh/corpus/dataset_builder.h"

namespace bdh::corpus {

// Text of one document that is tokenized by itself.
struct TextPiece {
  size_t bytes = 0;
  bool last = false;      // Of its document.
  bool has_text = false;  // The document, up to here.
  uint64_t hash = 0;      // Of the document, with its last piece.
  double score = 0;
  int64_t tokens = 0;  // Set by Encode.
};

// Pieces that are handled at once, so that short documents do not cost a hand-over each.
struct DatasetBuilder::Group {
  std::string text;
  std::vector<TextPiece> pieces;
  int64_t pieces_before_end = 0;  // Of all text, up to the end of this group.
  std::string digest;             // Of all text that came in by then.

  std::string stored;  // The tokens as they go to disk. Set by Encode.
  bool done = false;   // Guarded by the workers' mutex.

  void Encode(const tokenizer::Tokenizer& tokenizer, bool end_of_text, int token_bytes);
};

class DatasetBuilder::Workers {
 public:
  Workers(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, bool end_of_text, int token_bytes,
          int threads);
  ~Workers();
  void Submit(std::shared_ptr<Group> group);
  bool Done(const Group& group);
  void Await(const Group& group);

 private:
  void Work();

  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  const bool end_of_text_;
  const int token_bytes_;
  Mutex mutex_;
  CondVar changed_, finished_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<Group>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace bdh::corpus
