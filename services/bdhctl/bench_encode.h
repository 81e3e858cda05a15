// What encoding costs: in threads of this process, in processes, and in Hugging Face's library. And training.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tokenizer/tokenizer.h"
#include "services/bdhctl/companion.h"

namespace bdh::bdhctl {

// Where tokenizer.json and the text lie for other processes.
inline constexpr char kBenchTokenizer[] = "tokenizer.json", kBenchText[] = "text";

double SecondsOf(const std::function<void()>& work);
double Median(std::vector<double> values);

// Encodes all of `text` in documents of 64 KiB, cut at line ends. Returns the number of tokens.
size_t EncodeAll(const tokenizer::Tokenizer& tokenizer, std::string_view text);

// Threads that encode the same text side by side, and stay for the next round as those of a daemon do.
class EncodeThreads {
 public:
  EncodeThreads(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::string_view text, int count);
  ~EncodeThreads();
  // From the first one's beginning to the last one's end.
  double Round();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

// The same with a process each.
class EncodeProcesses {
 public:
  static absl::StatusOr<EncodeProcesses> Start(const std::string& folder, int count);
  absl::StatusOr<double> Round();

 private:
  std::vector<std::unique_ptr<Companion>> processes_;
};

// What one of these processes does: `bdhctl bench encode-loop FOLDER`.
absl::StatusOr<int> RunEncodeLoop(const std::string& folder);

// Hugging Face's `tokenizers`, in a Python that has it.
class HuggingFace {
 public:
  // UnavailableError says why it is not to be had.
  static absl::StatusOr<std::unique_ptr<HuggingFace>> Start(const std::string& python,
                                                            const std::string& folder);
  const std::string& version() const { return version_; }
  // Of the same documents with the same tokenizer.json, on one thread.
  absl::StatusOr<double> EncodeSeconds();
  absl::StatusOr<size_t> Tokens();
  // Byte-level BPE of the same lines, on all threads, as is its default.
  absl::StatusOr<double> TrainSeconds(int vocab_size);

 private:
  absl::StatusOr<double> Ask(const std::string& line);

  std::unique_ptr<Companion> python_;
  std::string version_;
};

// The trainer fed line by line.
absl::StatusOr<std::vector<tokenizer::TokenizerFile>> TrainOnLines(std::string_view text, int vocab_size);

}  // namespace bdh::bdhctl
