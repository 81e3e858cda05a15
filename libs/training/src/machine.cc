#include "bdh/training/machine.h"

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cmath>
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

bool Contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

int AffinityCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

// Of a container limited by control groups v2: "200000 100000" is two processors, "max ..." no limit.
int QuotaCores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return INT_MAX;
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

}  // namespace

Blas LoadedBlas() {
  Blas blas;
  blas.library = FileOf(Symbol("sgemm_"));
  if (blas.library.empty()) return blas;
  if (Symbol("openblas_set_num_threads") != nullptr && Contains(blas.library, "openblas")) {
    blas.kind = BlasKind::kOpenBlas;
  } else if (Contains(blas.library, "/libblas.so") || Contains(blas.library, "/blas/")) {
    blas.kind = BlasKind::kReference;
  }
  return blas;
}

int AvailableCores() {
  return std::min(AffinityCores(), QuotaCores());
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
