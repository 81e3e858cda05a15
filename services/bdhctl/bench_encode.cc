#include "services/bdhctl/bench_encode.h"

#include <algorithm>
#include <functional>
#include <iostream>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/tokenizer/trainer.h"
#include "services/bdhctl/command.h"

namespace bdh::bdhctl {
namespace {

constexpr size_t kDocumentBytes = size_t{64} << 10;

// Answers "ready VERSION", then a number for each line, or what went wrong.
constexpr char kPython[] = R"(
import sys
def say(what):
    print(what, flush=True)
try:
    import os, time
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import tokenizers as hf
    folder = sys.argv[1]
    text = open(folder + "/text", newline="", encoding="utf-8", errors="replace").read()
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    parts, part, size = [], [], 0
    for line in lines:
        part.append(line)
        size += len(line.encode())
        if size > 65536:
            parts.append("".join(part))
            part, size = [], 0
    parts.append("".join(part))
    tokenizer = None
    say("ready " + hf.__version__)
    for command in sys.stdin:
        word, _, number = command.strip().partition(" ")
        if tokenizer is None and word != "train":
            tokenizer = hf.Tokenizer.from_file(folder + "/tokenizer.json")
        if word == "tokens":
            say(sum(len(tokenizer.encode(part, add_special_tokens=False).ids) for part in parts))
            continue
        begin = time.perf_counter()
        if word == "encode":
            tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = "true"
            t = hf.Tokenizer(hf.models.BPE())
            t.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
            t.train_from_iterator(lines, hf.trainers.BpeTrainer(
                vocab_size=int(number), min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
                initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet()))
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        say(time.perf_counter() - begin)
except Exception as error:
    say("%s: %s" % (type(error).__name__, str(error).replace("\n", " ")))
)";

absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> LoadFrom(const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(std::string json, ReadFile(absl::StrFormat("%s/%s", folder, kBenchTokenizer)));
  return tokenizer::LoadTokenizer("bench", {{kBenchTokenizer, std::move(json)}});
}

}  // namespace

double SecondsOf(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  work();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

size_t EncodeAll(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  size_t count = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t line_end = text.find('\n', std::min(at + kDocumentBytes, text.size()));
    const size_t end = line_end == std::string_view::npos ? text.size() : line_end + 1;
    tokens.clear();
    tokenizer.Encode(text.substr(at, end - at), tokens);
    count += tokens.size();
    at = end;
  }
  return count;
}

struct EncodeThreads::State {
  void Work(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
    for (int64_t done = 0;; ++done) {
      {
        MutexLock lock(mutex);
        while (round == done && !stopping) changed.Wait(mutex);
        if (stopping) return;
      }
      EncodeAll(tokenizer, text);
      MutexLock lock(mutex);
      if (--working == 0) changed.NotifyAll();
    }
  }

  Mutex mutex;
  CondVar changed;
  int64_t round ABSL_GUARDED_BY(mutex) = 0;
  int working ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads;
};

EncodeThreads::EncodeThreads(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::string_view text,
                             int count)
    : state_(std::make_unique<State>()) {
  for (int i = 0; i < count; ++i) {
    state_->threads.emplace_back([this, tokenizer, text] { state_->Work(*tokenizer, text); });
  }
}

EncodeThreads::~EncodeThreads() {
  {
    MutexLock lock(state_->mutex);
    state_->stopping = true;
    state_->changed.NotifyAll();
  }
  for (std::thread& thread : state_->threads) thread.join();
}

double EncodeThreads::Round() {
  return SecondsOf([&] {
    MutexLock lock(state_->mutex);
    ++state_->round;
    state_->working = static_cast<int>(state_->threads.size());
    state_->changed.NotifyAll();
    while (state_->working > 0) state_->changed.Wait(state_->mutex);
  });
}

absl::StatusOr<EncodeProcesses> EncodeProcesses::Start(const std::string& folder, int count) {
  EncodeProcesses all;
  for (int i = 0; i < count; ++i) {
    BDH_ASSIGN_OR_RETURN(auto process, Companion::Start({"/proc/self/exe", "bench", "encode-loop", folder}));
    all.processes_.push_back(std::move(process));
  }
  for (const auto& process : all.processes_) BDH_RETURN_IF_ERROR(process->ReceiveNumber().status());
  return all;
}

absl::StatusOr<double> EncodeProcesses::Round() {
  absl::Status status;
  const double seconds = SecondsOf([&] {
    for (const auto& process : processes_) status.Update(process->Send("encode"));
    for (const auto& process : processes_) status.Update(process->ReceiveNumber().status());
  });
  BDH_RETURN_IF_ERROR(status);
  return seconds;
}

absl::StatusOr<int> RunEncodeLoop(const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(const auto tokenizer, LoadFrom(folder));
  BDH_ASSIGN_OR_RETURN(const std::string text, ReadFile(absl::StrFormat("%s/%s", folder, kBenchText)));
  std::cout << EncodeAll(*tokenizer, text) << std::endl;
  for (std::string line; std::getline(std::cin, line);) std::cout << EncodeAll(*tokenizer, text) << std::endl;
  return kExitOk;
}

absl::StatusOr<std::unique_ptr<HuggingFace>> HuggingFace::Start(const std::string& python,
                                                                const std::string& folder) {
  auto started = std::make_unique<HuggingFace>();
  BDH_ASSIGN_OR_RETURN(started->python_, Companion::Start({python, "-c", kPython, folder}));
  BDH_ASSIGN_OR_RETURN(const std::string line, started->python_->Receive());
  if (!line.starts_with("ready ")) return absl::UnavailableError(absl::StrFormat("%s: %s", python, line));
  started->version_ = line.substr(6);
  return started;
}

absl::StatusOr<double> HuggingFace::Ask(const std::string& line) {
  BDH_RETURN_IF_ERROR(python_->Send(line));
  return python_->ReceiveNumber();
}

absl::StatusOr<double> HuggingFace::EncodeSeconds() {
  return Ask("encode");
}

absl::StatusOr<size_t> HuggingFace::Tokens() {
  BDH_ASSIGN_OR_RETURN(const double count, Ask("tokens"));
  return static_cast<size_t>(count);
}

absl::StatusOr<double> HuggingFace::TrainSeconds(int vocab_size) {
  return Ask(absl::StrFormat("train %d", vocab_size));
}

absl::StatusOr<std::vector<tokenizer::TokenizerFile>> TrainOnLines(std::string_view text, int vocab_size) {
  tokenizer::TrainerOptions options;
  options.vocab_size = vocab_size;
  BDH_ASSIGN_OR_RETURN(const auto trainer, tokenizer::TokenizerTrainer::Create(options));
  for (size_t at = 0; at < text.size();) {
    const size_t line_end = text.find('\n', at);
    const size_t end = line_end == std::string_view::npos ? text.size() : line_end + 1;
    trainer->Add(text.substr(at, end - at));
    at = end;
  }
  return trainer->Finish();
}

}  // namespace bdh::bdhctl
