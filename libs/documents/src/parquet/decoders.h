// Values out of a page's bytes, one after the other. The bytes may be anything: nothing outside of them is
// read, and a decoder that runs out of them, or finds what cannot be, says false.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::documents::parquet {

// Fixed numbers of bits, from the lowest bit on.
class BitReader {
 public:
  BitReader() = default;
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}
  // `width` is 0 to 64.
  bool Read(int width, uint64_t& out);

 private:
  std::string_view bytes_;
  size_t bit_ = 0;
};

// RLE / bit-packed hybrid: levels and indices of dictionaries.
class HybridDecoder {
 public:
  HybridDecoder() = default;
  // `width` is 0 to 32.
  HybridDecoder(std::string_view bytes, int width) : bytes_(bytes), width_(width) {}
  bool Next(uint32_t& out);

 private:
  bool NextRun();

  std::string_view bytes_;
  int width_ = 0;
  uint64_t repeats_ = 0, packed_ = 0;  // What is left of the run.
  uint32_t repeated_ = 0;
  BitReader bits_;
};

// DELTA_BINARY_PACKED integers.
class DeltaDecoder {
 public:
  DeltaDecoder() = default;
  // Reads the header. False: it is none.
  bool Init(std::string_view bytes);
  uint64_t count() const { return count_; }
  bool Next(int64_t& out);
  // How many bytes all values take.
  static bool Measure(std::string_view bytes, size_t& size);

 private:
  bool Varint(uint64_t& out);
  bool Zigzag(int64_t& out);
  bool NextBlock();
  bool NextMiniblock();

  std::string_view bytes_;
  size_t at_ = 0;
  uint64_t count_ = 0, left_ = 0;
  uint64_t miniblock_values_ = 0;
  size_t miniblocks_ = 0;
  int64_t value_ = 0, min_delta_ = 0;
  std::string_view widths_;
  size_t miniblock_ = 0;       // The next one of this block.
  uint64_t in_miniblock_ = 0;  // Values left.
  int width_ = 0;
  BitReader bits_;
  bool first_ = true;
};

// Strings. Views are valid until the next call or as long as the page is, whichever is shorter.
class StringDecoder {
 public:
  virtual ~StringDecoder() = default;
  virtual bool Next(std::string_view& out) = 0;
};

// 4 bytes of length, then the string.
class PlainStrings : public StringDecoder {
 public:
  explicit PlainStrings(std::string_view bytes) : bytes_(bytes) {}
  bool Next(std::string_view& out) override;

 private:
  std::string_view bytes_;
};

class DictionaryStrings : public StringDecoder {
 public:
  // `dictionary` outlives the decoder.
  DictionaryStrings(std::string_view bytes, const std::vector<std::string_view>& dictionary);
  bool Next(std::string_view& out) override;

 private:
  const std::vector<std::string_view>& dictionary_;
  bool ok_ = false;
  HybridDecoder indices_;
};

// All lengths, then all strings.
class DeltaLengthStrings : public StringDecoder {
 public:
  explicit DeltaLengthStrings(std::string_view bytes);
  bool Next(std::string_view& out) override;
  bool ok() const { return ok_; }

 private:
  bool ok_ = false;
  DeltaDecoder lengths_;
  std::string_view bytes_;
};

// How much each has of the one before, then what comes behind that.
class DeltaStrings : public StringDecoder {
 public:
  // A string over `max_bytes` ends the decoding.
  DeltaStrings(std::string_view bytes, size_t max_bytes);
  bool Next(std::string_view& out) override;

 private:
  bool ok_ = false;
  const size_t max_bytes_;
  DeltaDecoder prefixes_;
  DeltaLengthStrings suffixes_;
  std::string value_;
};

}  // namespace bdh::documents::parquet
