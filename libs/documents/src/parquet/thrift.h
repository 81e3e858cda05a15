// Thrift's compact protocol, as far as parquet's footers and page headers need it. The bytes may be anything:
// after an error every read returns zero or nothing, and ok() is false.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bdh::documents::parquet {

enum class ThriftType : uint8_t {
  kStop = 0,
  kTrue = 1,
  kFalse = 2,
  kByte = 3,
  kI16 = 4,
  kI32 = 5,
  kI64 = 6,
  kDouble = 7,
  kBinary = 8,
  kList = 9,
  kSet = 10,
  kMap = 11,
  kStruct = 12,
};

class ThriftReader {
 public:
  explicit ThriftReader(std::string_view bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  // Whether it failed because there were no more bytes.
  bool ran_out() const { return ran_out_; }
  size_t position() const { return at_; }

  // Walks over a struct: for (reader.BeginStruct(); reader.NextField();) switch (reader.field()) ...
  // EndStruct() is called by the NextField that returns false. A field that is not read has to be skipped.
  bool BeginStruct();
  bool NextField();
  int field() const { return field_id_; }
  ThriftType type() const { return type_; }

  // The current field's value. A value of another type is an error.
  int64_t Integer();
  bool Bool();
  std::string_view Binary();
  // Begins a list: how many elements, of which type.
  int64_t BeginList(ThriftType& element);
  // Skips the current field's value.
  void Skip() { SkipValue(type_, 0); }

  // An element of a list.
  int64_t IntegerElement() { return Zigzag(); }
  std::string_view BinaryElement() { return Bytes(); }
  void SkipElement(ThriftType element) { SkipValue(element, 0, /*in_list=*/true); }

 private:
  static constexpr int kDepthMax = 32;

  void Fail() { ok_ = false; }
  uint8_t Byte();
  uint64_t Varint();
  int64_t Zigzag();
  std::string_view Bytes();
  bool ReadFieldHeader();
  void SkipValue(ThriftType type, int depth, bool in_list = false);

  const std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
  bool ran_out_ = false;
  // Field ids are stored as differences; the structs around this one go on with theirs.
  int depth_ = 0;
  int outer_ids_[kDepthMax] = {};
  int field_id_ = 0;
  ThriftType type_ = ThriftType::kStop;
};

}  // namespace bdh::documents::parquet
