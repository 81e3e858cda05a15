#include "parquet/codecs.h"

#include <brotli/decode.h>
#include <lz4.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <limits>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"

namespace bdh::documents::parquet {
namespace {

// As the format numbers them.
enum Codec { kNone = 0, kSnappy = 1, kGzip = 2, kLzo = 3, kBrotli = 4, kLz4 = 5, kZstd = 6, kLz4Raw = 7 };

std::string CodecName(int codec) {
  constexpr std::string_view kNames[] = {"UNCOMPRESSED", "SNAPPY", "GZIP", "LZO",
                                         "BROTLI",       "LZ4",    "ZSTD", "LZ4_RAW"};
  if (codec >= 0 && static_cast<size_t>(codec) < std::size(kNames)) return std::string(kNames[codec]);
  return absl::StrFormat("number %d", codec);
}

bool Gunzip(std::string_view in, std::string& out) {
  constexpr int kGzipOrZlib = 32;
  z_stream state = {};
  BDH_CHECK(inflateInit2(&state, kGzipOrZlib + MAX_WBITS) == Z_OK) << "no memory for zlib";
  state.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
  state.avail_in = static_cast<uInt>(in.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  int result = Z_OK;
  // Members that follow each other are one text.
  do {
    result = inflate(&state, Z_FINISH);
  } while (result == Z_STREAM_END && state.avail_in > 0 && state.avail_out > 0 &&
           inflateReset(&state) == Z_OK);
  inflateEnd(&state);
  return result == Z_STREAM_END && state.avail_out == 0;
}

bool DecompressInto(int codec, std::string_view in, std::string& out) {
  size_t size = 0;
  switch (codec) {
    case kNone:
      out.assign(in);
      return true;
    case kSnappy:
      return snappy::GetUncompressedLength(in.data(), in.size(), &size) && size == out.size() &&
             snappy::RawUncompress(in.data(), in.size(), out.data());
    case kGzip:
      return Gunzip(in, out);
    case kBrotli:
      size = out.size();
      return BrotliDecoderDecompress(in.size(), reinterpret_cast<const uint8_t*>(in.data()), &size,
                                     reinterpret_cast<uint8_t*>(out.data())) ==
                 BROTLI_DECODER_RESULT_SUCCESS &&
             size == out.size();
    case kZstd:
      return ZSTD_decompress(out.data(), out.size(), in.data(), in.size()) == out.size();
    case kLz4Raw:
      return LZ4_decompress_safe(in.data(), out.data(), static_cast<int>(in.size()),
                                 static_cast<int>(out.size())) == static_cast<int>(out.size());
    default:
      return false;
  }
}

}  // namespace

absl::Status CheckCodec(int codec) {
  if (codec >= kNone && codec <= kLz4Raw && codec != kLzo && codec != kLz4) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("it is compressed by %s, which is not read here (UNCOMPRESSED, SNAPPY, GZIP, BROTLI, "
                      "ZSTD and LZ4_RAW are); write "
                      "it anew with one of them",
                      CodecName(codec)));
}

absl::Status Decompress(int codec, std::string_view in, size_t size, std::string& out) {
  // Page sizes are 32-bit by the format.
  BDH_CHECK(size <= static_cast<size_t>(std::numeric_limits<int>::max()) &&
            in.size() <= static_cast<size_t>(std::numeric_limits<int>::max()));
  out.resize(size);
  if (size == 0 && in.empty()) return absl::OkStatus();
  if (DecompressInto(codec, in, out) && out.size() == size) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("its %s data is damaged", CodecName(codec)));
}

}  // namespace bdh::documents::parquet
