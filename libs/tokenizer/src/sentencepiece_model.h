// libsentencepiece behind a wall: its header declares an absl::string_view of its own, so that no file can
// include both it and Abseil.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::tokenizer {

class SentencePieceModel {
 public:
  // Null, and `error` says why.
  static std::unique_ptr<SentencePieceModel> Load(std::string_view bytes, std::string& error);
  virtual ~SentencePieceModel() = default;

  virtual int size() const = 0;
  virtual const std::string& Piece(int id) const = 0;
  virtual int Id(std::string_view piece) const = 0;
  virtual bool IsControl(int id) const = 0;
  virtual bool IsUnknown(int id) const = 0;
  virtual bool IsByte(int id) const = 0;
  virtual int begin_id() const = 0;  // Below 0: none.
  virtual int end_id() const = 0;
  // Appends; false: it could not.
  virtual bool Encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
};

}  // namespace bdh::tokenizer
