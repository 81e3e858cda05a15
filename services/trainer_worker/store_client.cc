#include "services/trainer_worker/store_client.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/trainer_worker/backoff.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

using Stub = v1::CheckpointStoreService::Stub;
constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr int kPageSize = 1000;

// Of a call that moves `bytes`: time for a slow disk, not for a hang.
absl::Duration TransferTimeout(int64_t bytes) {
  return absl::Seconds(60) + absl::Seconds(bytes >> 20);
}

int64_t TotalBytes(std::span<const training::Tensor> tensors) {
  size_t bytes = 0;
  for (const training::Tensor& tensor : tensors) bytes += tensor.bytes.size();
  return static_cast<int64_t>(bytes);
}

// False: the stream broke; Finish knows why.
bool WriteTensor(const training::Tensor& tensor, grpc::ClientWriter<v1::PutCheckpointRequest>& writer,
                 v1::PutCheckpointRequest& request) {
  v1::TensorChunk& chunk = *request.mutable_chunk();
  chunk.set_tensor(tensor.name);
  for (size_t offset = 0; offset < tensor.bytes.size(); offset += kChunkBytes) {
    const size_t size = std::min(kChunkBytes, tensor.bytes.size() - offset);
    chunk.set_offset_bytes(static_cast<int64_t>(offset));
    chunk.set_data(tensor.bytes.data() + offset, size);
    if (!writer.Write(request)) return false;
  }
  return true;
}

// Copies chunks to where tensors are, and knows what is missing.
class Filling {
 public:
  explicit Filling(std::span<const training::MutableTensor> tensors) {
    for (const training::MutableTensor& tensor : tensors) places_[tensor.name] = {&tensor, 0};
  }
  absl::Status Add(const v1::TensorChunk& chunk) {
    const auto place = places_.find(chunk.tensor());
    if (place == places_.end()) return absl::OkStatus();  // Not ours to read.
    auto& [tensor, filled] = place->second;
    const size_t size = chunk.data().size();
    if (chunk.offset_bytes() != static_cast<int64_t>(filled) || size > tensor->bytes.size() - filled) {
      return absl::DataLossError(absl::StrFormat("tensor %s came with a gap or too long", chunk.tensor()));
    }
    std::memcpy(tensor->bytes.data() + filled, chunk.data().data(), size);
    filled += size;
    return absl::OkStatus();
  }
  absl::Status CheckWhole() const {
    for (const auto& [name, place] : places_) {
      if (place.second != place.first->bytes.size()) {
        return absl::DataLossError(absl::StrFormat("tensor %s came only in part", name));
      }
    }
    return absl::OkStatus();
  }

 private:
  std::map<std::string, std::pair<const training::MutableTensor*, size_t>> places_;
};

absl::Status CheckHeader(const v1::Checkpoint& checkpoint, std::span<const training::MutableTensor> tensors) {
  std::vector<training::Tensor> stored;
  for (const v1::TensorInfo& info : checkpoint.tensors()) {
    if (info.name().starts_with(kTokenizerPrefix)) continue;
    BDH_ASSIGN_OR_RETURN(stored.emplace_back(), FromProto(info));
  }
  return training::CheckFits(tensors, stored);
}

}  // namespace

StoreClient::StoreClient(const mesh::Peer& store, Options options)
    : store_(store),
      options_(std::move(options)),
      stub_(v1::CheckpointStoreService::NewStub(store.channel())) {}

absl::Status StoreClient::Retry(std::string_view doing, const std::function<absl::Status()>& attempt) {
  Backoff backoff(options_.patience);
  while (true) {
    const absl::Status status = attempt();
    if (status.ok() || !IsTransient(status)) return status;
    BDH_LOG(WARNING) << doing << " failed, trying again error=" << status.message();
    if (options_.abandon.stop_requested() || !backoff.Wait(options_.hurry)) return status;
  }
}

absl::Status StoreClient::Put(const v1::Checkpoint& checkpoint, std::span<const training::Tensor> tensors) {
  return Retry("put checkpoint", [&] { return PutOnce(checkpoint, tensors); });
}

absl::Status StoreClient::PutOnce(const v1::Checkpoint& checkpoint,
                                  std::span<const training::Tensor> tensors) {
  const auto context = store_.NewContext(TransferTimeout(TotalBytes(tensors)));
  const std::stop_callback cancel(options_.abandon, [&] { context->TryCancel(); });
  v1::PutCheckpointResponse response;
  const auto writer = stub_->PutCheckpoint(context.get(), &response);
  v1::PutCheckpointRequest request;
  *request.mutable_checkpoint() = checkpoint;
  bool going_on = writer->Write(request);
  for (size_t i = 0; going_on && i < tensors.size(); ++i) {
    going_on = WriteTensor(tensors[i], *writer, request);
  }
  writer->WritesDone();
  return store_.Outcome(writer->Finish());
}

absl::StatusOr<v1::Checkpoint> StoreClient::Get(const std::string& reference,
                                                std::span<const training::MutableTensor> tensors) {
  v1::Checkpoint checkpoint;
  BDH_RETURN_IF_ERROR(Retry("get checkpoint", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(checkpoint, GetOnce(reference, tensors));
    return absl::OkStatus();
  }));
  return checkpoint;
}

absl::StatusOr<v1::Checkpoint> StoreClient::GetOnce(const std::string& reference,
                                                    std::span<const training::MutableTensor> tensors) {
  int64_t bytes = 0;
  for (const training::MutableTensor& tensor : tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
  const auto context = store_.NewContext(TransferTimeout(bytes));
  const std::stop_callback cancel(options_.abandon, [&] { context->TryCancel(); });
  v1::GetCheckpointRequest request;
  request.set_reference(reference);
  request.add_prefixes_excluded(kTokenizerPrefix);
  const auto reader = stub_->GetCheckpoint(context.get(), request);
  v1::Checkpoint checkpoint;
  Filling filling(tensors);
  v1::GetCheckpointResponse response;
  absl::Status status;
  while (status.ok() && reader->Read(&response)) {
    if (response.has_checkpoint()) {
      checkpoint = response.checkpoint();
      status = CheckHeader(checkpoint, tensors);
    } else {
      status = filling.Add(response.chunk());
    }
  }
  if (!status.ok()) context->TryCancel();
  const absl::Status outcome = store_.Outcome(reader->Finish());
  BDH_RETURN_IF_ERROR(status);
  BDH_RETURN_IF_ERROR(outcome);
  BDH_RETURN_IF_ERROR(filling.CheckWhole());
  return checkpoint;
}

absl::StatusOr<std::vector<v1::Checkpoint>> StoreClient::ByStep(const std::string& run) {
  v1::ListCheckpointsRequest request;
  request.set_run(run);
  request.set_page_size(kPageSize);  // Newest first, so the highest step is on the first page.
  std::vector<v1::Checkpoint> checkpoints;
  BDH_RETURN_IF_ERROR(Retry("list checkpoints", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto page,
                         store_.Call(*stub_, &Stub::ListCheckpoints, request, options_.call_timeout));
    checkpoints.assign(page.checkpoints().begin(), page.checkpoints().end());
    return absl::OkStatus();
  }));
  std::stable_sort(checkpoints.begin(), checkpoints.end(),
                   [](const auto& a, const auto& b) { return a.step() > b.step(); });
  return checkpoints;
}

absl::StatusOr<std::optional<v1::Checkpoint>> StoreClient::Newest(const std::string& run) {
  BDH_ASSIGN_OR_RETURN(const std::vector<v1::Checkpoint> checkpoints, ByStep(run));
  return checkpoints.empty() ? std::nullopt : std::optional(checkpoints.front());
}

absl::StatusOr<std::optional<v1::Checkpoint>> StoreClient::Describe(const std::string& reference) {
  v1::DescribeCheckpointRequest request;
  request.set_reference(reference);
  std::optional<v1::Checkpoint> found;
  const absl::Status status = Retry("describe checkpoint", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(auto response,
                         store_.Call(*stub_, &Stub::DescribeCheckpoint, request, options_.call_timeout));
    found = std::move(*response.mutable_checkpoint());
    return absl::OkStatus();
  });
  if (!status.ok() && status.code() != absl::StatusCode::kNotFound) return status;
  return found;
}

absl::Status StoreClient::SetTag(const std::string& tag, const std::string& reference) {
  v1::SetTagRequest request;
  request.set_tag(tag);
  request.set_reference(reference);
  return Retry("set tag",
               [&] { return store_.Call(*stub_, &Stub::SetTag, request, options_.call_timeout).status(); });
}

}  // namespace bdh::trainer_worker
