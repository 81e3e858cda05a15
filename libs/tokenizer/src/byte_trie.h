// Byte strings and their numbers, walked byte by byte.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace bdh::tokenizer {

class ByteTrie {
 public:
  static constexpr int32_t kNone = -1;

  ByteTrie() : nodes_(1) { root_.fill(kNone); }

  // A key that is there already takes the new value. Not after Walk.
  void Add(std::string_view key, int32_t value) {
    int32_t node = 0;
    for (const char c : key) {
      const auto byte = static_cast<unsigned char>(c);
      int32_t child = Child(node, byte);
      if (child == kNone) {
        child = static_cast<int32_t>(nodes_.size());
        nodes_.emplace_back();
        if (node == 0) {
          root_[byte] = child;
        } else {
          auto& children = nodes_[static_cast<size_t>(node)].children;
          const auto place =
              std::lower_bound(children.begin(), children.end(), byte,
                               [](const Edge& edge, unsigned char b) { return edge.byte < b; });
          children.insert(place, {byte, child});
        }
      }
      node = child;
    }
    nodes_[static_cast<size_t>(node)].value = value;
  }

  int32_t root() const { return 0; }
  // kNone: nothing begins so.
  int32_t Child(int32_t node, unsigned char byte) const {
    if (node == 0) return root_[byte];
    const auto& children = nodes_[static_cast<size_t>(node)].children;
    if (children.size() <= 8) {
      for (const Edge& edge : children) {
        if (edge.byte == byte) return edge.node;
      }
      return kNone;
    }
    const auto found = std::lower_bound(children.begin(), children.end(), byte,
                                        [](const Edge& edge, unsigned char b) { return edge.byte < b; });
    return found != children.end() && found->byte == byte ? found->node : kNone;
  }
  int32_t Value(int32_t node) const { return nodes_[static_cast<size_t>(node)].value; }

 private:
  struct Edge {
    unsigned char byte;
    int32_t node;
  };
  struct Node {
    std::vector<Edge> children;
    int32_t value = kNone;
  };
  std::array<int32_t, 256> root_;
  std::vector<Node> nodes_;
};

}  // namespace bdh::tokenizer
