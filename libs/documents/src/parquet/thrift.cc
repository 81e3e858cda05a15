#include "parquet/thrift.h"

namespace bdh::documents::parquet {

uint8_t ThriftReader::Byte() {
  if (!ok_) return 0;
  if (at_ >= bytes_.size()) {
    ran_out_ = true;
    Fail();
    return 0;
  }
  return static_cast<uint8_t>(bytes_[at_++]);
}

uint64_t ThriftReader::Varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const uint8_t byte = Byte();
    value |= uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return ok_ ? value : 0;
  }
  Fail();
  return 0;
}

int64_t ThriftReader::Zigzag() {
  const uint64_t value = Varint();
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

std::string_view ThriftReader::Bytes() {
  const uint64_t size = Varint();
  if (!ok_) return {};
  if (size > bytes_.size() - at_) {
    ran_out_ = true;
    Fail();
    return {};
  }
  const std::string_view out = bytes_.substr(at_, size);
  at_ += size;
  return out;
}

bool ThriftReader::BeginStruct() {
  if (depth_ >= kDepthMax) Fail();
  if (!ok_) return false;
  outer_ids_[depth_++] = field_id_;
  field_id_ = 0;
  return true;
}

bool ThriftReader::ReadFieldHeader() {
  const uint8_t header = Byte();
  if (!ok_ || header == 0) return false;
  const int delta = header >> 4;
  type_ = static_cast<ThriftType>(header & 0x0f);
  const int64_t id = delta != 0 ? field_id_ + delta : Zigzag();
  if (id < 0 || id > 0x7fff || type_ > ThriftType::kStruct || type_ == ThriftType::kStop) Fail();
  field_id_ = static_cast<int>(id);
  return ok_;
}

bool ThriftReader::NextField() {
  if (ReadFieldHeader()) return true;
  field_id_ = outer_ids_[--depth_];
  return false;
}

int64_t ThriftReader::Integer() {
  if (type_ == ThriftType::kByte) return static_cast<int8_t>(Byte());
  if (type_ != ThriftType::kI16 && type_ != ThriftType::kI32 && type_ != ThriftType::kI64) Fail();
  return Zigzag();
}

bool ThriftReader::Bool() {
  if (type_ != ThriftType::kTrue && type_ != ThriftType::kFalse) Fail();
  return type_ == ThriftType::kTrue;
}

std::string_view ThriftReader::Binary() {
  if (type_ != ThriftType::kBinary) Fail();
  return Bytes();
}

int64_t ThriftReader::BeginList(ThriftType& element) {
  if (type_ != ThriftType::kList && type_ != ThriftType::kSet) Fail();
  const uint8_t header = Byte();
  element = static_cast<ThriftType>(header & 0x0f);
  const uint64_t size = header >> 4 == 15 ? Varint() : header >> 4;
  // Every element takes a byte at least.
  if (!ok_ || size > bytes_.size() - at_) {
    ran_out_ = ok_;
    Fail();
    return 0;
  }
  return static_cast<int64_t>(size);
}

void ThriftReader::SkipValue(ThriftType type, int depth, bool in_list) {
  if (depth > kDepthMax) Fail();
  if (!ok_) return;
  switch (type) {
    case ThriftType::kTrue:
    case ThriftType::kFalse:
      if (in_list) Byte();
      return;
    case ThriftType::kByte:
      Byte();
      return;
    case ThriftType::kI16:
    case ThriftType::kI32:
    case ThriftType::kI64:
      Varint();
      return;
    case ThriftType::kDouble:
      for (int i = 0; i < 8; ++i) Byte();
      return;
    case ThriftType::kBinary:
      Bytes();
      return;
    case ThriftType::kList:
    case ThriftType::kSet: {
      type_ = type;
      ThriftType element;
      for (int64_t n = BeginList(element); n > 0 && ok_; --n) SkipValue(element, depth + 1, true);
      return;
    }
    case ThriftType::kMap: {
      const uint64_t size = Varint();
      if (size == 0 || !ok_) return;
      const uint8_t types = Byte();
      if (size > bytes_.size() - at_) return Fail();
      for (uint64_t i = 0; i < size && ok_; ++i) {
        SkipValue(static_cast<ThriftType>(types >> 4), depth + 1, true);
        SkipValue(static_cast<ThriftType>(types & 0x0f), depth + 1, true);
      }
      return;
    }
    case ThriftType::kStruct:
      if (!BeginStruct()) return;
      while (NextField()) SkipValue(type_, depth + 1);
      return;
    default:
      Fail();
  }
}

}  // namespace bdh::documents::parquet
