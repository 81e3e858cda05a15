#pragma once

#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace bdh::corpus {

// SHA-256 of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::string_view bytes);
  // The 32 bytes. Begins anew.
  std::string Finish();
  // In lower-case hex.
  std::string FinishHex();
  // What FinishHex would say now; goes on.
  std::string PeekHex() const;

 private:
  evp_md_ctx_st* const context_;
};

}  // namespace bdh::corpus
