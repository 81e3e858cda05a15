// No safetensors file crashes its reader or is accepted with a tensor that reaches outside of it.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "bdh/base/file.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

using tensorfile::SafetensorsFile;

constexpr size_t kLengthBytes = 8;

std::string GoodFile(const std::string& path) {
  const std::string bytes(48, '\x3f');
  const std::string_view all = bytes;
  BDH_EXPECT_OK(tensorfile::WriteSafetensors(path,
                                             {{"embed.weight", "F32", {2, 3}, all.substr(0, 24)},
                                              {"encoder", "BF16", {1, 2, 4}, all.substr(0, 16)},
                                              {"step", "I64", {}, all.substr(0, 8)}},
                                             {{"format", "pt"}}));
  return *ReadFile(path);
}

// With the header's length set right, so that damage reaches the JSON and is not always found before.
std::string WithLength(std::string file, size_t data_bytes) {
  if (file.size() < kLengthBytes + data_bytes) return file;
  const uint64_t length = file.size() - kLengthBytes - data_bytes;
  std::memcpy(file.data(), &length, sizeof length);
  return file;
}

// A file in memory: a disk would take most of the time.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {}
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  // Replaces what is there; nobody may have it open.
  void Write(std::string_view bytes) const {
    ASSERT_EQ(ftruncate(descriptor_, 0), 0);
    ASSERT_EQ(pwrite(descriptor_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }

 private:
  const int descriptor_;
};

// Reads every byte an accepted file says it has.
void Use(const SafetensorsFile& file, uint64_t file_bytes) {
  uint64_t total = 0;
  unsigned sum = 0;
  for (const tensorfile::TensorInfo& info : file.tensors()) {
    const auto bytes = file.Bytes(info.name);
    BDH_ASSERT_OK(bytes);
    EXPECT_EQ(bytes->size(), info.size_bytes);
    EXPECT_EQ(info.size_bytes,
              static_cast<uint64_t>(info.element_count() * tensorfile::ElementSize(info.dtype)));
    for (const char byte : *bytes) sum += static_cast<unsigned char>(byte);
    total += info.size_bytes;
  }
  EXPECT_LE(total, file_bytes);
  EXPECT_LE(sum, 255 * file_bytes);
}

TEST(TensorfileFuzz, DamagedFilesAreRefusedOrReadWhole) {
  const TempDirectory folder;
  const std::string good = GoodFile(folder.path() + "/f.safetensors");
  const MemoryFile damaged;
  Mutator mutator(17, {"{",
                       "}",
                       "[",
                       "]",
                       ",",
                       ":",
                       "\"",
                       "\\",
                       "\\u0000",
                       "0",
                       "-1",
                       "1e9",
                       "18446744073709551616",
                       "4611686018427387904",
                       "F32",
                       "I64",
                       "BOOL",
                       "\"shape\"",
                       "\"dtype\"",
                       "data_offsets",
                       "__metadata__",
                       "null",
                       "true",
                       " ",
                       "\xff"});
  constexpr size_t kDataBytes = 48;
  const int rounds = Rounds(3000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    std::string bytes = mutator.Mutated(good);
    if (mutator.Below(4) > 0) bytes = WithLength(std::move(bytes), kDataBytes);
    damaged.Write(bytes);
    const auto file = SafetensorsFile::Open(damaged.path());
    if (!file.ok()) {
      EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << file.status();
      EXPECT_NE(std::string(file.status().message()).find(damaged.path()), std::string::npos)
          << file.status();
      continue;
    }
    ++accepted;
    Use(*file, bytes.size());
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations are too wild to test anything but the parser";
}

}  // namespace
}  // namespace bdh::fuzz
