#include "services/checkpoint_store/service.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "services/checkpoint_store/convert.h"
#include "services/checkpoint_store/coordination_service.h"

namespace bdh::checkpoint_store {
namespace {

constexpr int kDefaultPageSize = 100;

absl::Status Gone() {
  return absl::CancelledError("the client went away");
}

}  // namespace

CheckpointStore::CheckpointStore(store::Store& store, store::Coordination& coordination,
                                 const mesh::Gate& gate, telemetry::Metrics& metrics)
    : store_(store),
      coordination_(coordination),
      gate_(gate),
      put_bytes_(metrics.Counter("bdh_store_put_bytes_total", "Tensor bytes received by PutCheckpoint.")),
      get_bytes_(metrics.Counter("bdh_store_get_bytes_total", "Tensor bytes sent by GetCheckpoint.")),
      new_bytes_(metrics.Counter("bdh_store_new_bytes_total", "Committed bytes that were new to the store.")),
      checkpoints_(metrics.Gauge("bdh_store_checkpoints", "Checkpoints in the store.")),
      stored_bytes_(metrics.Gauge("bdh_store_stored_bytes", "Distinct bytes that the checkpoints hold.")),
      commit_seconds_(metrics.Seconds("bdh_store_commit_seconds", "Time to make a checkpoint durable.")) {
  UpdateGauges();
}

std::string CheckpointStore::KeyFigure() const {
  const store::Store::Totals totals = store_.totals();
  return absl::StrFormat("%d checkpoint%s, %s", totals.checkpoints, totals.checkpoints == 1 ? "" : "s",
                         FormatBytes(static_cast<uint64_t>(totals.stored_bytes)));
}

void CheckpointStore::UpdateGauges() {
  const store::Store::Totals totals = store_.totals();
  checkpoints_.Set(static_cast<double>(totals.checkpoints));
  stored_bytes_.Set(static_cast<double>(totals.stored_bytes));
}

grpc::Status CheckpointStore::PutCheckpoint(grpc::ServerContext* context, PutReader* reader,
                                            v1::PutCheckpointResponse* response) {
  return gate_.Run(*context, "PutCheckpoint", [&] { return Put(*context, *reader, *response); });
}

absl::Status CheckpointStore::Put(const grpc::ServerContext& context, PutReader& reader,
                                  v1::PutCheckpointResponse& response) {
  v1::PutCheckpointRequest first;
  if (!reader.Read(&first) || !first.has_checkpoint()) {
    return absl::InvalidArgumentError("the first message of a put must hold `checkpoint`");
  }
  const std::optional<store::Fence> fence = FenceOf(first);
  // Before gigabytes are sent for nothing; what counts is the look in the commit.
  if (fence.has_value()) BDH_RETURN_IF_ERROR(coordination_.HoldGeneration(*fence).status());
  BDH_ASSIGN_OR_RETURN(const auto upload, store_.Begin(FromProto(std::move(*first.mutable_checkpoint()))));
  BDH_RETURN_IF_ERROR(Receive(reader, *upload));
  // The end of the stream and its loss look alike to Read. An upload that is complete may be committed either
  // way; one that is not is refused by Commit, but to a client that is gone nothing needs to be explained.
  if (context.IsCancelled()) return Gone();
  BDH_ASSIGN_OR_RETURN(const store::Upload::Result result, Commit(*upload, fence));
  BDH_ASSIGN_OR_RETURN(*response.mutable_checkpoint(), ToProto(result.checkpoint));
  response.set_stored_bytes(result.stored_bytes);
  BDH_LOG(INFO) << "checkpoint stored name=" << result.checkpoint.name
                << " bytes=" << result.checkpoint.size_bytes << " new_bytes=" << result.stored_bytes
                << " digest=" << result.checkpoint.digest.substr(0, 12);
  return absl::OkStatus();
}

absl::Status CheckpointStore::Receive(PutReader& reader, store::Upload& upload) {
  v1::PutCheckpointRequest request;
  while (reader.Read(&request)) {
    if (!request.has_chunk()) {
      return absl::InvalidArgumentError("every message of a put after the first must hold `chunk`");
    }
    const v1::TensorChunk& chunk = request.chunk();
    BDH_RETURN_IF_ERROR(upload.AddChunk(chunk.tensor(), chunk.offset_bytes(), chunk.data()));
    put_bytes_.Increment(static_cast<double>(chunk.data().size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<store::Upload::Result> CheckpointStore::Commit(store::Upload& upload,
                                                              const std::optional<store::Fence>& fence) {
  const absl::Time start = absl::Now();
  store::Coordination::Hold hold;
  if (fence.has_value()) {
    BDH_ASSIGN_OR_RETURN(hold, coordination_.HoldGeneration(*fence));
  }
  BDH_ASSIGN_OR_RETURN(store::Upload::Result result, upload.Commit());
  commit_seconds_.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  new_bytes_.Increment(static_cast<double>(result.stored_bytes));
  UpdateGauges();
  return result;
}

grpc::Status CheckpointStore::GetCheckpoint(grpc::ServerContext* context,
                                            const v1::GetCheckpointRequest* request, GetWriter* writer) {
  return gate_.Run(*context, "GetCheckpoint", [&] { return Get(*request, *writer); });
}

absl::Status CheckpointStore::Get(const v1::GetCheckpointRequest& request, GetWriter& writer) {
  BDH_ASSIGN_OR_RETURN(
      const auto reader,
      store_.Read(request.reference(), {.tensors = {request.tensors().begin(), request.tensors().end()},
                                        .prefixes_excluded = {request.prefixes_excluded().begin(),
                                                              request.prefixes_excluded().end()}}));
  v1::GetCheckpointResponse response;
  BDH_ASSIGN_OR_RETURN(*response.mutable_checkpoint(), ToProto(reader->checkpoint()));
  if (!writer.Write(response)) return Gone();
  while (true) {
    BDH_ASSIGN_OR_RETURN(std::optional<store::Piece> piece, reader->Next());
    if (!piece.has_value()) return absl::OkStatus();
    const size_t bytes = piece->bytes.size();
    v1::TensorChunk& chunk = *response.mutable_chunk();
    chunk.set_tensor(std::string(piece->tensor));
    chunk.set_offset_bytes(piece->offset);
    chunk.set_data(std::move(piece->bytes));
    if (!writer.Write(response)) return Gone();
    get_bytes_.Increment(static_cast<double>(bytes));
  }
}

grpc::Status CheckpointStore::DescribeCheckpoint(grpc::ServerContext* context,
                                                 const v1::DescribeCheckpointRequest* request,
                                                 v1::DescribeCheckpointResponse* response) {
  return gate_.Run(*context, "DescribeCheckpoint", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::Checkpoint checkpoint, store_.Describe(request->reference()));
    BDH_ASSIGN_OR_RETURN(*response->mutable_checkpoint(), ToProto(checkpoint));
    return absl::OkStatus();
  });
}

grpc::Status CheckpointStore::ListCheckpoints(grpc::ServerContext* context,
                                              const v1::ListCheckpointsRequest* request,
                                              v1::ListCheckpointsResponse* response) {
  return gate_.Run(*context, "ListCheckpoints", [&] { return List(*request, *response); });
}

absl::Status CheckpointStore::List(const v1::ListCheckpointsRequest& request,
                                   v1::ListCheckpointsResponse& response) {
  const int size = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  BDH_ASSIGN_OR_RETURN(const store::Store::Page page, store_.List(request.run(), size, request.page_token()));
  for (const store::Checkpoint& checkpoint : page.checkpoints) {
    BDH_ASSIGN_OR_RETURN(*response.add_checkpoints(), ToProto(checkpoint));
  }
  response.set_next_page_token(page.next_token);
  return absl::OkStatus();
}

grpc::Status CheckpointStore::DeleteCheckpoint(grpc::ServerContext* context,
                                               const v1::DeleteCheckpointRequest* request,
                                               v1::DeleteCheckpointResponse* response) {
  return gate_.Run(*context, "DeleteCheckpoint", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const int64_t freed, store_.Delete(request->name()));
    response->set_freed_bytes(freed);
    UpdateGauges();
    BDH_LOG(INFO) << "checkpoint deleted name=" << request->name() << " freed_bytes=" << freed;
    return absl::OkStatus();
  });
}

grpc::Status CheckpointStore::SetTag(grpc::ServerContext* context, const v1::SetTagRequest* request,
                                     v1::SetTagResponse* response) {
  return gate_.Run(*context, "SetTag", [&]() -> absl::Status {
    std::optional<std::string> expected;
    if (request->has_expected_checkpoint()) expected = request->expected_checkpoint();
    BDH_ASSIGN_OR_RETURN(const store::Tag tag, store_.SetTag(request->tag(), request->reference(), expected));
    *response->mutable_tag() = ToProto(tag);
    BDH_LOG(INFO) << "tag set tag=" << tag.name << " checkpoint=" << tag.checkpoint;
    return absl::OkStatus();
  });
}

grpc::Status CheckpointStore::DeleteTag(grpc::ServerContext* context, const v1::DeleteTagRequest* request,
                                        v1::DeleteTagResponse*) {
  return gate_.Run(*context, "DeleteTag", [&] { return store_.DeleteTag(request->tag()); });
}

grpc::Status CheckpointStore::ListTags(grpc::ServerContext* context, const v1::ListTagsRequest*,
                                       v1::ListTagsResponse* response) {
  return gate_.Run(*context, "ListTags", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const std::vector<store::Tag> tags, store_.ListTags());
    for (const store::Tag& tag : tags) *response->add_tags() = ToProto(tag);
    return absl::OkStatus();
  });
}

}  // namespace bdh::checkpoint_store
