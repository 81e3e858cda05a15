// The process knows its processors, its memory and its BLAS, and setting threads changes OpenBLAS's own
// count.

#include "bdh/training/machine.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace bdh::training {
namespace {

TEST(Machine, ThereIsAtLeastOneCore) {
  EXPECT_GE(AvailableCores(), 1);
}

TEST(Machine, ThereIsMemory) {
  EXPECT_GT(AvailableMemoryBytes(), 1e8);
}

TEST(Machine, TheBlasIsKnownByItsFile) {
  const Blas blas = LoadedBlas();
  if (blas.library.empty()) GTEST_SKIP() << "this LibTorch brings its BLAS inside";
  EXPECT_EQ(blas.library.front(), '/') << blas.library;
}

TEST(Machine, OpenBlasTakesTheNumber) {
  using GetThreads = int (*)();
  void* get = dlsym(RTLD_DEFAULT, "openblas_get_num_threads");
  if (get == nullptr) GTEST_SKIP() << "no OpenBLAS here";
  for (const int threads : {1, 2}) {
    SetBlasThreads(threads);
    EXPECT_EQ(reinterpret_cast<GetThreads>(get)(), threads);
  }
}

}  // namespace
}  // namespace bdh::training
