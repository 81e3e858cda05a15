#include "services/checkpoint_store/coordination_service.h"

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

int PageSize(int asked) {
  return asked == 0 ? kDefaultPageSize : asked;
}

v1::Group::State StateOf(const store::Group& group) {
  return group.formed ? v1::Group::STATE_FORMED : v1::Group::STATE_FORMING;
}

void Fill(const store::Group& group, v1::Group& out) {
  out.set_name(group.name);
  *out.mutable_spec() = ToMessage(group.spec);
  out.set_state(StateOf(group));
  if (!group.generation.members.empty()) *out.mutable_generation() = ToMessage(group.generation);
  for (const store::Worker& worker : group.workers) *out.add_workers() = ToMessage(worker);
}

absl::StatusOr<v1::RunRecord> ToProto(const store::RunRecord& record) {
  v1::RunRecord out;
  if (!out.ParseFromString(record.bytes)) {
    return absl::DataLossError(absl::StrFormat("the record of run %s is damaged", record.run));
  }
  out.set_revision(record.revision);
  *out.mutable_update_time() = ToMessage(record.update_time);
  return out;
}

store::RunRecord FromProto(v1::RunRecord record, const std::optional<store::Fence>& fence) {
  record.clear_revision();
  record.clear_update_time();
  if (fence.has_value()) record.set_generation(fence->generation);
  return {.run = record.run().name(),
          .bytes = record.SerializeAsString(),
          .labels = {record.labels().begin(), record.labels().end()}};
}

}  // namespace

grpc::Status CoordinationService::RegisterWorker(grpc::ServerContext* context,
                                                 const v1::RegisterWorkerRequest* request,
                                                 v1::RegisterWorkerResponse* response) {
  return gate_.Run(*context, "RegisterWorker", [&]() -> absl::Status {
    std::optional<store::GroupSpec> spec;
    if (request->has_spec()) spec = FromMessage(request->spec());
    BDH_ASSIGN_OR_RETURN(const auto made,
                         all_.Register(request->group(), spec, FromMessage(request->worker())));
    response->set_lease(made.lease);
    *response->mutable_lease_duration() = ToMessage(made.group.spec.lease);
    Fill(made.group, *response->mutable_group());
    BDH_LOG(INFO) << "worker registered group=" << request->group() << " worker=" << request->worker().name()
                  << " workers=" << made.group.workers.size()
                  << " generation=" << made.group.generation.number << (made.group.formed ? "" : " forming");
    return absl::OkStatus();
  });
}

grpc::Status CoordinationService::Heartbeat(grpc::ServerContext* context, const v1::HeartbeatRequest* request,
                                            v1::HeartbeatResponse* response) {
  return gate_.Run(*context, "Heartbeat", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::Group group, all_.Heartbeat(request->group(), request->lease()));
    response->set_state(StateOf(group));
    response->set_generation(group.generation.number);
    return absl::OkStatus();
  });
}

grpc::Status CoordinationService::AwaitGeneration(grpc::ServerContext* context,
                                                  const v1::AwaitGenerationRequest* request,
                                                  v1::AwaitGenerationResponse* response) {
  return gate_.Run(*context, "AwaitGeneration", [&] {
    return waits_.Run(*context, [&](const store::Interrupt& interrupt) -> absl::Status {
      BDH_ASSIGN_OR_RETURN(const auto place, all_.AwaitGeneration(request->group(), request->lease(),
                                                                  request->after_generation(), interrupt));
      *response->mutable_generation() = ToMessage(place.generation);
      response->set_rank(place.rank);
      return absl::OkStatus();
    });
  });
}

grpc::Status CoordinationService::LeaveGroup(grpc::ServerContext* context,
                                             const v1::LeaveGroupRequest* request, v1::LeaveGroupResponse*) {
  return gate_.Run(*context, "LeaveGroup", [&] { return all_.Leave(request->group(), request->lease()); });
}

grpc::Status CoordinationService::GetGroup(grpc::ServerContext* context, const v1::GetGroupRequest* request,
                                           v1::GetGroupResponse* response) {
  return gate_.Run(*context, "GetGroup", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::Group group, all_.GetGroup(request->name()));
    Fill(group, *response->mutable_group());
    return absl::OkStatus();
  });
}

grpc::Status CoordinationService::ListGroups(grpc::ServerContext* context,
                                             const v1::ListGroupsRequest* request,
                                             v1::ListGroupsResponse* response) {
  return gate_.Run(*context, "ListGroups", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto page,
                         all_.ListGroups(PageSize(request->page_size()), request->page_token()));
    for (const store::Group& group : page.groups) Fill(group, *response->add_groups());
    response->set_next_page_token(page.next_token);
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::SetValue(grpc::ServerContext* context, const v1::SetValueRequest* request,
                                       v1::SetValueResponse*) {
  return gate_.Run(*context, "SetValue", [&] {
    return all_.Set(request->namespace_(), request->key(), request->value(), FenceOf(*request));
  });
}

grpc::Status KeyValueService::GetValue(grpc::ServerContext* context, const v1::GetValueRequest* request,
                                       v1::GetValueResponse* response) {
  return gate_.Run(*context, "GetValue", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(*response->mutable_value(), all_.Get(request->namespace_(), request->key()));
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::WaitForKeys(grpc::ServerContext* context, const v1::WaitForKeysRequest* request,
                                          v1::WaitForKeysResponse* response) {
  return gate_.Run(*context, "WaitForKeys", [&]() -> absl::Status {
    const std::vector<std::string> keys(request->keys().begin(), request->keys().end());
    if (request->only_check()) {
      BDH_ASSIGN_OR_RETURN(const bool present, all_.HasKeys(request->namespace_(), keys));
      response->set_all_present(present);
      return absl::OkStatus();
    }
    response->set_all_present(true);
    return waits_.Run(*context, [&](const store::Interrupt& interrupt) {
      return all_.WaitForKeys(request->namespace_(), keys, interrupt);
    });
  });
}

grpc::Status KeyValueService::AddToValue(grpc::ServerContext* context, const v1::AddToValueRequest* request,
                                         v1::AddToValueResponse* response) {
  return gate_.Run(*context, "AddToValue", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const int64_t sum, all_.Add(request->namespace_(), request->key(), request->amount(),
                                                     request->request_id(), FenceOf(*request)));
    response->set_value(sum);
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::CompareAndSetValue(grpc::ServerContext* context,
                                                 const v1::CompareAndSetValueRequest* request,
                                                 v1::CompareAndSetValueResponse* response) {
  return gate_.Run(*context, "CompareAndSetValue", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(auto swap,
                         all_.CompareAndSet(request->namespace_(), request->key(), request->expected(),
                                            request->desired(), FenceOf(*request)));
    response->set_was_set(swap.was_set);
    response->set_value(std::move(swap.value));
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::DeleteValue(grpc::ServerContext* context, const v1::DeleteValueRequest* request,
                                          v1::DeleteValueResponse* response) {
  return gate_.Run(*context, "DeleteValue", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const bool existed,
                         all_.Delete(request->namespace_(), request->key(), FenceOf(*request)));
    response->set_existed(existed);
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::CountKeys(grpc::ServerContext* context, const v1::CountKeysRequest* request,
                                        v1::CountKeysResponse* response) {
  return gate_.Run(*context, "CountKeys", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const int64_t keys, all_.CountKeys(request->namespace_()));
    response->set_keys(keys);
    return absl::OkStatus();
  });
}

grpc::Status KeyValueService::DeleteNamespace(grpc::ServerContext* context,
                                              const v1::DeleteNamespaceRequest* request,
                                              v1::DeleteNamespaceResponse* response) {
  return gate_.Run(*context, "DeleteNamespace", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const int64_t keys, all_.DeleteNamespace(request->namespace_(), FenceOf(*request)));
    response->set_keys(keys);
    return absl::OkStatus();
  });
}

grpc::Status RunRecordService::PutRunRecord(grpc::ServerContext* context,
                                            const v1::PutRunRecordRequest* request,
                                            v1::PutRunRecordResponse* response) {
  return gate_.Run(*context, "PutRunRecord", [&]() -> absl::Status {
    const std::optional<store::Fence> fence = FenceOf(*request);
    std::optional<int64_t> expected;
    if (request->has_expected_revision()) expected = request->expected_revision();
    BDH_ASSIGN_OR_RETURN(const store::RunRecord record,
                         all_.PutRecord(FromProto(request->record(), fence), expected, fence));
    BDH_ASSIGN_OR_RETURN(*response->mutable_record(), ToProto(record));
    return absl::OkStatus();
  });
}

grpc::Status RunRecordService::GetRunRecord(grpc::ServerContext* context,
                                            const v1::GetRunRecordRequest* request,
                                            v1::GetRunRecordResponse* response) {
  return gate_.Run(*context, "GetRunRecord", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::RunRecord record, all_.GetRecord(request->run()));
    BDH_ASSIGN_OR_RETURN(*response->mutable_record(), ToProto(record));
    return absl::OkStatus();
  });
}

grpc::Status RunRecordService::ListRunRecords(grpc::ServerContext* context,
                                              const v1::ListRunRecordsRequest* request,
                                              v1::ListRunRecordsResponse* response) {
  return gate_.Run(*context, "ListRunRecords", [&]() -> absl::Status {
    const store::Labels labels(request->labels().begin(), request->labels().end());
    BDH_ASSIGN_OR_RETURN(const auto page,
                         all_.ListRecords(labels, PageSize(request->page_size()), request->page_token()));
    for (const store::RunRecord& record : page.records) {
      BDH_ASSIGN_OR_RETURN(*response->add_records(), ToProto(record));
    }
    response->set_next_page_token(page.next_token);
    return absl::OkStatus();
  });
}

grpc::Status RunRecordService::DeleteRunRecord(grpc::ServerContext* context,
                                               const v1::DeleteRunRecordRequest* request,
                                               v1::DeleteRunRecordResponse*) {
  return gate_.Run(*context, "DeleteRunRecord", [&] { return all_.DeleteRecord(request->run()); });
}

}  // namespace bdh::checkpoint_store
