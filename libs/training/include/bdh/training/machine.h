// What this machine gives to training: processors, memory, and the BLAS under LibTorch. No torch here.
//
// Debian's LibTorch multiplies matrices with whatever libblas.so.3 is installed. OpenBLAS brings threads of
// its own, which LibTorch does not know and cannot set; the reference BLAS is some thirty times slower.
#pragma once

#include <string>

namespace bdh::training {

enum class BlasKind { kReference, kOpenBlas, kOther };

struct Blas {
  BlasKind kind = BlasKind::kOther;
  std::string library;  // Path of the loaded file, or empty when it is part of LibTorch.
};

// The BLAS that this process has loaded.
Blas LoadedBlas();

// Processors this process may use: its affinity and its container's quota, at least 1.
int AvailableCores();

// Memory this process may use: the machine's, or less in a container with a limit.
double AvailableMemoryBytes();

// Sets the threads of OpenBLAS, if that is what is loaded.
void SetBlasThreads(int threads);

}  // namespace bdh::training
