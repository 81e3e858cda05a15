#include "bdh/training/machine.h"

#include <dlfcn.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>

namespace bdh::training {
namespace {

void* Symbol(const char* name) {
  return dlsym(RTLD_DEFAULT, name);
}

// Where a symbol lives, with links resolved: libblas.so.3 is a link that the alternatives point elsewhere.
std::string FileOf(void* symbol) {
  Dl_info info;
  if (symbol == nullptr || dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return "";
  char resolved[PATH_MAX];
  return realpath(info.dli_fname, resolved) != nullptr ? resolved : info.dli_fname;
}

// A step frees as much as it allocates. One arena, without mappings of its own for big blocks: the next step
// then finds its memory where the one before left it.
void KeepFreedMemory() {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace

void PrepareProcess(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) {
    setenv("OMP_WAIT_POLICY", "passive", 1);
    // By its path, not as /proc/self/exe: the process keeps its name. Returns only if it fails; then it is
    // slower, not wrong.
    char path[PATH_MAX];
    if (realpath("/proc/self/exe", path) != nullptr) execv(path, argv);
  }
  KeepFreedMemory();
}

void ReturnFreedMemory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

Blas LoadedBlas() {
  Blas blas;
  blas.library = FileOf(Symbol("sgemm_"));
  if (blas.library.empty()) return blas;
  blas.kind = KindOfBlas(blas.library);
  return blas;
}

BlasKind KindOfBlas(const std::filesystem::path& library) {
  const std::string path = library.string();
  if (path.find("openblas") != std::string::npos) return BlasKind::kOpenBlas;
  // Debian gives each BLAS a folder and all of them the same file name; the reference one's folder is "blas",
  // and elsewhere it stands among the system's libraries.
  const std::string folder = library.parent_path().filename();
  const bool plain_name = library.filename().string().starts_with("libblas.so");
  const bool of_another =
      folder.starts_with("atlas") || folder.starts_with("blis") || folder.starts_with("mkl");
  return plain_name && !of_another ? BlasKind::kReference : BlasKind::kOther;
}

std::string BlasWarning(const Blas& blas) {
  if (blas.kind != BlasKind::kReference) return "";
  return "matrices are multiplied by the reference BLAS (" + blas.library +
         "), which is some thirty times slower than OpenBLAS: install "
         "OpenBLAS (Debian: libopenblas0-pthread) and restart";
}

double AvailableMemoryBytes() {
  const double machine =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  std::ifstream file("/sys/fs/cgroup/memory.max");
  double limit = 0;
  return file >> limit && limit > 0 ? std::min(machine, limit) : machine;
}

void SetBlasThreads(int threads) {
  using SetThreads = void (*)(int);
  if (void* symbol = Symbol("openblas_set_num_threads"); symbol != nullptr) {
    reinterpret_cast<SetThreads>(symbol)(threads);
  }
}

}  // namespace bdh::training
