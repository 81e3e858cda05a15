// YAML text as a tree that remembers where each value stood. Knows nothing of the schema.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::config {

// Far above any real configuration, and small enough that no text can hurt.
inline constexpr size_t kMaxDocumentBytes = 1 << 20;
inline constexpr int kMaxDepth = 16;
inline constexpr size_t kMaxValues = 50000;  // Keys count too, and an alias counts as what it names.

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 1;  // Both count from 1.
  int column = 1;
  std::string text;  // kScalar
  bool quoted =
      false;  // kScalar: written in quotes or as a block, so it is text even if it looks like a number.
  std::vector<const Node*> items;                          // kList
  std::vector<std::pair<const Node*, const Node*>> pairs;  // kMap, as written: duplicates included.
};

// Where a text came from; errors begin with it: "file:line:column: ". Without positions, "origin: ", for a
// value so short that counting from its beginning would confuse.
struct Origin {
  std::string name;
  bool has_positions = true;
  std::string Place(int line, int column) const;
  std::string Place(const Node& node) const { return Place(node.line, node.column); }
};

// Owns the nodes. An alias is a second pointer to the node it names.
class Document {
 public:
  // InvalidArgumentError, with its place, for text that is not one YAML document.
  static absl::StatusOr<Document> Parse(std::string_view yaml, const Origin& origin);
  const Node& root() const { return *root_; }

 private:
  friend class TreeBuilder;
  std::deque<Node> nodes_;
  const Node* root_ = nullptr;
};

}  // namespace bdh::config
