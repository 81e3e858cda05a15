// A document's bytes on their way: UTF-8, byte order mark, line ends, composed form. Works on pieces, and
// what it makes does not depend on where they were cut.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bdh/documents/options.h"

namespace bdh::documents {

// How many bytes at the end of `text` may be the beginning of a character that is cut: 0 to 3.
size_t CutCharacterBytes(std::string_view text);

class Cleaner {
 public:
  explicit Cleaner(const Options& options);

  void Begin();
  // Appends what can be said already to `out`.
  void Append(std::string_view piece, std::string& out);
  // The document has no more.
  void End(std::string& out);

  // Whether there were bytes that are no UTF-8. After End() the answer is final.
  bool broken() const { return broken_; }

 private:
  void CheckUtf8(std::string_view text, bool at_end, std::string& out);
  void Emit(std::string_view text, std::string& out);
  void Compose(std::string_view text, bool at_end, std::string& out);

  const bool repair_, strip_bom_, unix_line_ends_, nfc_;
  bool broken_ = false;
  bool at_start_ = true;
  bool after_cr_ = false;
  std::string held_;        // The beginning of a character.
  std::string uncomposed_;  // Behind the last place where composing may begin anew.
  std::string scratch_;
};

}  // namespace bdh::documents
