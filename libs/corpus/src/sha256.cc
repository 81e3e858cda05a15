#include "sha256.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"
#include "bdh/base/log.h"

namespace bdh::corpus {

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  BDH_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() {
  EVP_MD_CTX_free(context_);
}

void Sha256::Update(std::string_view bytes) {
  BDH_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::Finish() {
  std::string digest(32, '\0');
  BDH_CHECK(EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1);
  BDH_CHECK(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
  return digest;
}

std::string Sha256::FinishHex() {
  return absl::BytesToHexString(Finish());
}

std::string Sha256::PeekHex() const {
  Sha256 copy;
  BDH_CHECK(EVP_MD_CTX_copy_ex(copy.context_, context_) == 1);
  return copy.FinishHex();
}

}  // namespace bdh::corpus
