#include "services/trainer_worker/kept_states.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

constexpr char kExtension[] = ".safetensors";
constexpr char kCheckpointKey[] = "bdh.checkpoint";  // A v1::Checkpoint in base64.
constexpr char kBestKey[] = "bdh.best";

const char* NameOf(training::DType dtype) {
  switch (dtype) {
    case training::DType::kF32:
      return "F32";
    case training::DType::kF64:
      return "F64";
    case training::DType::kI64:
      return "I64";
    case training::DType::kU8:
      return "U8";
  }
  return "";
}

std::string_view Bytes(const training::Tensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

absl::StatusOr<v1::Checkpoint> CheckpointOf(const tensorfile::SafetensorsFile& file) {
  const auto text = file.metadata().find(kCheckpointKey);
  std::string bytes;
  v1::Checkpoint checkpoint;
  if (text == file.metadata().end() || !absl::Base64Unescape(text->second, &bytes) ||
      !checkpoint.ParseFromString(bytes)) {
    return absl::DataLossError(absl::StrFormat("its metadata has no %s", kCheckpointKey));
  }
  return checkpoint;
}

}  // namespace

absl::StatusOr<std::vector<training::Tensor>> KeptState::Tensors() const {
  std::vector<training::Tensor> tensors;
  for (const v1::TensorInfo& info : checkpoint.tensors()) {
    BDH_ASSIGN_OR_RETURN(training::Tensor tensor, FromProto(info));
    BDH_ASSIGN_OR_RETURN(const std::string_view bytes, file.Bytes(info.name()));
    if (bytes.size() != static_cast<size_t>(info.size_bytes())) {
      return absl::DataLossError(absl::StrFormat("tensor %s has %d bytes in %s and should have %d",
                                                 info.name(), bytes.size(), file.path(), info.size_bytes()));
    }
    tensor.bytes = std::as_bytes(std::span(bytes));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::string KeptStates::PathOf(const std::string& run) const {
  return absl::StrFormat("%s/%s%s", folder_, run, kExtension);
}

absl::StatusOr<std::string> KeptStates::Keep(const std::string& run, const v1::Checkpoint& checkpoint,
                                             bool best, std::span<const training::Tensor> tensors) const {
  BDH_RETURN_IF_ERROR(MakeDirectories(folder_));
  std::vector<tensorfile::TensorToWrite> to_write;
  to_write.reserve(tensors.size());
  for (const training::Tensor& tensor : tensors) {
    to_write.push_back(
        {.name = tensor.name, .dtype = NameOf(tensor.dtype), .shape = tensor.shape, .bytes = Bytes(tensor)});
  }
  BDH_RETURN_IF_ERROR(
      tensorfile::WriteSafetensors(PathOf(run), to_write,
                                   {{kCheckpointKey, absl::Base64Escape(checkpoint.SerializeAsString())},
                                    {kBestKey, best ? "true" : "false"}}));
  return PathOf(run);
}

bool KeptStates::Has(const std::string& run) const {
  return access(PathOf(run).c_str(), F_OK) == 0;
}

absl::StatusOr<std::optional<KeptState>> KeptStates::Find(const std::string& run) const {
  if (!Has(run)) return std::nullopt;
  const auto damaged = [&](const absl::Status& why) {
    return absl::DataLossError(
        absl::StrFormat("the state kept in %s cannot be used (%s); move it away to go on from the newest "
                        "checkpoint in the store",
                        PathOf(run), std::string(why.message())));
  };
  auto file = tensorfile::SafetensorsFile::Open(PathOf(run));
  if (!file.ok()) return damaged(file.status());
  auto checkpoint = CheckpointOf(*file);
  if (!checkpoint.ok()) return damaged(checkpoint.status());
  const auto best = file->metadata().find(kBestKey);
  return std::optional<KeptState>(KeptState{.checkpoint = *std::move(checkpoint),
                                            .best = best != file->metadata().end() && best->second == "true",
                                            .file = *std::move(file)});
}

std::vector<std::string> KeptStates::Runs() const {
  std::vector<std::string> runs;
  std::error_code error;
  for (std::filesystem::directory_iterator i(folder_, error), end; !error && i != end; i.increment(error)) {
    if (i->path().extension() == kExtension) runs.push_back(i->path().stem().string());
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

void KeptStates::Forget(const std::string& run) const {
  unlink(PathOf(run).c_str());
}

}  // namespace bdh::trainer_worker
