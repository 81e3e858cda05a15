#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/tensorfile/safetensors.h"
#include "safetensors_header.h"

namespace bdh::tensorfile {
namespace {

absl::Status CheckTensors(const std::vector<TensorToWrite>& tensors) {
  std::set<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) {
    if (!IsUtf8(tensor.name)) return TensorError(tensor.name, "has a name that is not UTF-8");
    if (tensor.name == kMetadataKey)
      return TensorError(tensor.name, "has the name the format keeps for metadata");
    if (!names.insert(tensor.name).second) return TensorError(tensor.name, "is given twice");
    BDH_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(tensor.name, tensor.dtype, tensor.shape));
    if (size != tensor.bytes.size()) {
      return TensorError(tensor.name, absl::StrFormat("takes %d bytes by its shape, but %d are given", size,
                                                      tensor.bytes.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMetadata(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    if (!IsUtf8(key) || !IsUtf8(value)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("metadata entry %s is not UTF-8", absl::CHexEscape(key)));
    }
  }
  return absl::OkStatus();
}

// Widest elements first: then each tensor starts at a multiple of its element size without padding, which the
// format does not have.
std::vector<const TensorToWrite*> OrderOnDisk(const std::vector<TensorToWrite>& tensors) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return ElementSize(a->dtype) > ElementSize(b->dtype);
  });
  return order;
}

std::string EightBytes(uint64_t value) {
  std::string bytes;
  for (uint64_t i = 0; i < kLengthBytes; ++i) bytes.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  return bytes;
}

absl::Status WriteAll(int descriptor, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, absl::StrFormat("write %s", path));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WriteSynced(const std::string& path, const std::vector<std::string_view>& parts) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("create %s", path));
  const auto close = absl::MakeCleanup([&] { ::close(descriptor); });
  for (std::string_view part : parts) BDH_RETURN_IF_ERROR(WriteAll(descriptor, part, path));
  if (::fsync(descriptor) != 0) return ErrnoStatus(errno, absl::StrFormat("sync %s", path));
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  BDH_RETURN_IF_ERROR(CheckTensors(tensors));
  BDH_RETURN_IF_ERROR(CheckMetadata(metadata));
  Header header{.tensors = {}, .metadata = metadata};
  std::vector<std::string_view> parts(2);
  uint64_t offset = 0;
  for (const TensorToWrite* tensor : OrderOnDisk(tensors)) {
    header.tensors.push_back({tensor->name, tensor->dtype, tensor->shape, offset, tensor->bytes.size()});
    parts.push_back(tensor->bytes);
    offset += tensor->bytes.size();
  }
  const std::string json = FormatHeader(header), length = EightBytes(json.size());
  if (json.size() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d tensors need a header of %d bytes; the format allows %d", path,
                        tensors.size(), json.size(), kMaxHeaderBytes));
  }
  parts[0] = length;
  parts[1] = json;

  const std::string temporary = absl::StrFormat("%s.%s.tmp", path, RandomHex(4));
  auto remove = absl::MakeCleanup([&] { ::unlink(temporary.c_str()); });
  BDH_RETURN_IF_ERROR(WriteSynced(temporary, parts));
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("rename to %s", path));
  }
  std::move(remove).Cancel();
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncDirectory(folder.empty() ? "." : folder);
}

}  // namespace bdh::tensorfile
