// Bodies of answers, with every field that OpenAI's schema requires.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdh/v1/inference.pb.h"

namespace bdh::gateway {

// What all bodies of one completion share.
struct CompletionHeader {
  bool chat = false;
  std::string id = "";  // NewCompletionId
  int64_t created = 0;
  std::string model = "";
  std::string fingerprint = "";  // Of the weights; empty while unknown.
};

struct Choice {
  std::string text = "";
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
};

std::string NewCompletionId(bool chat);

// The plain answer.
std::string CompletionBody(const CompletionHeader& header, const std::vector<Choice>& choices,
                           const v1::Usage& usage);

// Chunks of a stream. `with_usage`: the stream will end with UsageChunk, so others say "usage":null.
class ChunkWriter {
 public:
  ChunkWriter(const CompletionHeader& header, bool with_usage) : header_(header), with_usage_(with_usage) {}
  std::string Role(int index) const;  // Chat: the first of each choice.
  std::string Text(int index, const std::string& text) const;
  std::string Finish(int index, v1::FinishReason reason) const;  // The last of each choice.
  std::string Usage(const v1::Usage& usage) const;

 private:
  const CompletionHeader& header_;  // Outlives this.
  const bool with_usage_;
};

std::string ModelBody(const v1::Model& model);
std::string ModelListBody(const v1::ListModelsResponse& models);

}  // namespace bdh::gateway
