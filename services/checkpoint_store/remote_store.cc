#include "services/checkpoint_store/remote_store.h"

#include <utility>

#include "bdh/base/status_macros.h"
#include "services/checkpoint_store/convert.h"

namespace bdh::checkpoint_store {
namespace {

using Admin = v1::CheckpointAdminService::Stub;

constexpr absl::Duration kCallTimeout = absl::Minutes(1);
// Of a whole stream: a hang shall not hold the caller for ever.
constexpr absl::Duration kTransferTimeout = absl::Hours(6);

}  // namespace

RemoteStore::RemoteStore(const std::string& address, const mesh::Credentials& credentials,
                         std::function<bool()> is_cancelled)
    : peer_("bdh-checkpoint-store", address, credentials),
      is_cancelled_(std::move(is_cancelled)),
      admin_(v1::CheckpointAdminService::NewStub(peer_.channel())),
      store_(v1::CheckpointStoreService::NewStub(peer_.channel())) {}

absl::StatusOr<store::CopyTarget::Missing> RemoteStore::FindMissing(const std::string& upload,
                                                                    const std::vector<std::string>& digests) {
  v1::FindMissingChunksRequest request;
  request.set_upload(upload);
  request.mutable_digests()->Assign(digests.begin(), digests.end());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       peer_.Call(*admin_, &Admin::FindMissingChunks, request, kCallTimeout));
  return Missing{.indexes = {response.missing().begin(), response.missing().end()},
                 .chunk_bytes = response.chunk_bytes()};
}

absl::StatusOr<bool> RemoteStore::Fill(v1::PutChunksRequest& request, const NextChunk& next) const {
  if (is_cancelled_()) return absl::CancelledError("the client went away");
  BDH_ASSIGN_OR_RETURN(auto chunk, next());
  if (!chunk.has_value()) return false;
  request.set_digest(std::move(chunk->digest));
  request.set_data(std::move(chunk->bytes));
  return true;
}

absl::Status RemoteStore::PutChunks(const std::string& upload, const NextChunk& next) {
  const auto context = peer_.NewContext(kTransferTimeout);
  v1::PutChunksResponse response;
  const auto writer = admin_->PutChunks(context.get(), &response);
  v1::PutChunksRequest request;
  request.set_upload(upload);
  absl::Status status;
  while (true) {
    const auto more = Fill(request, next);
    status = more.status();
    if (!status.ok() || !*more || !writer->Write(request)) break;
    request.clear_upload();
  }
  if (!status.ok()) context->TryCancel();
  writer->WritesDone();
  const absl::Status outcome = peer_.Outcome(writer->Finish());
  return status.ok() ? outcome : status;
}

absl::Status RemoteStore::Commit(const std::string& upload, const store::Checkpoint& checkpoint,
                                 const std::vector<store::TensorDigests>& chunks) {
  v1::CommitUploadRequest request;
  request.set_upload(upload);
  BDH_ASSIGN_OR_RETURN(*request.mutable_checkpoint(), ToProto(checkpoint));
  for (const store::TensorDigests& tensor : chunks) {
    v1::TensorChunks& out = *request.add_chunks();
    out.set_tensor(tensor.tensor);
    out.mutable_digests()->Assign(tensor.digests.begin(), tensor.digests.end());
  }
  return peer_.Call(*admin_, &Admin::CommitUpload, request, kTransferTimeout).status();
}

absl::Status RemoteStore::ReadTensor(const std::string& checkpoint, const std::string& tensor,
                                     const Take& take) {
  v1::GetCheckpointRequest request;
  request.set_reference(checkpoint);
  request.add_tensors(tensor);
  const auto context = peer_.NewContext(kTransferTimeout);
  const auto reader = store_->GetCheckpoint(context.get(), request);
  v1::GetCheckpointResponse response;
  while (reader->Read(&response)) {
    if (!response.has_chunk() || take(response.chunk().data())) {
      if (!is_cancelled_()) continue;
    }
    context->TryCancel();
    (void)reader->Finish();
    return is_cancelled_() ? absl::CancelledError("the client went away") : absl::OkStatus();
  }
  return peer_.Outcome(reader->Finish());
}

}  // namespace bdh::checkpoint_store
