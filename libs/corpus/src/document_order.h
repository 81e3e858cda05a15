// A split's documents in another order than they lie in: easy ones before hard ones.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bdh/corpus/dataset.h"

namespace bdh::corpus {

// Immutable. Positions are those of the documents laid end to end in this order.
class DocumentOrder {
 public:
  // 24 bytes of memory a document.
  static constexpr int64_t kDocumentsMax = int64_t{1} << 27;

  // By length in tokens, or by score; equal ones as they lie.
  DocumentOrder(const Dataset& dataset, Split split, Order order);

  void Copy(const Dataset& dataset, int64_t position, int64_t count, char* out) const;
  void VisitBegins(int64_t position, int64_t count, const std::function<void(int64_t position)>& visit) const;

 private:
  struct Run {
    int64_t end;    // In this order.
    int64_t begin;  // In the split.
  };
  std::vector<Run>::const_iterator RunAt(int64_t position) const;

  const Split split_;
  std::vector<Run> runs_;  // Of documents that have tokens in the split.
};

}  // namespace bdh::corpus
