#include "bdh/base/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "absl/strings/escaping.h"
#include "bdh/base/cores.h"
#include "bdh/base/log.h"

namespace bdh {

Sha256Digest Sha256Digest::FromBytes(std::string_view view) {
  BDH_CHECK(view.size() == kBytes);
  Sha256Digest digest;
  std::memcpy(digest.bytes.data(), view.data(), kBytes);
  return digest;
}

std::string Sha256Digest::Hex() const {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  BDH_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() {
  EVP_MD_CTX_free(context_);
}

void Sha256::Update(std::string_view bytes) {
  BDH_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

void Sha256::UpdateNumber(uint64_t number) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(number >> (8 * i));
  Update({bytes, sizeof(bytes)});
}

void Sha256::UpdateText(std::string_view text) {
  UpdateNumber(text.size());
  Update(text);
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest;
  BDH_CHECK(EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr) ==
            1);
  // A null type keeps the algorithm: no allocation between strings.
  BDH_CHECK(EVP_DigestInit_ex(context_, nullptr, nullptr) == 1);
  return digest;
}

Sha256Digest Sha256::Peek() const {
  Sha256 copy;
  BDH_CHECK(EVP_MD_CTX_copy_ex(copy.context_, context_) == 1);
  return copy.Finish();
}

std::vector<Sha256Digest> Sha256OfEach(std::span<const std::string_view> strings) {
  constexpr int kMaxThreads = 8;
  std::vector<Sha256Digest> digests(strings.size());
  std::atomic<size_t> next{0};
  const auto hash = [&] {
    Sha256 sha;
    for (size_t i = next++; i < strings.size(); i = next++) digests[i] = sha.Of(strings[i]);
  };
  const size_t threads = std::min<size_t>(strings.size(), std::min(AvailableCores(), kMaxThreads));
  std::vector<std::thread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back(hash);
  hash();
  for (std::thread& other : others) other.join();
  return digests;
}

}  // namespace bdh
