#include "parquet/decoders.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bdh::documents::parquet {

static_assert(std::endian::native == std::endian::little,
              "parquet's numbers are little-endian, and read as they are");

bool BitReader::Read(int width, uint64_t& out) {
  out = 0;
  if (width == 0) return true;
  const size_t end = bit_ + static_cast<size_t>(width);
  if ((end + 7) / 8 > bytes_.size()) return false;
  const size_t byte = bit_ / 8, shift = bit_ % 8;
  uint64_t low = 0;
  std::memcpy(&low, bytes_.data() + byte, std::min<size_t>(sizeof low, bytes_.size() - byte));
  out = low >> shift;
  if (shift + static_cast<size_t>(width) > 64) {
    out |= uint64_t{static_cast<unsigned char>(bytes_[byte + 8])} << (64 - shift);
  }
  if (width < 64) out &= (uint64_t{1} << width) - 1;
  bit_ = end;
  return true;
}

bool HybridDecoder::NextRun() {
  uint64_t header = 0;
  int shift = 0;
  while (true) {
    if (bytes_.empty() || shift >= 35) return false;
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    header |= uint64_t{byte & 0x7fu} << shift;
    shift += 7;
    if ((byte & 0x80) == 0) break;
  }
  if (header & 1) {
    packed_ = (header >> 1) * 8;
    // The last group may be cut where the values end.
    const uint64_t size = std::min<uint64_t>((header >> 1) * static_cast<uint64_t>(width_), bytes_.size());
    bits_ = BitReader(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return packed_ > 0;
  }
  repeats_ = header >> 1;
  const size_t size = (static_cast<size_t>(width_) + 7) / 8;
  if (bytes_.size() < size || repeats_ == 0) return false;
  repeated_ = 0;
  std::memcpy(&repeated_, bytes_.data(), size);
  bytes_.remove_prefix(size);
  return true;
}

bool HybridDecoder::Next(uint32_t& out) {
  if (repeats_ == 0 && packed_ == 0 && !NextRun()) return false;
  if (repeats_ > 0) {
    --repeats_;
    out = repeated_;
    return true;
  }
  --packed_;
  uint64_t value = 0;
  if (!bits_.Read(width_, value)) return false;
  out = static_cast<uint32_t>(value);
  return true;
}

bool DeltaDecoder::Varint(uint64_t& out) {
  out = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_ >= bytes_.size()) return false;
    const auto byte = static_cast<unsigned char>(bytes_[at_++]);
    out |= uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

bool DeltaDecoder::Zigzag(int64_t& out) {
  uint64_t value = 0;
  if (!Varint(value)) return false;
  out = static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
  return true;
}

bool DeltaDecoder::Init(std::string_view bytes) {
  bytes_ = bytes;
  uint64_t block = 0, miniblocks = 0;
  if (!Varint(block) || !Varint(miniblocks) || !Varint(count_) || !Zigzag(value_)) return false;
  // The format wants blocks of a multiple of 128 and miniblocks of a multiple of 32; the limits are ours.
  if (block == 0 || block > (uint64_t{1} << 24) || miniblocks == 0 || miniblocks > 4096 ||
      block % miniblocks != 0 || (block / miniblocks) % 8 != 0 || count_ > INT32_MAX) {
    return false;
  }
  miniblocks_ = miniblocks;
  miniblock_values_ = block / miniblocks;
  miniblock_ = miniblocks_;
  left_ = count_;
  return true;
}

bool DeltaDecoder::NextBlock() {
  if (!Zigzag(min_delta_) || bytes_.size() - at_ < miniblocks_) return false;
  widths_ = bytes_.substr(at_, miniblocks_);
  at_ += miniblocks_;
  miniblock_ = 0;
  return true;
}

bool DeltaDecoder::NextMiniblock() {
  if (miniblock_ == miniblocks_ && !NextBlock()) return false;
  width_ = static_cast<unsigned char>(widths_[miniblock_++]);
  if (width_ > 64) return false;
  // The last one may be cut where the values end.
  const uint64_t size =
      std::min<uint64_t>(miniblock_values_ * static_cast<uint64_t>(width_) / 8, bytes_.size() - at_);
  bits_ = BitReader(bytes_.substr(at_, size));
  at_ += size;
  in_miniblock_ = miniblock_values_;
  return true;
}

bool DeltaDecoder::Next(int64_t& out) {
  if (left_ == 0) return false;
  --left_;
  if (first_) {
    first_ = false;
    out = value_;
    return true;
  }
  if (in_miniblock_ == 0 && !NextMiniblock()) return false;
  --in_miniblock_;
  uint64_t delta = 0;
  if (!bits_.Read(width_, delta)) return false;
  // Wraps round, as the format has it.
  value_ = static_cast<int64_t>(static_cast<uint64_t>(value_) + static_cast<uint64_t>(min_delta_) + delta);
  out = value_;
  return true;
}

bool DeltaDecoder::Measure(std::string_view bytes, size_t& size) {
  DeltaDecoder decoder;
  if (!decoder.Init(bytes)) return false;
  for (uint64_t left = decoder.count_ > 0 ? decoder.count_ - 1 : 0; left > 0;) {
    if (!decoder.NextMiniblock()) return false;
    left -= std::min(left, decoder.miniblock_values_);
  }
  size = decoder.at_;
  return true;
}

bool PlainStrings::Next(std::string_view& out) {
  uint32_t size = 0;
  if (bytes_.size() < sizeof size) return false;
  std::memcpy(&size, bytes_.data(), sizeof size);
  if (size > bytes_.size() - sizeof size) return false;
  out = bytes_.substr(sizeof size, size);
  bytes_.remove_prefix(sizeof size + size);
  return true;
}

DictionaryStrings::DictionaryStrings(std::string_view bytes, const std::vector<std::string_view>& dictionary)
    : dictionary_(dictionary) {
  if (bytes.empty() || static_cast<unsigned char>(bytes[0]) > 32) return;
  ok_ = true;
  indices_ = HybridDecoder(bytes.substr(1), static_cast<unsigned char>(bytes[0]));
}

bool DictionaryStrings::Next(std::string_view& out) {
  uint32_t index = 0;
  if (!ok_ || !indices_.Next(index) || index >= dictionary_.size()) return false;
  out = dictionary_[index];
  return true;
}

DeltaLengthStrings::DeltaLengthStrings(std::string_view bytes) {
  size_t size = 0;
  if (!DeltaDecoder::Measure(bytes, size) || !lengths_.Init(bytes)) return;
  ok_ = true;
  bytes_ = bytes.substr(size);
}

bool DeltaLengthStrings::Next(std::string_view& out) {
  int64_t size = 0;
  if (!ok_ || !lengths_.Next(size) || size < 0 || static_cast<uint64_t>(size) > bytes_.size()) return false;
  out = bytes_.substr(0, static_cast<size_t>(size));
  bytes_.remove_prefix(static_cast<size_t>(size));
  return true;
}

namespace {

std::string_view BehindLengths(std::string_view bytes) {
  size_t size = 0;
  return DeltaDecoder::Measure(bytes, size) ? bytes.substr(size) : std::string_view();
}

}  // namespace

DeltaStrings::DeltaStrings(std::string_view bytes, size_t max_bytes)
    : max_bytes_(max_bytes), suffixes_(BehindLengths(bytes)) {
  ok_ = prefixes_.Init(bytes) && suffixes_.ok();
}

bool DeltaStrings::Next(std::string_view& out) {
  int64_t prefix = 0;
  std::string_view suffix;
  if (!ok_ || !prefixes_.Next(prefix) || !suffixes_.Next(suffix)) return false;
  if (prefix < 0 || static_cast<uint64_t>(prefix) > value_.size()) return false;
  if (static_cast<size_t>(prefix) + suffix.size() > max_bytes_) return false;
  value_.resize(static_cast<size_t>(prefix));
  value_.append(suffix);
  out = value_;
  return true;
}

}  // namespace bdh::documents::parquet
