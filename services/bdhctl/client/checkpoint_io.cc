#include "services/bdhctl/client/checkpoint_io.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"

namespace bdh::bdhctl {
namespace {

constexpr const char* kForeignPrefixes[] = {"optimizer/", "trainer/"};
constexpr char kTokenizerPrefix[] = "tokenizer/";
// Of a whole download, whose size is not known before; a hang shall end some time.
constexpr absl::Duration kDownloadTimeout = absl::Hours(1);

// Puts chunks together; they come in order.
class Assembly {
 public:
  explicit Assembly(const std::function<absl::Status(const v1::TensorInfo&, std::string)>& take)
      : take_(take) {}

  absl::Status Add(const v1::GetCheckpointResponse& message) {
    if (message.has_checkpoint()) return Begin(message.checkpoint());
    const v1::TensorChunk& chunk = message.chunk();
    const auto found = open_.find(chunk.tensor());
    if (found == open_.end() || chunk.offset_bytes() != static_cast<int64_t>(bytes_.size())) {
      return absl::DataLossError(absl::StrFormat("tensor %s came out of order", chunk.tensor()));
    }
    bytes_ += chunk.data();
    return static_cast<int64_t>(bytes_.size()) < found->second.size_bytes() ? absl::OkStatus() : End(found);
  }
  absl::Status CheckWhole() const {
    if (open_.empty()) return absl::OkStatus();
    return absl::DataLossError(absl::StrFormat("tensor %s did not come", open_.begin()->first));
  }
  const v1::Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  absl::Status Begin(const v1::Checkpoint& checkpoint) {
    checkpoint_ = checkpoint;
    for (const v1::TensorInfo& tensor : checkpoint.tensors()) {
      const bool wanted = IsWeight(tensor) || !TokenizerFileOf(tensor).empty();
      if (wanted && tensor.size_bytes() > 0) open_[tensor.name()] = tensor;
    }
    return absl::OkStatus();
  }
  absl::Status End(std::map<std::string, v1::TensorInfo>::iterator tensor) {
    const v1::TensorInfo info = std::move(tensor->second);
    open_.erase(tensor);
    return take_(info, std::exchange(bytes_, {}));
  }

  const std::function<absl::Status(const v1::TensorInfo&, std::string)>& take_;
  v1::Checkpoint checkpoint_;
  std::map<std::string, v1::TensorInfo> open_;
  std::string bytes_;  // Of the tensor that is coming.
};

}  // namespace

std::string TokenizerFileOf(const v1::TensorInfo& tensor) {
  return tensor.name().starts_with(kTokenizerPrefix) ? tensor.name().substr(sizeof kTokenizerPrefix - 1) : "";
}

std::string TokenizerTensor(const std::string& file) {
  return kTokenizerPrefix + file;
}

bool IsWeight(const v1::TensorInfo& tensor) {
  return TokenizerFileOf(tensor).empty() &&
         std::none_of(std::begin(kForeignPrefixes), std::end(kForeignPrefixes),
                      [&](const char* prefix) { return tensor.name().starts_with(prefix); });
}

absl::StatusOr<checkpoint_store::PutClient::Result> PutCheckpoint(
    const Mesh& mesh, const v1::Checkpoint& header,
    const std::function<absl::StatusOr<std::string>(int)>& bytes_of) {
  const mesh::Peer store = mesh.Store();
  checkpoint_store::PutClient put(store, header);
  for (int i = 0; i < header.tensors_size(); ++i) {
    BDH_ASSIGN_OR_RETURN(std::string bytes, bytes_of(i));
    BDH_RETURN_IF_ERROR(put.Add(std::move(bytes)));
  }
  return put.Commit();
}

absl::StatusOr<v1::Checkpoint> GetWeights(
    const Mesh& mesh, const std::string& reference,
    const std::function<absl::Status(const v1::TensorInfo&, std::string)>& take) {
  const mesh::Peer store = mesh.Store();
  const auto stub = v1::CheckpointStoreService::NewStub(store.channel());
  const auto context = store.NewContext(kDownloadTimeout);
  v1::GetCheckpointRequest request;
  request.set_reference(reference);
  for (const char* prefix : kForeignPrefixes) request.add_prefixes_excluded(prefix);
  const auto reader = stub->GetCheckpoint(context.get(), request);
  Assembly assembly(take);
  v1::GetCheckpointResponse message;
  absl::Status taken;
  while (taken.ok() && reader->Read(&message)) taken = assembly.Add(message);
  if (!taken.ok()) context->TryCancel();
  const absl::Status outcome = store.Outcome(reader->Finish());
  BDH_RETURN_IF_ERROR(taken);
  BDH_RETURN_IF_ERROR(outcome);
  BDH_RETURN_IF_ERROR(assembly.CheckWhole());
  return assembly.checkpoint();
}

}  // namespace bdh::bdhctl
