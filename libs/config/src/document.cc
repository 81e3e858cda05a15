#include "document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::config {
namespace {

absl::Status Error(const std::string& place, std::string_view sentence) {
  return absl::InvalidArgumentError(absl::StrFormat("%s%s", place, sentence));
}

// What usually is behind an error of yaml-cpp, whose own words are terse.
std::string Hint(std::string_view yaml, const YAML::Exception& error) {
  const bool is_alias = error.msg.find("alias") != std::string::npos ||
                        error.msg.find("referenced anchor") != std::string::npos;
  if (is_alias) return "; a value that begins with * needs quotes";
  size_t begin = error.mark.is_null() ? 0 : std::min<size_t>(error.mark.pos, yaml.size());
  begin = begin == 0 ? 0 : yaml.rfind('\n', begin - 1) + 1;  // npos + 1 is 0.
  const size_t text = std::min(yaml.find_first_not_of(" \t", begin), yaml.size());
  const bool tab = yaml.substr(begin, text - begin).find('\t') != std::string_view::npos;
  return tab ? "; indent with spaces, not tabs" : "";
}

// yaml-cpp takes byte 4 for the end of the text and would drop the rest without a word.
absl::Status CheckCharacters(std::string_view yaml, const Origin& origin) {
  int line = 1;
  int column = 1;
  for (const unsigned char byte : yaml) {
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      return Error(origin.Place(line, column),
                   absl::StrFormat("control character 0x%02x; want YAML as UTF-8 text", byte));
    }
    column = byte == '\n' ? 1 : column + 1;
    line += byte == '\n';
  }
  if (!IsUtf8(yaml)) return Error(origin.name, ": is not UTF-8 text");
  return absl::OkStatus();
}

}  // namespace

std::string Origin::Place(int line, int column) const {
  return has_positions ? absl::StrFormat("%s:%d:%d: ", name, line, column) : name + ": ";
}

// Events rather than YAML::Load: they keep duplicate keys, tell quoted from plain, and can be cut short.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(Document& document) : document_(document) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(Node::Kind::kNull, mark, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (anchor >= anchors_.size() || anchors_[anchor] == nullptr) {
      throw YAML::ParserException(mark, "this alias names nothing");
    }
    CheckCount(mark);
    Attach(anchors_[anchor]);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    RefuseTag(mark, tag);
    Node* node = Add(Node::Kind::kScalar, mark, anchor);
    node->text = value;
    node->quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Node::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(Node::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Level {
    Node* node;
    const Node* key = nullptr;  // A key whose value is still to come.
  };

  // "?" and "!" are what yaml-cpp gives to values without a tag.
  static void RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw YAML::ParserException(mark, "tags such as !!str are not supported; remove it");
  }

  void CheckCount(const YAML::Mark& mark) {
    if (++count_ > kMaxValues) {
      throw YAML::ParserException(mark, absl::StrFormat("more than %d keys and values", kMaxValues));
    }
  }

  Node* Add(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    CheckCount(mark);
    Node& node = document_.nodes_.emplace_back();
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    if (anchor != 0) {
      if (anchors_.size() <= anchor) anchors_.resize(anchor + 1, nullptr);
      anchors_[anchor] = &node;
    }
    Attach(&node);
    return &node;
  }

  void Open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    RefuseTag(mark, tag);
    if (open_.size() >= kMaxDepth) {
      throw YAML::ParserException(mark, absl::StrFormat("nested deeper than %d levels", kMaxDepth));
    }
    open_.push_back({Add(kind, mark, anchor)});
  }

  void Attach(const Node* node) {
    if (open_.empty()) {
      document_.root_ = node;
      return;
    }
    Level& level = open_.back();
    if (level.node->kind == Node::Kind::kList) {
      level.node->items.push_back(node);
    } else if (level.key == nullptr) {
      level.key = node;
    } else {
      level.node->pairs.emplace_back(level.key, node);
      level.key = nullptr;
    }
  }

  Document& document_;
  size_t count_ = 0;
  std::vector<Level> open_;
  std::vector<const Node*> anchors_;  // By yaml-cpp's number; 0 means none.
};

absl::StatusOr<Document> Document::Parse(std::string_view yaml, const Origin& origin) {
  if (yaml.size() > kMaxDocumentBytes) {
    return Error(origin.name, absl::StrFormat(": is larger than %s, the most a configuration may have",
                                              FormatBytes(kMaxDocumentBytes)));
  }
  BDH_RETURN_IF_ERROR(CheckCharacters(yaml, origin));
  Document document;
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    TreeBuilder builder(document);
    parser.HandleNextDocument(builder);
    Document rest;
    TreeBuilder ignored(rest);
    if (parser.HandleNextDocument(ignored) && rest.root_ != nullptr) {
      return Error(origin.Place(*rest.root_), "a second document; want one");
    }
  } catch (const YAML::Exception& error) {
    const bool placed = !error.mark.is_null();
    return Error(origin.Place(placed ? error.mark.line + 1 : 1, placed ? error.mark.column + 1 : 1),
                 "not valid YAML: " + error.msg + Hint(yaml, error));
  }
  if (document.root_ == nullptr) document.root_ = &document.nodes_.emplace_back();
  return document;
}

}  // namespace bdh::config
