#include "methods.h"

#include <map>

#include "bdh/v1/checkpoint_admin.pb.h"
#include "bdh/v1/checkpoint_store.pb.h"
#include "bdh/v1/coordination.pb.h"
#include "bdh/v1/data_loader.pb.h"
#include "bdh/v1/inference.pb.h"
#include "bdh/v1/mesh.pb.h"
#include "bdh/v1/sessions.pb.h"
#include "bdh/v1/tokenizers.pb.h"
#include "bdh/v1/trainer.pb.h"

namespace bdh::mesh {
namespace {

void Append(const google::protobuf::FileDescriptor& file, std::vector<Method>& methods) {
  for (int s = 0; s < file.service_count(); ++s) {
    const google::protobuf::ServiceDescriptor& service = *file.service(s);
    for (int m = 0; m < service.method_count(); ++m) {
      const google::protobuf::MethodDescriptor& method = *service.method(m);
      methods.push_back({.service = service.full_name(),
                         .name = method.name(),
                         .streams = method.client_streaming() || method.server_streaming(),
                         .may_be_repeated = method.options().idempotency_level() !=
                                            google::protobuf::MethodOptions::IDEMPOTENCY_UNKNOWN});
    }
  }
}

std::vector<Method> Collect() {
  std::vector<Method> methods;
  Append(*v1::GetStatusRequest::descriptor()->file(), methods);
  Append(*v1::Batch::descriptor()->file(), methods);
  Append(*v1::Checkpoint::descriptor()->file(), methods);
  Append(*v1::FindMissingChunksRequest::descriptor()->file(), methods);
  Append(*v1::RegisterWorkerRequest::descriptor()->file(), methods);
  Append(*v1::Run::descriptor()->file(), methods);
  Append(*v1::Model::descriptor()->file(), methods);
  Append(*v1::CreateSessionRequest::descriptor()->file(), methods);
  Append(*v1::ListTokenizersRequest::descriptor()->file(), methods);
  return methods;
}

}  // namespace

const std::vector<Method>& AllMethods() {
  static const auto* const methods = new std::vector<Method>(Collect());
  return *methods;
}

const Method* FindMethod(std::string_view name) {
  static const auto* const by_name = [] {
    auto* map = new std::map<std::string_view, const Method*>;
    for (const Method& method : AllMethods()) map->emplace(method.name, &method);
    return map;
  }();
  const auto found = by_name->find(name);
  return found == by_name->end() ? nullptr : found->second;
}

}  // namespace bdh::mesh
