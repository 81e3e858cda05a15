#include "digest.h"

#include <openssl/evp.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "bdh/base/log.h"

namespace bdh::store {

Digest Digest::FromBytes(std::string_view view) {
  BDH_CHECK(view.size() == kBytes);
  Digest digest;
  std::memcpy(digest.bytes.data(), view.data(), kBytes);
  return digest;
}

std::string Digest::Hex() const {
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

Digest Sha256::Finish() {
  Digest digest;
  BDH_CHECK(EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr) ==
            1);
  // A null type keeps the algorithm: no allocation between chunks.
  BDH_CHECK(EVP_DigestInit_ex(context_, nullptr, nullptr) == 1);
  return digest;
}

}  // namespace bdh::store
