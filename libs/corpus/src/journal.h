// What a builder notes at a checkpoint, so that another one goes on from there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "token_files.h"

namespace bdh::corpus {

inline constexpr char kJournalFile[] = "journal.json";

struct Journal {
  std::string fingerprint;  // Of the builder's options.
  int64_t pieces = 0;       // Of text, that are in the files.
  std::string digest;       // Of that text.
  int64_t tokens = 0, documents = 0;
  int64_t open_tokens = 0;  // Of the document that is not at its end.
  struct Pending {
    int64_t tokens;
    uint64_t hash;
    double score;
  };
  std::vector<Pending> pending;
  int rule = 0;
  int64_t waiting_bytes = 0;
  NumberedShards::State train, validation, index, scores;
};

std::string JournalToJson(const Journal& journal);
// DataLossError: not a journal.
absl::StatusOr<Journal> JournalFromJson(std::string_view json);

}  // namespace bdh::corpus
