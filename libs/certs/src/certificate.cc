#include "bdh/certs/certificate.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"

namespace bdh::certs {
namespace {

template <auto free>
struct Free {
  template <class T>
  void operator()(T* object) const {
    free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Free<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Free<X509_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Free<BN_free>>;

constexpr int kSerialBytes = 16;
constexpr size_t kNameBytesMax = 64;  // X.509's limit for a common name.

// What OpenSSL has to say about its last failure.
absl::Status OpenSslError(std::string_view doing) {
  const unsigned long code = ERR_peek_last_error();
  char reason[256] = "no reason given";
  if (code != 0) ERR_error_string_n(code, reason, sizeof(reason));
  ERR_clear_error();
  return absl::InternalError(absl::StrFormat("%s: %s", doing, reason));
}

BioPtr Reader(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

// All certificates of a PEM file, in its order.
std::vector<CertificatePtr> ReadCertificates(std::string_view pem) {
  std::vector<CertificatePtr> certificates;
  const BioPtr bio = Reader(pem);
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    certificates.emplace_back(next);
  ERR_clear_error();  // The end of the text is an error to OpenSSL.
  return certificates;
}

absl::StatusOr<CertificatePtr> ReadCertificate(std::string_view pem) {
  auto certificates = ReadCertificates(pem);
  if (certificates.empty()) return absl::InvalidArgumentError("holds no certificate in PEM form");
  return std::move(certificates.front());
}

absl::StatusOr<KeyPtr> ReadKey(std::string_view pem) {
  const BioPtr bio = Reader(pem);
  // A key with a passphrase is refused: nobody is there to type it.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr)
    return absl::InvalidArgumentError("holds no private key in PEM form without passphrase");
  return key;
}

absl::StatusOr<KeyPtr> MakeKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("make a key");
  return key;
}

absl::Status SetTime(ASN1_TIME* where, absl::Time time) {
  if (ASN1_TIME_set(where, absl::ToTimeT(time)) != nullptr) return absl::OkStatus();
  return OpenSslError("set a date");
}

absl::Status SetSerial(X509& certificate) {
  unsigned char random[kSerialBytes];
  if (RAND_bytes(random, sizeof(random)) != 1) return OpenSslError("draw a serial number");
  random[0] &= 0x7f;  // Positive, and so not longer than it may be.
  const NumberPtr number(BN_bin2bn(random, sizeof(random), nullptr));
  if (BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(&certificate)) == nullptr)
    return OpenSslError("set the serial number");
  return absl::OkStatus();
}

absl::Status AddExtension(X509& certificate, X509& issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  if (extension == nullptr || X509_add_ext(&certificate, extension.get(), -1) != 1)
    return OpenSslError(absl::StrFormat("add %s", OBJ_nid2ln(id)));
  return absl::OkStatus();
}

bool IsAddress(const std::string& host) {
  in6_addr ignored;
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1 || inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

// Letters, digits and what stands in host names; nothing that would end a name in an extension's text.
absl::Status CheckName(const std::string& name) {
  const bool good = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("._:*-").find(c) != std::string_view::npos;
  });
  if (good && !name.empty() && name.size() <= kNameBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("'%s' cannot stand in a certificate; want 1 to %d of A-Z a-z 0-9 . _ : * -",
                      name.substr(0, 80), kNameBytesMax));
}

absl::StatusOr<std::string> AlternativeNames(const Subject& subject) {
  std::string text = "DNS:" + subject.name;
  for (const std::string& host : subject.hosts) {
    BDH_RETURN_IF_ERROR(CheckName(host));
    if (host != subject.name) text += (IsAddress(host) ? ",IP:" : ",DNS:") + host;
  }
  return text;
}

// A certificate of `key` under that name; `issuer` is null for one that signs itself.
absl::StatusOr<CertificatePtr> Begin(const std::string& name, EVP_PKEY& key, X509* issuer,
                                     const Validity& validity) {
  CertificatePtr certificate(X509_new());
  if (certificate == nullptr) return OpenSslError("make a certificate");
  X509_set_version(certificate.get(), X509_VERSION_3);
  BDH_RETURN_IF_ERROR(SetSerial(*certificate));
  BDH_RETURN_IF_ERROR(SetTime(X509_getm_notBefore(certificate.get()), validity.from));
  BDH_RETURN_IF_ERROR(SetTime(X509_getm_notAfter(certificate.get()), validity.until));
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  if (X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(name.data()),
                                 static_cast<int>(name.size()), -1, 0) != 1)
    return OpenSslError("set the name");
  X509_NAME* by = issuer == nullptr ? subject : X509_get_subject_name(issuer);
  if (X509_set_issuer_name(certificate.get(), by) != 1 || X509_set_pubkey(certificate.get(), &key) != 1)
    return OpenSslError("fill a certificate");
  return certificate;
}

absl::StatusOr<Pair> Finish(X509& certificate, EVP_PKEY& key, EVP_PKEY& signer) {
  if (X509_sign(&certificate, &signer, EVP_sha256()) == 0) return OpenSslError("sign a certificate");
  const BioPtr certificate_text(BIO_new(BIO_s_mem())), key_text(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_text.get(), &certificate) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return OpenSslError("write a certificate");
  return Pair{Text(certificate_text.get()), Text(key_text.get())};
}

std::string CommonName(X509_NAME* name) {
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (at < 0) return "";
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  if (size < 0) return "";
  std::string result(reinterpret_cast<char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  return result;
}

std::string AddressText(const ASN1_OCTET_STRING& address) {
  char text[INET6_ADDRSTRLEN] = "";
  const int size = ASN1_STRING_length(&address);
  inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(&address), text, sizeof(text));
  return text;
}

std::vector<std::string> Hosts(X509& certificate) {
  std::vector<std::string> hosts;
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      hosts.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                         static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      hosts.push_back(AddressText(*name->d.iPAddress));
    }
  }
  return hosts;
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string Hex(const unsigned char* bytes, size_t size) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes), size));
}

std::string Serial(X509& certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(&certificate);
  return Hex(ASN1_STRING_get0_data(serial), static_cast<size_t>(ASN1_STRING_length(serial)));
}

}  // namespace

Validity DaysFromNow(int days) {
  const absl::Time now = absl::Now();
  return {now - absl::Hours(1), now + absl::Hours(24) * days};
}

bool Description::AnswersTo(std::string_view host) const {
  return std::find(hosts.begin(), hosts.end(), host) != hosts.end();
}

absl::StatusOr<Pair> MakeAuthority(std::string_view name, const Validity& validity) {
  BDH_ASSIGN_OR_RETURN(const KeyPtr key, MakeKey());
  BDH_ASSIGN_OR_RETURN(const CertificatePtr own, Begin(std::string(name), *key, nullptr, validity));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *own, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *own, NID_key_usage, "critical,keyCertSign,cRLSign"));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *own, NID_subject_key_identifier, "hash"));
  return Finish(*own, *key, *key);
}

absl::StatusOr<Pair> Issue(const Pair& authority, const Subject& subject, const Validity& validity) {
  BDH_RETURN_IF_ERROR(CheckName(subject.name));
  BDH_ASSIGN_OR_RETURN(const std::string names, AlternativeNames(subject));
  BDH_ASSIGN_OR_RETURN(const CertificatePtr issuer, ReadCertificate(authority.certificate));
  BDH_ASSIGN_OR_RETURN(const KeyPtr signer, ReadKey(authority.key));
  BDH_ASSIGN_OR_RETURN(const KeyPtr key, MakeKey());
  BDH_ASSIGN_OR_RETURN(const CertificatePtr own, Begin(subject.name, *key, issuer.get(), validity));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *issuer, NID_basic_constraints, "critical,CA:FALSE"));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *issuer, NID_key_usage, "critical,digitalSignature"));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *issuer, NID_ext_key_usage, "serverAuth,clientAuth"));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *issuer, NID_subject_alt_name, names));
  BDH_RETURN_IF_ERROR(AddExtension(*own, *issuer, NID_authority_key_identifier, "keyid"));
  return Finish(*own, *key, *signer);
}

absl::StatusOr<Description> Describe(std::string_view pem) {
  BDH_ASSIGN_OR_RETURN(const CertificatePtr certificate, ReadCertificate(pem));
  Description description;
  description.name = CommonName(X509_get_subject_name(certificate.get()));
  description.issuer = CommonName(X509_get_issuer_name(certificate.get()));
  description.hosts = Hosts(*certificate);
  description.serial = Serial(*certificate);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (X509_digest(certificate.get(), EVP_sha256(), digest, &size) != 1)
    return OpenSslError("hash a certificate");
  description.fingerprint = Hex(digest, size);
  description.is_authority = X509_check_ca(certificate.get()) == 1;
  description.validity = {ToTime(X509_get0_notBefore(certificate.get())),
                          ToTime(X509_get0_notAfter(certificate.get()))};
  return description;
}

absl::Status CheckPair(std::string_view certificate, std::string_view key) {
  BDH_ASSIGN_OR_RETURN(const CertificatePtr parsed, ReadCertificate(certificate));
  BDH_ASSIGN_OR_RETURN(const KeyPtr parsed_key, ReadKey(key));
  const bool same = X509_check_private_key(parsed.get(), parsed_key.get()) == 1;
  ERR_clear_error();
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError("is not the key of that certificate");
}

absl::Status CheckIssuedBy(std::string_view certificate, std::string_view authorities) {
  const auto chain = ReadCertificates(certificate);
  const auto trusted = ReadCertificates(authorities);
  if (chain.empty()) return absl::InvalidArgumentError("holds no certificate in PEM form");
  for (const CertificatePtr& link : chain) {
    for (const CertificatePtr& authority : trusted) {
      const bool signed_by_it = X509_check_issued(authority.get(), link.get()) == X509_V_OK &&
                                X509_verify(link.get(), X509_get0_pubkey(authority.get())) == 1;
      ERR_clear_error();
      if (signed_by_it) return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError("was issued by another authority");
}

}  // namespace bdh::certs
