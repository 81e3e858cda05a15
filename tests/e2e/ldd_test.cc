// LibTorch costs most of a second a start, so what does not train does not load it, not even through another
// library.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/mesh_driver.h"
#include "tests/e2e/subprocess.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string LibrariesOf(const std::string& binary) {
  const Outcome ldd = Execute({.arguments = {"/bin/sh", "-c", "ldd " + Binary(binary)}});
  EXPECT_EQ(ldd.exit_code, 0) << ldd.err;
  EXPECT_THAT(ldd.out, HasSubstr("libc.so"));
  return ldd.out;
}

class WithoutTorch : public ::testing::TestWithParam<const char*> {};

TEST_P(WithoutTorch, LoadsNoLibTorch) {
  const std::string libraries = LibrariesOf(GetParam());
  EXPECT_THAT(libraries, Not(HasSubstr("libtorch")));
  EXPECT_THAT(libraries, Not(HasSubstr("libc10")));
}

INSTANTIATE_TEST_SUITE_P(Binaries, WithoutTorch,
                         ::testing::Values("bdhctl", "bdh-gateway", "bdh-checkpoint-store", "bdh-data-loader",
                                           "bdh-inference"));

// Otherwise the test above could not fail.
TEST(WithTorch, TheTrainerIsSeenToLoadIt) {
  EXPECT_THAT(LibrariesOf("bdh-trainer-worker"), HasSubstr("libtorch"));
}

}  // namespace
}  // namespace bdh::e2e
