// Threads of the math under LibTorch, and the BLAS it found. No torch here.
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

// Sets the threads of OpenBLAS, if that is what is loaded.
void SetBlasThreads(int threads);

}  // namespace bdh::training
