// Processors that this process may use.
#pragma once

namespace bdh {

// By its affinity and its container's quota, at least 1.
int AvailableCores();

// How many threads a setting asks for, where 0 means one a core.
inline int ThreadCount(int setting) {
  return setting > 0 ? setting : AvailableCores();
}

}  // namespace bdh
