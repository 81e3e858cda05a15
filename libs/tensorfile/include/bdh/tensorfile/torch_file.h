// Files of torch.save (.pt, .pth), read without Python: a zip archive of a pickle and the storages it refers
// to. The pickle is a program in Python's hands; here it is data. Only what builds tensors, dicts, lists and
// plain values is understood, nothing is ever looked up or called, and anything else is refused by its name.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::tensorfile {

class MappedFile;
class ZipArchive;
struct TorchValue;

// Limits of what a file's pickle may be. A checkpoint of a large model with its optimiser has some thousands
// of values.
inline constexpr size_t kMaxPickleBytes = size_t{16} << 20;
inline constexpr size_t kMaxPickleValues = 1'000'000;

// Consecutive elements in the archive. Type and count are what the pickle says.
struct TorchStorage {
  std::string dtype;  // As safetensors names it: "F32", "BF16", ...
  std::string key;    // Of its bytes in the archive.
  int64_t elements = 0;
};

// A view of a storage.
struct TorchTensor {
  TorchStorage storage;
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;  // In elements, as the strides.
};

using TorchList = std::vector<const TorchValue*>;  // Also tuples.
// A dict with texts or whole numbers as keys, the numbers in decimal.
using TorchDict = std::map<std::string, const TorchValue*, std::less<>>;
// Something that is known but holds nothing for us: a storage type, None, a device.
struct TorchOther {
  std::string what;
};

struct TorchValue {
  std::variant<TorchOther, bool, int64_t, double, std::string, TorchList, TorchDict, TorchStorage,
               TorchTensor>
      value;

  template <class T>
  const T* As() const {
    return std::get_if<T>(&value);
  }
};

// An open file. Movable; may be read from any thread.
class TorchFile {
 public:
  // Whether a file that begins with `bytes` is meant to be one, of whatever age.
  static bool LooksLikeOne(std::string_view bytes);

  // InvalidArgumentError says what is wrong: no zip archive (files older than PyTorch 1.6 are none), a
  // compressed or overlapping entry, an opcode or a global that no tensor needs, a limit. DataLossError: the
  // bytes differ from their checksum.
  static absl::StatusOr<TorchFile> Open(const std::string& path);

  TorchFile(TorchFile&& other) noexcept;
  TorchFile& operator=(TorchFile&&) = delete;
  ~TorchFile();

  const TorchValue& root() const { return *root_; }

  // The tensor's elements, little-endian and row-major. Errors name `name`: a storage that is missing or of
  // another size, a view that reaches outside it or repeats its elements.
  absl::StatusOr<std::string> Bytes(std::string_view name, const TorchTensor& tensor) const;

 private:
  TorchFile(std::unique_ptr<MappedFile> mapped, std::unique_ptr<ZipArchive> archive);
  absl::Status ReadPickle();

  std::unique_ptr<MappedFile> mapped_;
  std::unique_ptr<ZipArchive> archive_;
  std::string folder_;             // Of the archive: its entries are folder/data.pkl, folder/data/0, ...
  std::deque<TorchValue> values_;  // All of them; they point to one another.
  const TorchValue* root_ = nullptr;
};

}  // namespace bdh::tensorfile
