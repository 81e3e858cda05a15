#include "services/checkpoint_store/put_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::checkpoint_store {
namespace {

using Admin = v1::CheckpointAdminService::Stub;

constexpr absl::Duration kCallTimeout = absl::Minutes(1);
constexpr size_t kNegotiatedAtOnce = 32 << 20;
constexpr size_t kDigestsACall = 16'384;

// Time for a slow disk, not for a hang.
absl::Duration TransferTimeout(const v1::Checkpoint& header) {
  int64_t bytes = 0;
  for (const v1::TensorInfo& tensor : header.tensors()) bytes += tensor.size_bytes();
  return absl::Seconds(60) + absl::Seconds(bytes >> 20);
}

}  // namespace

// The one call that all missing chunks go through.
class PutClient::Stream {
 public:
  Stream(const mesh::Peer& store, Admin& admin, const std::string& upload, absl::Duration timeout)
      : store_(store),
        context_(store.NewContext(timeout)),
        writer_(admin.PutChunks(context_.get(), &response_)) {
    request_.set_upload(upload);
  }
  ~Stream() {
    if (writer_ == nullptr) return;
    context_->TryCancel();
    (void)writer_->Finish();
  }

  absl::Status Send(const Sha256Digest& digest, std::string_view bytes) {
    request_.set_digest(std::string(digest.view()));
    request_.set_data(std::string(bytes));
    const bool sent = writer_->Write(request_);
    request_.clear_upload();
    // The store has ended the stream, and its status says why.
    return sent ? absl::OkStatus() : Finish();
  }
  absl::Status Finish() {
    writer_->WritesDone();
    return store_.Outcome(std::exchange(writer_, nullptr)->Finish());
  }

 private:
  const mesh::Peer& store_;
  const std::unique_ptr<grpc::ClientContext> context_;
  v1::PutChunksResponse response_;
  std::unique_ptr<grpc::ClientWriter<v1::PutChunksRequest>> writer_;
  v1::PutChunksRequest request_;
};

PutClient::PutClient(const mesh::Peer& store, v1::Checkpoint header)
    : store_(store), admin_(v1::CheckpointAdminService::NewStub(store.channel())) {
  commit_.set_upload("put/" + RandomHex(16));
  *commit_.mutable_checkpoint() = std::move(header);
}

PutClient::~PutClient() = default;

absl::Status PutClient::Begin() {
  v1::FindMissingChunksRequest hello;
  hello.set_upload(commit_.upload());
  BDH_ASSIGN_OR_RETURN(const auto answer,
                       store_.Call(*admin_, &Admin::FindMissingChunks, hello, kCallTimeout));
  if (answer.chunk_bytes() <= 0) return absl::InternalError("the store does not say how it cuts tensors");
  chunk_bytes_ = static_cast<size_t>(answer.chunk_bytes());
  return absl::OkStatus();
}

absl::Status PutClient::Add(std::string bytes) {
  if (chunk_bytes_ == 0) BDH_RETURN_IF_ERROR(Begin());
  const int index = commit_.chunks_size() + static_cast<int>(waiting_.size());
  if (index >= commit_.checkpoint().tensors_size()) {
    return absl::InvalidArgumentError("there are more tensors than the checkpoint was said to have");
  }
  const v1::TensorInfo& tensor = commit_.checkpoint().tensors(index);
  if (static_cast<int64_t>(bytes.size()) != tensor.size_bytes()) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has %d bytes, but %d came", tensor.name(),
                                                      tensor.size_bytes(), bytes.size()));
  }
  waiting_bytes_ += bytes.size();
  waiting_.push_back(std::move(bytes));
  const bool enough = waiting_bytes_ >= kNegotiatedAtOnce || waiting_.size() >= kDigestsACall;
  return enough ? Negotiate() : absl::OkStatus();
}

absl::Status PutClient::Negotiate() {
  std::vector<std::string_view> chunks;
  for (const std::string_view bytes : waiting_) {
    for (size_t at = 0; at < bytes.size(); at += chunk_bytes_) {
      chunks.push_back(bytes.substr(at, chunk_bytes_));
    }
  }
  const std::vector<Sha256Digest> digests = Sha256OfEach(chunks);
  size_t next = 0;
  for (const std::string& bytes : waiting_) {
    v1::TensorChunks& tensor = *commit_.add_chunks();
    tensor.set_tensor(commit_.checkpoint().tensors(commit_.chunks_size() - 1).name());
    for (size_t at = 0; at < bytes.size(); at += chunk_bytes_) {
      tensor.add_digests(std::string(digests[next++].view()));
    }
  }
  for (size_t begin = 0; begin < chunks.size(); begin += kDigestsACall) {
    const size_t count = std::min(chunks.size() - begin, kDigestsACall);
    BDH_RETURN_IF_ERROR(SendMissing(std::span(chunks).subspan(begin, count),
                                    std::span<const Sha256Digest>(digests).subspan(begin, count)));
  }
  waiting_.clear();
  waiting_bytes_ = 0;
  return absl::OkStatus();
}

absl::Status PutClient::SendMissing(std::span<const std::string_view> chunks,
                                    std::span<const Sha256Digest> digests) {
  v1::FindMissingChunksRequest request;
  request.set_upload(commit_.upload());
  for (const Sha256Digest& digest : digests) request.add_digests(std::string(digest.view()));
  BDH_ASSIGN_OR_RETURN(const auto answer,
                       store_.Call(*admin_, &Admin::FindMissingChunks, request, kCallTimeout));
  for (const int index : answer.missing()) {
    if (index < 0 || static_cast<size_t>(index) >= chunks.size()) {
      return absl::InternalError("the store wants a chunk that it was not asked about");
    }
    const auto i = static_cast<size_t>(index);
    if (!sent_.insert(digests[i]).second) continue;  // Equal chunks: one is enough.
    if (stream_ == nullptr) {
      stream_ =
          std::make_unique<Stream>(store_, *admin_, commit_.upload(), TransferTimeout(commit_.checkpoint()));
    }
    sent_bytes_ += static_cast<int64_t>(chunks[i].size());
    BDH_RETURN_IF_ERROR(stream_->Send(digests[i], chunks[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<PutClient::Result> PutClient::Commit() {
  if (chunk_bytes_ == 0) BDH_RETURN_IF_ERROR(Begin());
  BDH_RETURN_IF_ERROR(Negotiate());
  if (stream_ != nullptr) BDH_RETURN_IF_ERROR(stream_->Finish());
  BDH_ASSIGN_OR_RETURN(auto answer, store_.Call(*admin_, &Admin::CommitUpload, commit_,
                                                TransferTimeout(commit_.checkpoint())));
  return Result{.checkpoint = std::move(*answer.mutable_checkpoint()),
                .stored_bytes = answer.stored_bytes(),
                .sent_bytes = sent_bytes_};
}

}  // namespace bdh::checkpoint_store
