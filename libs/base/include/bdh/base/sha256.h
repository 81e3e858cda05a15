// SHA-256, of bytes that come in pieces or of many strings at a time.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct evp_md_ctx_st;

namespace bdh {

struct Sha256Digest {
  static constexpr size_t kBytes = 32;
  std::array<char, kBytes> bytes = {};

  // `view` is kBytes long.
  static Sha256Digest FromBytes(std::string_view view);
  std::string_view view() const { return {bytes.data(), bytes.size()}; }
  std::string Hex() const;  // Lower case.
  friend bool operator==(const Sha256Digest& a, const Sha256Digest& b) { return a.bytes == b.bytes; }
  // As their bytes sort.
  friend bool operator<(const Sha256Digest& a, const Sha256Digest& b) { return a.view() < b.view(); }
  template <class H>
  friend H AbslHashValue(H state, const Sha256Digest& digest) {
    return H::combine(std::move(state), digest.view());
  }
};

// Through OpenSSL's EVP, which uses the processor's SHA instructions. One object hashes many strings; not
// thread-safe.
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
  // The digest of all since the last Finish; begins anew.
  Sha256Digest Finish();
  // What Finish would say now; goes on.
  Sha256Digest Peek() const;

  Sha256Digest Of(std::string_view bytes) {
    Update(bytes);
    return Finish();
  }

 private:
  evp_md_ctx_st* const context_;
};

// The digest of each, by as many threads as there are cores (at most 8).
std::vector<Sha256Digest> Sha256OfEach(std::span<const std::string_view> strings);

}  // namespace bdh
