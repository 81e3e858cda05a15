// The process knows its memory and its BLAS, and setting threads changes OpenBLAS's own
// count.

#include "bdh/training/machine.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace bdh::training {
namespace {

TEST(Machine, ThereIsMemory) {
  EXPECT_GT(AvailableMemoryBytes(), 1e8);
}

TEST(Machine, TheBlasIsKnownByItsFile) {
  const Blas blas = LoadedBlas();
  if (blas.library.empty()) GTEST_SKIP() << "this LibTorch brings its BLAS inside";
  EXPECT_EQ(blas.library.front(), '/') << blas.library;
}

TEST(Machine, EveryBlasOfTheDistributionsIsTakenForWhatItIs) {
  const std::string lib = "/usr/lib/x86_64-linux-gnu/";
  const std::pair<std::string, BlasKind> libraries[] = {
      {lib + "openblas-pthread/libblas.so.3", BlasKind::kOpenBlas},
      {lib + "openblas-openmp/libopenblasp-r0.3.21.so", BlasKind::kOpenBlas},
      {"/usr/lib/libopenblas.so.0.3", BlasKind::kOpenBlas},
      {lib + "blas/libblas.so.3.11.0", BlasKind::kReference},
      {"/usr/lib/libblas.so.3.12.0", BlasKind::kReference},
      {lib + "atlas/libblas.so.3.10.3", BlasKind::kOther},
      {lib + "blis-pthread/libblas.so.3", BlasKind::kOther},
      {lib + "libmkl_rt.so", BlasKind::kOther},
      {"/opt/libtorch/lib/libtorch_cpu.so", BlasKind::kOther},
  };
  for (const auto& [path, kind] : libraries) EXPECT_EQ(KindOfBlas(path), kind) << path;
}

TEST(Machine, OnlyTheReferenceBlasIsWarnedOf) {
  EXPECT_EQ(BlasWarning({BlasKind::kOpenBlas, "/usr/lib/libopenblas.so.0"}), "");
  EXPECT_EQ(BlasWarning({BlasKind::kOther, ""}), "");
  const std::string warning = BlasWarning({BlasKind::kReference, "/usr/lib/libblas.so.3"});
  EXPECT_NE(warning.find("/usr/lib/libblas.so.3"), std::string::npos) << warning;
  EXPECT_NE(warning.find("install OpenBLAS (Debian: libopenblas0-pthread)"), std::string::npos) << warning;
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
