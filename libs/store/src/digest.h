#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

struct evp_md_ctx_st;

namespace bdh::store {

// A SHA-256: the name of a chunk.
struct Digest {
  static constexpr size_t kBytes = 32;
  std::array<char, kBytes> bytes = {};

  // `view` is kBytes long.
  static Digest FromBytes(std::string_view view);
  std::string_view view() const { return {bytes.data(), bytes.size()}; }
  std::string Hex() const;
  friend bool operator==(const Digest& a, const Digest& b) { return a.bytes == b.bytes; }
  // As RocksDB sorts them.
  friend bool operator<(const Digest& a, const Digest& b) { return a.view() < b.view(); }
  template <class H>
  friend H AbslHashValue(H state, const Digest& digest) {
    return H::combine(std::move(state), digest.view());
  }
};

// SHA-256 through OpenSSL's EVP, which uses the processor's SHA instructions. One object hashes many chunks;
// not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  // Integers go in as 8 little-endian bytes, texts after their length, so that no two inputs look alike.
  void UpdateNumber(uint64_t number);
  void UpdateText(std::string_view text);
  // The digest of all since the last Finish.
  Digest Finish();

  Digest Of(std::string_view bytes) {
    Update(bytes);
    return Finish();
  }

 private:
  evp_md_ctx_st* const context_;
};

}  // namespace bdh::store
