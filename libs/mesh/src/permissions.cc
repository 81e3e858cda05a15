#include "permissions.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "methods.h"

namespace bdh::mesh {
namespace {

constexpr char kForAll[] = "GetStatus";

constexpr const char* kDefaults[] = {
    "bdhctl: *",
    "bdh-gateway: Generate, ListModels, SessionService.*",
    "bdh-inference: GetCheckpoint, DescribeCheckpoint, ListCheckpoints, ListTags, ListTagHistory, "
    "PinCheckpoint, UnpinCheckpoint, SnapshotService.*, "
    "DescribeTokenizer, ExportTokenizer, ListTokenizers",
    "bdh-trainer-worker: PutCheckpoint, GetCheckpoint, DescribeCheckpoint, ListCheckpoints, SetTag, "
    "ListTags, "
    "FindMissingChunks, PutChunks, CommitUpload, Annotate, CoordinationService.*, KeyValueService.*, "
    "RunRecordService.*, ListDatasets, DescribeDataset, StreamBatches, GetBatch, Tokenize, Detokenize, "
    "DescribeTokenizer, ExportTokenizer, ListTokenizers",
    "bdh-data-loader: GetCheckpoint, DescribeCheckpoint, ListTags",
    // Pushes checkpoints to another store, and repairs from one.
    "bdh-checkpoint-store: GetCheckpoint, FindMissingChunks, PutChunks, CommitUpload, DescribeCheckpoint, "
    "SetTag",
};

absl::string_view Absl(std::string_view text) {
  return {text.data(), text.size()};
}

// The methods that "Generate", "InferenceService.Generate", "InferenceService.*" or "*" stand for.
std::set<std::string, std::less<>> Named(std::string_view text) {
  const size_t dot = text.rfind('.');
  const std::string_view service = dot == std::string_view::npos ? "" : text.substr(0, dot);
  const std::string_view name = dot == std::string_view::npos ? text : text.substr(dot + 1);
  std::set<std::string, std::less<>> named;
  for (const Method& method : AllMethods()) {
    const bool of_service =
        service.empty() || method.service == service || method.service == "bdh.v1." + std::string(service);
    if (of_service && (name == "*" || name == method.name)) named.insert(method.name);
  }
  return named;
}

}  // namespace

Permissions::Permissions() {
  for (const char* row : kDefaults) {
    const absl::Status status = Set(row);
    BDH_CHECK(status.ok()) << status;
  }
}

absl::StatusOr<Permissions> Permissions::FromConfig(
    const google::protobuf::RepeatedPtrField<std::string>& rows) {
  Permissions permissions;
  for (const std::string& row : rows) BDH_RETURN_IF_ERROR(permissions.Set(row));
  return permissions;
}

absl::Status Permissions::Set(std::string_view row) {
  const size_t colon = row.find(':');
  const std::string caller(absl::StripAsciiWhitespace(Absl(row.substr(0, colon))));
  if (colon == std::string_view::npos || caller.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "mesh.permissions: '%s' is not CALLER: METHOD, METHOD, as in notebook: Generate, ListModels",
        row.substr(0, 200)));
  }
  std::set<std::string, std::less<>> allowed;
  for (const absl::string_view part : absl::StrSplit(Absl(row.substr(colon + 1)), ',')) {
    const std::string name(absl::StripAsciiWhitespace(part));
    if (name.empty()) continue;  // "visitor:" may call nothing.
    const auto named = Named(name);
    if (named.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "mesh.permissions: %s: the mesh has no method '%s'; want a method (Generate), all of a service "
          "(InferenceService.*) or *",
          caller, name));
    }
    allowed.insert(named.begin(), named.end());
  }
  allowed_[caller] = std::move(allowed);
  return absl::OkStatus();
}

absl::Status Permissions::Check(std::string_view caller, std::string_view method) const {
  if (caller.empty() || method == kForAll) return absl::OkStatus();
  const auto row = allowed_.find(caller);
  if (row != allowed_.end() && row->second.contains(method)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrFormat(
      "%s may not call %s; mesh.permissions of the daemon that was called says who may", caller, method));
}

}  // namespace bdh::mesh
