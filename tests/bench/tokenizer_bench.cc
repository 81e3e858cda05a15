// What encoding and training cost; tests/tools/bench_tokenizers.py runs it beside Hugging Face's library.
//
//   tokenizer_bench encode TOKENIZER.JSON TEXT [THREADS]   each thread encodes the whole text, in documents
//   of 64 KiB tokenizer_bench train TEXT VOCAB_SIZE OUTPUT.JSON      byte-level BPE, GPT-2's split
//
// Prints one JSON object: the best of five.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <thread>

#include "bdh/tokenizer/tokenizer.h"
#include "bdh/tokenizer/trainer.h"

namespace {

using bdh::tokenizer::LoadTokenizer;
using bdh::tokenizer::TokenizerTrainer;
constexpr size_t kDocumentBytes = 64 << 10;
constexpr int kRounds = 5;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

double Seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Ends each piece at a line's end.
template <class Take>
void ForEachPiece(std::string_view text, size_t bytes, const Take& take) {
  for (size_t at = 0; at < text.size();) {
    size_t end = at + bytes < text.size() ? text.find('\n', at + bytes) : text.size();
    end = end == std::string_view::npos ? text.size() : std::min(end + 1, text.size());
    take(text.substr(at, end - at));
    at = end;
  }
}

int Encode(const std::string& json, const std::string& text, int threads) {
  const auto tokenizer = LoadTokenizer("bench", {{"tokenizer.json", Read(json)}});
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  const std::string bytes = Read(text);
  double best = 1e9;
  size_t tokens = 0;
  for (int round = 0; round < kRounds; ++round) {
    best = std::min(best, Seconds([&] {
                      std::vector<std::jthread> workers;
                      for (int t = 0; t < threads; ++t) {
                        workers.emplace_back([&, t] {
                          std::vector<int32_t> ids;
                          size_t count = 0;
                          ForEachPiece(bytes, kDocumentBytes, [&](std::string_view piece) {
                            ids.clear();
                            (*tokenizer)->Encode(piece, ids);
                            count += ids.size();
                          });
                          if (t == 0) tokens = count;
                        });
                      }
                    }));
  }
  std::cout << "{\"seconds\": " << best << ", \"threads\": " << threads << ", \"tokens\": " << tokens
            << ", \"mb_per_s\": " << static_cast<double>(bytes.size()) * threads / best / 1e6 << "}\n";
  return 0;
}

int Train(const std::string& text, int vocab_size, const std::string& output) {
  const std::string bytes = Read(text);
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    best = std::min(best, Seconds([&] {
                      auto trainer = TokenizerTrainer::Create({.vocab_size = vocab_size});
                      ForEachPiece(bytes, 0, [&](std::string_view line) { (*trainer)->Add(line); });
                      const auto files = (*trainer)->Finish();
                      std::ofstream(output, std::ios::binary) << (*files)[0].bytes;
                    }));
  }
  std::cout << "{\"seconds\": " << best
            << ", \"mb_per_s\": " << static_cast<double>(bytes.size()) / best / 1e6 << "}\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "encode" && argc >= 4)
    return Encode(argv[2], argv[3], argc > 4 ? std::max(1, std::atoi(argv[4])) : 1);
  if (mode == "train" && argc == 5) return Train(argv[2], std::atoi(argv[3]), argv[4]);
  std::cerr
      << "usage: tokenizer_bench encode TOKENIZER.JSON TEXT [THREADS] | train TEXT VOCAB_SIZE OUTPUT.JSON\n";
  return 2;
}
