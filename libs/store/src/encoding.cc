#include "encoding.h"

#include <zstd.h>

#include <memory>

namespace bdh::store {
namespace {

constexpr int kLevel = 1;

void XorInto(std::string& bytes, std::string_view base) {
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(bytes[i] ^ base[i]);
}

// What is left over when elements do not fit stays at the end.
std::string Shuffle(std::string_view bytes, size_t element) {
  std::string out(bytes.size(), '\0');
  const size_t count = bytes.size() / element;
  for (size_t byte = 0; byte < element; ++byte) {
    char* to = &out[byte * count];
    const char* from = bytes.data() + byte;
    for (size_t i = 0; i < count; ++i) to[i] = from[i * element];
  }
  for (size_t i = count * element; i < bytes.size(); ++i) out[i] = bytes[i];
  return out;
}

std::string Unshuffle(std::string_view bytes, size_t element) {
  std::string out(bytes.size(), '\0');
  const size_t count = bytes.size() / element;
  for (size_t byte = 0; byte < element; ++byte) {
    const char* from = bytes.data() + byte * count;
    char* to = &out[byte];
    for (size_t i = 0; i < count; ++i) to[i * element] = from[i];
  }
  for (size_t i = count * element; i < bytes.size(); ++i) out[i] = bytes[i];
  return out;
}

}  // namespace

std::optional<std::string> Compress(std::string_view bytes, int element_bytes, std::string_view base) {
  if (bytes.empty()) return std::nullopt;
  std::string work;
  if (!base.empty()) {
    work = bytes;
    XorInto(work, base);
    bytes = work;
  }
  std::string shuffled;
  if (element_bytes > 1) {
    shuffled = Shuffle(bytes, static_cast<size_t>(element_bytes));
    bytes = shuffled;
  }
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  // One a thread: making one for each chunk would cost more than small chunks do.
  thread_local const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                                ZSTD_freeCCtx);
  const size_t size =
      ZSTD_compressCCtx(context.get(), out.data(), out.size(), bytes.data(), bytes.size(), kLevel);
  if (ZSTD_isError(size) != 0 || size > bytes.size() - bytes.size() / 16) return std::nullopt;
  out.resize(size);
  return out;
}

absl::Status Decompress(std::string_view stored, int element_bytes, int64_t size, std::string_view base,
                        std::string& out) {
  if (!base.empty() && static_cast<int64_t>(base.size()) != size) {
    return absl::DataLossError("the chunk it is the difference from has another size");
  }
  out.resize(static_cast<size_t>(size));
  const size_t got = ZSTD_decompress(out.data(), out.size(), stored.data(), stored.size());
  if (ZSTD_isError(got) != 0 || got != out.size()) {
    return absl::DataLossError("a chunk is damaged: it cannot be decompressed");
  }
  if (element_bytes > 1) out = Unshuffle(out, static_cast<size_t>(element_bytes));
  if (!base.empty()) XorInto(out, base);
  return absl::OkStatus();
}

}  // namespace bdh::store
