// X.509 certificates as the mesh uses them: an authority of its own, and one certificate a daemon.
// Everything is PEM text; keys are ECDSA on P-256.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace bdh::certs {

struct Pair {
  std::string certificate;
  std::string key;
};

struct Validity {
  absl::Time from, until;
};

// From an hour ago, so that a clock that is a little behind accepts it, for so many days.
Validity DaysFromNow(int days);

// Who a certificate is for.
struct Subject {
  std::string name;                // The common name, and one of the names it answers to.
  std::vector<std::string> hosts;  // Host names and IP addresses it answers to as well.
};

// What a certificate says.
struct Description {
  std::string name, issuer;         // Common names.
  std::vector<std::string> hosts;   // Subject alternative names: DNS names and IP addresses.
  std::string serial, fingerprint;  // Hexadecimal; the fingerprint is SHA-256.
  bool is_authority = false;
  Validity validity;

  bool AnswersTo(std::string_view host) const;
};

// A new authority that may issue certificates and no further authorities.
absl::StatusOr<Pair> MakeAuthority(std::string_view name, const Validity& validity);

// A new key and its certificate, for servers and clients alike. InvalidArgumentError: a name is empty, longer
// than 64 bytes, or no text for a certificate.
absl::StatusOr<Pair> Issue(const Pair& authority, const Subject& subject, const Validity& validity);

// Of the first certificate in `pem`. InvalidArgumentError: there is none.
absl::StatusOr<Description> Describe(std::string_view pem);

// OK when `key` is the key of the first certificate in `certificate`.
absl::Status CheckPair(std::string_view certificate, std::string_view key);

// OK when one of the certificates in `authorities` has signed the first one in `certificate`, or its chain.
// Does not look at the clock.
absl::Status CheckIssuedBy(std::string_view certificate, std::string_view authorities);

}  // namespace bdh::certs
