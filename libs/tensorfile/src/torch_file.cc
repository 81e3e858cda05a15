#include "bdh/tensorfile/torch_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/tensorfile/safetensors.h"
#include "mapped_file.h"
#include "pickle.h"
#include "safetensors_header.h"
#include "zip_archive.h"

namespace bdh::tensorfile {
namespace {

constexpr std::string_view kZipMark("PK\3\4");
constexpr std::string_view kPickleFile = "/data.pkl";

// A pickle begins with its protocol; files before PyTorch 1.6 are several pickles.
bool IsOldFormat(std::string_view bytes) {
  return bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5;
}

absl::Status OldFormat() {
  return absl::InvalidArgumentError(
      "is in the format of torch.save before PyTorch 1.6, which is not read here; write it again: "
      "torch.save(torch.load(old, map_location='cpu'), new)");
}

// Elements from the tensor's first to its last, that one included; an error where that is beyond int64.
absl::StatusOr<int64_t> Reach(std::string_view name, const TorchTensor& tensor, int64_t& count) {
  count = 1;
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t step = 0;
    if (__builtin_mul_overflow(count, tensor.shape[i], &count) ||
        __builtin_mul_overflow(std::max<int64_t>(tensor.shape[i] - 1, 0), tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return TensorError(name, "has a shape too large for any file");
    }
  }
  return last + 1;
}

// Copies the elements below `tensor` at `offset`, the dimension `axis` and those after it.
void Gather(std::string_view storage, const TorchTensor& tensor, size_t element, size_t axis, int64_t offset,
            std::string& out) {
  if (axis == tensor.shape.size()) {
    out.append(storage.substr(static_cast<size_t>(offset) * element, element));
    return;
  }
  if (axis + 1 == tensor.shape.size() && tensor.strides[axis] == 1) {
    out.append(storage.substr(static_cast<size_t>(offset) * element,
                              static_cast<size_t>(tensor.shape[axis]) * element));
    return;
  }
  for (int64_t i = 0; i < tensor.shape[axis]; ++i) {
    Gather(storage, tensor, element, axis + 1, offset + i * tensor.strides[axis], out);
  }
}

}  // namespace

bool TorchFile::LooksLikeOne(std::string_view bytes) {
  return bytes.starts_with(kZipMark) || IsOldFormat(bytes);
}

TorchFile::TorchFile(std::unique_ptr<MappedFile> mapped, std::unique_ptr<ZipArchive> archive)
    : mapped_(std::move(mapped)), archive_(std::move(archive)) {}
TorchFile::TorchFile(TorchFile&& other) noexcept = default;
TorchFile::~TorchFile() = default;

absl::StatusOr<TorchFile> TorchFile::Open(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  if (IsOldFormat(mapped.bytes())) return Annotate(OldFormat(), path);
  auto archive = ZipArchive::Read(mapped.bytes());
  if (!archive.ok()) return Annotate(archive.status(), path);
  TorchFile file(std::make_unique<MappedFile>(std::move(mapped)),
                 std::make_unique<ZipArchive>(*std::move(archive)));
  BDH_RETURN_IF_ERROR(Annotate(file.ReadPickle(), path));
  return file;
}

absl::Status TorchFile::ReadPickle() {
  std::string pickle;
  for (const auto& [name, entry] : archive_->entries()) {
    if (!absl::EndsWith(name, std::string(kPickleFile))) continue;
    if (!pickle.empty()) return absl::InvalidArgumentError("has two entries data.pkl: not of torch.save");
    pickle = name;
  }
  if (pickle.empty()) return absl::InvalidArgumentError("has no entry data.pkl: not of torch.save");
  folder_ = pickle.substr(0, pickle.size() - kPickleFile.size());
  if (const auto order = archive_->Checked(folder_ + "/byteorder"); order.ok() && *order != "little") {
    return absl::InvalidArgumentError("was written on a big-endian machine, which is not read here");
  }
  BDH_ASSIGN_OR_RETURN(const std::string_view bytes, archive_->Checked(pickle));
  BDH_ASSIGN_OR_RETURN(root_, tensorfile::ReadPickle(bytes, values_));
  return absl::OkStatus();
}

absl::StatusOr<std::string> TorchFile::Bytes(std::string_view name, const TorchTensor& tensor) const {
  const auto element = static_cast<uint64_t>(ElementSize(tensor.storage.dtype));
  const std::string entry = absl::StrFormat("%s/data/%s", folder_, tensor.storage.key);
  const auto checked = archive_->Checked(entry);
  if (!checked.ok()) return Annotate(checked.status(), absl::StrFormat("tensor %s", name));
  const uint64_t stored = checked->size() / element, said = static_cast<uint64_t>(tensor.storage.elements);
  if (checked->size() % element != 0 || stored != said) {
    return TensorError(name,
                       absl::StrFormat("has a storage of %d bytes; its %d elements of %s want another size",
                                       checked->size(), said, tensor.storage.dtype));
  }
  int64_t count = 0;
  BDH_ASSIGN_OR_RETURN(const int64_t reach, Reach(name, tensor, count));
  if (count == 0) return std::string();
  if (static_cast<uint64_t>(reach) > stored) {
    return TensorError(name, absl::StrFormat("reaches to element %d of a storage of %d", reach, stored));
  }
  if (static_cast<uint64_t>(count) > stored) {
    return TensorError(name, absl::StrFormat("repeats the %d elements of its storage %d times; save a "
                                             "contiguous copy",
                                             stored, count));
  }
  std::string out;
  out.reserve(static_cast<size_t>(count) * element);
  Gather(*checked, tensor, element, 0, tensor.offset, out);
  return out;
}

}  // namespace bdh::tensorfile
