#pragma once

#include <exception>
#include <new>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace bdh {

// What `body` returns, an absl::Status or StatusOr. An exception becomes its error, for threads that nobody
// stands behind: out of memory is RESOURCE_EXHAUSTED, anything else INTERNAL.
template <class Body>
std::invoke_result_t<Body> CatchExceptions(Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("this machine has no memory left for it; free some and try again");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrFormat("unexpected exception: %s", error.what()));
  }
}

}  // namespace bdh
