#include "services/checkpoint_store/snapshot_service.h"

#include <prometheus/counter.h>

#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/store/coordination_messages.h"

namespace bdh::checkpoint_store {
namespace {

using store::FromMessage;
using store::ToMessage;

constexpr int kDefaultPageSize = 100;

absl::Status Gone() {
  return absl::CancelledError("the client went away");
}

absl::StatusOr<v1::StoredSnapshot> ToProto(const store::SessionSnapshot& snapshot) {
  v1::StoredSnapshot out;
  if (!out.mutable_header()->ParseFromString(snapshot.header)) {
    return absl::DataLossError(
        absl::StrFormat("the header of the snapshot of session %s is damaged", snapshot.session));
  }
  out.set_session(snapshot.session);
  out.set_tenant(snapshot.tenant);
  out.set_generation(snapshot.generation);
  *out.mutable_create_time() = ToMessage(snapshot.create_time);
  *out.mutable_expire_time() = ToMessage(snapshot.expire_time);
  return out;
}

}  // namespace

SnapshotService::SnapshotService(store::SnapshotStore& snapshots, const mesh::Gate& gate,
                                 telemetry::Metrics& metrics)
    : snapshots_(snapshots),
      gate_(gate),
      put_bytes_(metrics.Counter("bdh_store_snapshot_put_bytes_total", "Bytes received by PutSnapshot.")),
      get_bytes_(metrics.Counter("bdh_store_snapshot_get_bytes_total", "Bytes sent by GetSnapshot.")) {}

grpc::Status SnapshotService::OwnSession(grpc::ServerContext* context, const v1::OwnSessionRequest* request,
                                         v1::OwnSessionResponse* response) {
  return gate_.Run(*context, "OwnSession", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto own,
                         snapshots_.Own(request->session(), request->owner(),
                                        FromMessage(request->lease_duration()), request->unless_owned()));
    response->set_generation(own.generation);
    *response->mutable_expire_time() = ToMessage(own.expire_time);
    return absl::OkStatus();
  });
}

grpc::Status SnapshotService::PutSnapshot(grpc::ServerContext* context, PutReader* reader,
                                          v1::PutSnapshotResponse* response) {
  return gate_.Run(*context, "PutSnapshot", [&] { return Put(*context, *reader, *response); });
}

absl::Status SnapshotService::Put(const grpc::ServerContext& context, PutReader& reader,
                                  v1::PutSnapshotResponse& response) {
  v1::PutSnapshotRequest first, second;
  if (!reader.Read(&first) || !first.has_header()) {
    return absl::InvalidArgumentError("the first message of a put must hold `header`");
  }
  if (!reader.Read(&second) || !second.chunk().has_header()) {
    return absl::InvalidArgumentError(
        "the second message of a put must hold the snapshot's header, in `chunk`");
  }
  const v1::PutSnapshotHeader& header = first.header();
  store::SnapshotStore::Put put{.session = header.session(),
                                .tenant = header.tenant(),
                                .generation = header.generation(),
                                .size_bytes = second.chunk().header().size_bytes()};
  if (header.has_time_to_live()) put.time_to_live = FromMessage(header.time_to_live());
  BDH_ASSIGN_OR_RETURN(const auto upload, snapshots_.Begin(std::move(put)));
  BDH_ASSIGN_OR_RETURN(const v1::SessionSnapshot end,
                       Receive(reader, std::move(*second.mutable_chunk()->mutable_header()), *upload));
  // A client that is gone may have sent less than it meant to.
  if (context.IsCancelled()) return Gone();
  BDH_ASSIGN_OR_RETURN(const auto result, upload->Commit({.header = end.SerializeAsString(),
                                                          .sha256 = end.sha256(),
                                                          .size_bytes = end.size_bytes()}));
  BDH_ASSIGN_OR_RETURN(*response.mutable_snapshot(), ToProto(result.snapshot));
  response.set_stored_bytes(result.stored_bytes);
  BDH_LOG(INFO) << "snapshot stored session=" << result.snapshot.session
                << " bytes=" << result.snapshot.size_bytes << " new_bytes=" << result.stored_bytes;
  return absl::OkStatus();
}

absl::StatusOr<v1::SessionSnapshot> SnapshotService::Receive(PutReader& reader, v1::SessionSnapshot head,
                                                             store::SnapshotUpload& upload) {
  v1::PutSnapshotRequest request;
  bool ended = false;
  while (reader.Read(&request)) {
    if (ended) return absl::InvalidArgumentError("nothing may follow a snapshot's end");
    if (request.chunk().has_end()) {
      head = std::move(*request.mutable_chunk()->mutable_end());
      ended = true;
      continue;
    }
    const std::string& data = request.chunk().data();
    if (data.empty()) {
      return absl::InvalidArgumentError("every message of a put after the second must hold bytes or the end");
    }
    BDH_RETURN_IF_ERROR(upload.Add(data));
    put_bytes_.Increment(static_cast<double>(data.size()));
  }
  if (!head.sha256().empty()) return head;
  return absl::InvalidArgumentError(
      "neither the snapshot's header nor its end has a sha256; without one nothing can be verified");
}

grpc::Status SnapshotService::GetSnapshot(grpc::ServerContext* context, const v1::GetSnapshotRequest* request,
                                          GetWriter* writer) {
  return gate_.Run(*context, "GetSnapshot", [&] { return Get(*request, *writer); });
}

absl::Status SnapshotService::Get(const v1::GetSnapshotRequest& request, GetWriter& writer) {
  BDH_ASSIGN_OR_RETURN(const auto opened, snapshots_.Read(request.session()));
  BDH_ASSIGN_OR_RETURN(auto stored, ToProto(opened.snapshot));
  v1::SnapshotChunk chunk;
  *chunk.mutable_header() = std::move(*stored.mutable_header());
  if (!writer.Write(chunk)) return Gone();
  while (true) {
    BDH_ASSIGN_OR_RETURN(std::optional<std::string> bytes, opened.bytes->Next());
    if (!bytes.has_value()) return absl::OkStatus();
    const size_t size = bytes->size();
    chunk.set_data(*std::move(bytes));
    if (!writer.Write(chunk)) return Gone();
    get_bytes_.Increment(static_cast<double>(size));
  }
}

grpc::Status SnapshotService::ListSnapshots(grpc::ServerContext* context,
                                            const v1::ListSnapshotsRequest* request,
                                            v1::ListSnapshotsResponse* response) {
  return gate_.Run(*context, "ListSnapshots", [&]() -> absl::Status {
    const int size = request->page_size() == 0 ? kDefaultPageSize : request->page_size();
    BDH_ASSIGN_OR_RETURN(const auto page, snapshots_.List(request->tenant(), size, request->page_token()));
    for (const store::SessionSnapshot& snapshot : page.snapshots) {
      BDH_ASSIGN_OR_RETURN(*response->add_snapshots(), ToProto(snapshot));
    }
    response->set_next_page_token(page.next_token);
    return absl::OkStatus();
  });
}

grpc::Status SnapshotService::DeleteSnapshot(grpc::ServerContext* context,
                                             const v1::DeleteSnapshotRequest* request,
                                             v1::DeleteSnapshotResponse* response) {
  return gate_.Run(*context, "DeleteSnapshot", [&]() -> absl::Status {
    std::optional<int64_t> generation;
    if (request->has_generation()) generation = request->generation();
    BDH_ASSIGN_OR_RETURN(const int64_t freed, snapshots_.Delete(request->session(), generation));
    response->set_freed_bytes(freed);
    return absl::OkStatus();
  });
}

}  // namespace bdh::checkpoint_store
