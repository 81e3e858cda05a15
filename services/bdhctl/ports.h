// Addresses to listen on, and what to do when one is taken.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/address.h"

namespace bdh::bdhctl {

// OK when a daemon could listen there now. AlreadyExistsError: taken. PermissionDeniedError: not allowed to.
// Other codes: never possible on this machine.
absl::Status CanListen(const HostPort& address);

// CanListen's answer in words: "127.0.0.1:8000 is taken".
std::string WhyNot(const HostPort& address);

// Hands out addresses, none of them twice.
class PortChooser {
 public:
  // `wanted` if it is free, else the next free port in steps of `stride`. Port 0 wants any.
  // Errors are those of CanListen that another port would not cure.
  absl::StatusOr<HostPort> Choose(const HostPort& wanted, int stride);

 private:
  std::set<int> given_;
};

}  // namespace bdh::bdhctl
