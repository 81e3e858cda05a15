// What this machine gives to training: memory, and the BLAS under LibTorch. No torch here.
//
// Debian's LibTorch multiplies matrices with whatever libblas.so.3 is installed. OpenBLAS brings threads of
// its own, which LibTorch does not know and cannot set; the reference BLAS is some thirty times slower.
#pragma once

#include <filesystem>
#include <string>

namespace bdh::training {

enum class BlasKind { kReference, kOpenBlas, kOther };

struct Blas {
  BlasKind kind = BlasKind::kOther;
  std::string library;  // Path of the loaded file, or empty when it is part of LibTorch.
};

// The BLAS that this process has loaded.
Blas LoadedBlas();

// By where Debian and others install it.
BlasKind KindOfBlas(const std::filesystem::path& library);

// What to tell the operator about it: a sentence, or "" when it is a good one.
std::string BlasWarning(const Blas& blas);

// Memory this process may use: the machine's, or less in a container with a limit.
double AvailableMemoryBytes();

// Makes this process fit for training; call it first in main. It may begin the process once more, with
// OMP_WAIT_POLICY=passive if that is not set: LibTorch's threads spin while they wait for each other, which
// makes training seven times slower as soon as anything else runs on the machine, while sleeping costs next
// to nothing; and their library reads the variable before main. And memory that is freed is kept for the next
// step instead of being asked from the system again.
void PrepareProcess(char** argv);

// Gives that memory back, for when training is over.
void ReturnFreedMemory();

// Sets the threads of OpenBLAS, if that is what is loaded.
void SetBlasThreads(int threads);

}  // namespace bdh::training
