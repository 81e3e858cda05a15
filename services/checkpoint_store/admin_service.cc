#include "services/checkpoint_store/admin_service.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/store/coordination_messages.h"
#include "bdh/store/model_ops.h"
#include "services/checkpoint_store/convert.h"
#include "services/checkpoint_store/coordination_service.h"
#include "services/checkpoint_store/remote_store.h"

namespace bdh::checkpoint_store {
namespace {

using store::FromMessage;
using store::ToMessage;

constexpr int kDefaultPageSize = 100;
constexpr int kMaxDigests = 65'536;
constexpr size_t kMaxDamageListed = 1000;
// What is a trainer's and not the model's.
constexpr const char* kNotWeights[] = {"optimizer/", "trainer/"};

absl::Status Gone() {
  return absl::CancelledError("the client went away");
}

int PageSize(int asked) {
  return asked == 0 ? kDefaultPageSize : asked;
}

store::Note FromProto(const v1::CheckpointNote& note) {
  return {.text = note.text(), .labels = {note.labels().begin(), note.labels().end()}};
}

void Fill(const store::Damage& damage, v1::Damage& out) {
  out.set_digest(damage.digest);
  out.set_message(damage.message);
  for (const store::Place& place : damage.places) {
    out.add_checkpoints(place.object);
    out.add_tensors(place.tensor);
    out.add_offsets(place.offset);
  }
  out.set_size_bytes(damage.size_bytes);
}

v1::VerifyResponse ToProto(const store::VerifyProgress& progress) {
  v1::VerifyResponse response;
  v1::VerifyProgress& out = *response.mutable_progress();
  out.set_bytes_done(progress.bytes_done);
  out.set_bytes_total(progress.bytes_total);
  out.set_damaged_chunks(progress.damaged_chunks);
  return response;
}

v1::VerifyResponse ToProto(const store::VerifyResult& result) {
  v1::VerifyResponse response;
  v1::VerifyResult& out = *response.mutable_result();
  out.set_bytes(result.bytes);
  out.set_chunks(result.chunks);
  out.set_damaged_chunks(result.damaged_chunks);
  for (const store::Damage& damage : result.damage) Fill(damage, *out.add_damage());
  return response;
}

void Fill(const store::Tensor& tensor, v1::TensorInfo& out) {
  out.set_name(tensor.name);
  out.set_dtype(static_cast<v1::DType>(tensor.dtype));
  out.mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
  out.set_size_bytes(tensor.size_bytes);
}

void Fill(const store::TensorDiff& diff, v1::TensorDiff& out) {
  out.set_tensor(diff.tensor);
  if (diff.left.has_value()) Fill(*diff.left, *out.mutable_left());
  if (diff.right.has_value()) Fill(*diff.right, *out.mutable_right());
  out.set_equal(diff.equal);
  out.set_left_norm(diff.left_norm);
  out.set_difference_norm(diff.difference_norm);
  out.set_difference_max(diff.difference_max);
}

v1::CollectGarbageResponse ToProto(const store::GarbageProgress& progress) {
  v1::CollectGarbageResponse response;
  response.set_chunks_seen(progress.chunks_seen);
  response.set_chunks_freed(progress.chunks_freed);
  response.set_freed_bytes(progress.freed_bytes);
  return response;
}

v1::RepairResponse ToProto(const store::RepairProgress& progress) {
  v1::RepairResponse response;
  response.set_damaged_chunks(progress.damaged_chunks);
  response.set_repaired_chunks(progress.repaired_chunks);
  return response;
}

v1::PushCheckpointsResponse ToProto(const store::CopyProgress& progress) {
  v1::PushCheckpointsResponse response;
  response.set_bytes_done(progress.bytes_done);
  response.set_bytes_total(progress.bytes_total);
  response.set_bytes_skipped(progress.bytes_skipped);
  return response;
}

// What an average is, in the words of the last of its parents.
absl::StatusOr<store::Checkpoint> DescribeAverage(const v1::AverageCheckpointsRequest& request,
                                                  const std::vector<store::Checkpoint>& sources) {
  BDH_ASSIGN_OR_RETURN(v1::Checkpoint made, checkpoint_store::ToProto(sources.back()));
  made.set_name(request.name());
  made.set_parent(sources.back().name);
  made.clear_tensors();
  // Nobody has measured it yet, and no run can go on from it.
  made.clear_train_loss();
  made.clear_validation_loss();
  made.clear_cursor();
  return checkpoint_store::FromProto(std::move(made));
}

}  // namespace

grpc::Status AdminService::FindMissingChunks(Context* context, const v1::FindMissingChunksRequest* request,
                                             v1::FindMissingChunksResponse* response) {
  return gate_.Run(*context, "FindMissingChunks", [&]() -> absl::Status {
    if (request->digests_size() > kMaxDigests) {
      return absl::InvalidArgumentError(absl::StrFormat("there are %d digests; want at most %d a call",
                                                        request->digests_size(), kMaxDigests));
    }
    BDH_ASSIGN_OR_RETURN(
        const std::vector<int> missing,
        store_.FindMissingChunks(request->upload(), {request->digests().begin(), request->digests().end()}));
    response->mutable_missing()->Assign(missing.begin(), missing.end());
    response->set_chunk_bytes(static_cast<int32_t>(store_.chunk_bytes()));
    return absl::OkStatus();
  });
}

grpc::Status AdminService::PutChunks(Context* context, grpc::ServerReader<v1::PutChunksRequest>* reader,
                                     v1::PutChunksResponse* response) {
  return gate_.Run(*context, "PutChunks", [&] { return ReceiveChunks(*reader, *response); });
}

absl::Status AdminService::ReceiveChunks(grpc::ServerReader<v1::PutChunksRequest>& reader,
                                         v1::PutChunksResponse& response) {
  v1::PutChunksRequest request;
  std::string upload;
  while (reader.Read(&request)) {
    if (upload.empty()) upload = request.upload();
    int64_t stored = 0;
    if (upload.empty()) {
      BDH_RETURN_IF_ERROR(store_.Heal(request.digest(), request.data()));
    } else {
      BDH_ASSIGN_OR_RETURN(stored, store_.PutChunk(upload, request.digest(), request.data()));
    }
    response.set_chunks(response.chunks() + 1);
    response.set_stored_bytes(response.stored_bytes() + stored);
  }
  return store_.SyncChunks();
}

grpc::Status AdminService::CommitUpload(Context* context, const v1::CommitUploadRequest* request,
                                        v1::CommitUploadResponse* response) {
  return gate_.Run(*context, "CommitUpload", [&]() -> absl::Status {
    store::Coordination::Hold hold;
    if (const auto fence = FenceOf(*request)) {
      BDH_ASSIGN_OR_RETURN(hold, parts_.coordination.HoldGeneration(*fence));
    }
    std::vector<store::TensorDigests> chunks;
    for (const v1::TensorChunks& tensor : request->chunks()) {
      chunks.push_back(
          {.tensor = tensor.tensor(), .digests = {tensor.digests().begin(), tensor.digests().end()}});
    }
    BDH_ASSIGN_OR_RETURN(
        const auto result,
        store_.CommitUpload(request->upload(), checkpoint_store::FromProto(request->checkpoint()), chunks));
    BDH_ASSIGN_OR_RETURN(*response->mutable_checkpoint(), ToProto(result.checkpoint));
    response->set_stored_bytes(result.stored_bytes);
    BDH_LOG(INFO) << "checkpoint stored name=" << result.checkpoint.name << " upload=" << request->upload()
                  << " bytes=" << result.checkpoint.size_bytes;
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Verify(Context* context, const v1::VerifyRequest* request,
                                  Writer<v1::VerifyResponse>* writer) {
  return gate_.Run(*context, "Verify", [&]() -> absl::Status {
    if (request->bytes_per_second() < 0) {
      return absl::InvalidArgumentError("bytes_per_second is negative; 0 is as fast as it goes");
    }
    if (request->known_only()) return TellDamage(request->reference(), *writer);
    BDH_ASSIGN_OR_RETURN(const store::VerifyResult result,
                         store_.Verify({.reference = request->reference(),
                                        .bytes_per_second = request->bytes_per_second(),
                                        .progress = [&](const store::VerifyProgress& progress) {
                                          return !context->IsCancelled() && writer->Write(ToProto(progress));
                                        }}));
    return writer->Write(ToProto(result)) ? absl::OkStatus() : Gone();
  });
}

absl::Status AdminService::TellDamage(const std::string& reference, Writer<v1::VerifyResponse>& writer) {
  if (!reference.empty()) {
    return absl::InvalidArgumentError("known_only is of all that the store holds; leave out `reference`");
  }
  store::VerifyResult result;
  BDH_ASSIGN_OR_RETURN(result.damage, store_.ListDamage(kMaxDamageListed));
  result.damaged_chunks = store_.stats().damaged_chunks;
  return writer.Write(ToProto(result)) ? absl::OkStatus() : Gone();
}

grpc::Status AdminService::Repair(Context* context, const v1::RepairRequest* request,
                                  Writer<v1::RepairResponse>* writer) {
  return gate_.Run(*context, "Repair", [&]() -> absl::Status {
    RemoteStore source(request->source(), parts_.credentials, [&] { return context->IsCancelled(); });
    BDH_ASSIGN_OR_RETURN(const store::RepairProgress progress,
                         store::Repair(store_, source, [&](const store::RepairProgress& now) {
                           return !context->IsCancelled() && writer->Write(ToProto(now));
                         }));
    v1::RepairResponse last = ToProto(progress);
    last.set_done(true);
    BDH_LOG(INFO) << "repaired source=" << request->source() << " damaged=" << progress.damaged_chunks
                  << " repaired=" << progress.repaired_chunks;
    return writer->Write(last) ? absl::OkStatus() : Gone();
  });
}

grpc::Status AdminService::ListTagHistory(Context* context, const v1::ListTagHistoryRequest* request,
                                          v1::ListTagHistoryResponse* response) {
  return gate_.Run(*context, "ListTagHistory", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto changes,
                         store_.TagHistory(request->tag(), PageSize(request->page_size())));
    for (const store::TagChange& change : changes) {
      v1::TagChange& out = *response->add_changes();
      out.set_checkpoint(change.checkpoint);
      *out.mutable_time() = ToMessage(change.time);
    }
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Annotate(Context* context, const v1::AnnotateRequest* request,
                                    v1::AnnotateResponse*) {
  return gate_.Run(*context, "Annotate",
                   [&] { return store_.Annotate(request->checkpoint(), FromProto(request->note())); });
}

grpc::Status AdminService::SearchCheckpoints(Context* context, const v1::SearchCheckpointsRequest* request,
                                             v1::SearchCheckpointsResponse* response) {
  return gate_.Run(*context, "SearchCheckpoints", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto page,
                         store_.Search({request->labels().begin(), request->labels().end()}, request->run(),
                                       PageSize(request->page_size()), request->page_token()));
    for (const store::Checkpoint& checkpoint : page.checkpoints) {
      BDH_ASSIGN_OR_RETURN(*response->add_checkpoints(), ToProto(checkpoint));
    }
    for (const store::Note& note : page.notes) {
      v1::CheckpointNote& out = *response->add_notes();
      out.set_text(note.text);
      out.mutable_labels()->insert(note.labels.begin(), note.labels.end());
    }
    response->set_next_page_token(page.next_token);
    return absl::OkStatus();
  });
}

grpc::Status AdminService::PinCheckpoint(Context* context, const v1::PinCheckpointRequest* request,
                                         v1::PinCheckpointResponse* response) {
  return gate_.Run(*context, "PinCheckpoint", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::Pin pin, store_.PinCheckpoint(request->reference(), request->holder(),
                                                                    FromMessage(request->lease_duration())));
    response->set_checkpoint(pin.checkpoint);
    *response->mutable_expire_time() = ToMessage(pin.expire_time);
    return absl::OkStatus();
  });
}

grpc::Status AdminService::UnpinCheckpoint(Context* context, const v1::UnpinCheckpointRequest* request,
                                           v1::UnpinCheckpointResponse*) {
  return gate_.Run(*context, "UnpinCheckpoint",
                   [&] { return store_.Unpin(request->checkpoint(), request->holder()); });
}

grpc::Status AdminService::SetRetention(Context* context, const v1::SetRetentionRequest* request,
                                        v1::SetRetentionResponse*) {
  return gate_.Run(*context, "SetRetention", [&]() -> absl::Status {
    std::optional<store::RetentionPolicy> policy;
    if (request->has_policy()) {
      policy = {.keep_last = request->policy().keep_last(),
                .keep_every_steps = request->policy().keep_every_steps(),
                .keep_best = request->policy().keep_best()};
    }
    return store_.SetRetention(request->run(), policy);
  });
}

grpc::Status AdminService::GetRetention(Context* context, const v1::GetRetentionRequest* request,
                                        v1::GetRetentionResponse* response) {
  return gate_.Run(*context, "GetRetention", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::RetentionRule rule, store_.GetRetention(request->run()));
    response->mutable_policy()->set_keep_last(rule.policy.keep_last);
    response->mutable_policy()->set_keep_every_steps(rule.policy.keep_every_steps);
    response->mutable_policy()->set_keep_best(rule.policy.keep_best);
    response->set_inherited(rule.inherited);
    return absl::OkStatus();
  });
}

grpc::Status AdminService::ApplyRetention(Context* context, const v1::ApplyRetentionRequest* request,
                                          v1::ApplyRetentionResponse* response) {
  return gate_.Run(*context, "ApplyRetention", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::RetentionResult result,
                         store_.ApplyRetention(request->run(), request->dry_run()));
    response->mutable_deleted()->Assign(result.deleted.begin(), result.deleted.end());
    response->set_freed_bytes(result.freed_bytes);
    return absl::OkStatus();
  });
}

grpc::Status AdminService::CollectGarbage(Context* context, const v1::CollectGarbageRequest* request,
                                          Writer<v1::CollectGarbageResponse>* writer) {
  return gate_.Run(*context, "CollectGarbage", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::GarbageProgress progress,
                         store_.CollectGarbage(request->dry_run(), [&](const store::GarbageProgress& now) {
                           return !context->IsCancelled() && writer->Write(ToProto(now));
                         }));
    v1::CollectGarbageResponse last = ToProto(progress);
    last.set_done(true);
    return writer->Write(last) ? absl::OkStatus() : Gone();
  });
}

grpc::Status AdminService::AverageCheckpoints(Context* context, const v1::AverageCheckpointsRequest* request,
                                              Writer<v1::AverageCheckpointsResponse>* writer) {
  return gate_.Run(*context, "AverageCheckpoints", [&]() -> absl::Status {
    store::AverageOptions options{.references = {request->references().begin(), request->references().end()},
                                  .weights = {request->weights().begin(), request->weights().end()},
                                  .prefixes_excluded = {std::begin(kNotWeights), std::end(kNotWeights)}};
    if (request->has_decay()) options.decay = request->decay();
    v1::AverageCheckpointsResponse response;
    const auto describe = [&](const std::vector<store::Checkpoint>& sources) {
      return DescribeAverage(*request, sources);
    };
    BDH_ASSIGN_OR_RETURN(const auto result,
                         store::Average(store_, options, describe, [&](const store::Progress& progress) {
                           response.set_bytes_done(progress.bytes_done);
                           response.set_bytes_total(progress.bytes_total);
                           return !context->IsCancelled() && writer->Write(response);
                         }));
    BDH_ASSIGN_OR_RETURN(*response.mutable_checkpoint(), ToProto(result.checkpoint));
    BDH_LOG(INFO) << "average stored name=" << result.checkpoint.name << " of=" << options.references.size();
    return writer->Write(response) ? absl::OkStatus() : Gone();
  });
}

grpc::Status AdminService::DiffCheckpoints(Context* context, const v1::DiffCheckpointsRequest* request,
                                           v1::DiffCheckpointsResponse* response) {
  return gate_.Run(*context, "DiffCheckpoints", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto diffs,
                         store::Diff(store_, request->left(), request->right(),
                                     [&](const store::Progress&) { return !context->IsCancelled(); }));
    for (const store::TensorDiff& diff : diffs) Fill(diff, *response->add_tensors());
    return absl::OkStatus();
  });
}

grpc::Status AdminService::PushCheckpoints(Context* context, const v1::PushCheckpointsRequest* request,
                                           Writer<v1::PushCheckpointsResponse>* writer) {
  return gate_.Run(*context, "PushCheckpoints", [&]() -> absl::Status {
    RemoteStore target(request->target(), parts_.credentials, [&] { return context->IsCancelled(); });
    BDH_ASSIGN_OR_RETURN(const store::CopyProgress progress,
                         store::Copy(store_, {request->references().begin(), request->references().end()},
                                     target, [&](const store::CopyProgress& now) {
                                       return !context->IsCancelled() && writer->Write(ToProto(now));
                                     }));
    v1::PushCheckpointsResponse last = ToProto(progress);
    last.set_done(true);
    BDH_LOG(INFO) << "checkpoints pushed target=" << request->target() << " bytes=" << progress.bytes_total
                  << " skipped=" << progress.bytes_skipped;
    return writer->Write(last) ? absl::OkStatus() : Gone();
  });
}

grpc::Status AdminService::BackUp(Context* context, const v1::BackUpRequest* request,
                                  Writer<v1::BackUpResponse>* writer) {
  return gate_.Run(*context, "BackUp", [&] { return BackUpInto(request->folder(), *writer); });
}

absl::Status AdminService::BackUpInto(const std::string& folder, Writer<v1::BackUpResponse>& writer) {
  if (folder.empty() || folder[0] != '/') {
    return absl::InvalidArgumentError("folder must be an absolute path on the store's machine");
  }
  v1::BackUpResponse response;
  BDH_RETURN_IF_ERROR(store_.BackUp(folder, [&](const store::BackUpProgress& progress) {
    response.set_bytes_done(progress.bytes_done);
    response.set_bytes_total(progress.bytes_total);
    return writer.Write(response);
  }));
  // What runs agreed on is part of the store, in a database of its own.
  namespace fs = std::filesystem;
  std::error_code error;
  fs::remove_all(folder + "/coordination.new", error);
  BDH_RETURN_IF_ERROR(parts_.coordination.CopyTo(folder + "/coordination.new"));
  fs::remove_all(folder + "/coordination", error);
  fs::rename(folder + "/coordination.new", folder + "/coordination", error);
  if (error) return absl::InternalError(absl::StrFormat("rename in %s: %s", folder, error.message()));
  response.set_done(true);
  BDH_LOG(INFO) << "backed up folder=" << folder;
  return writer.Write(response) ? absl::OkStatus() : Gone();
}

grpc::Status AdminService::GetUsage(Context* context, const v1::GetUsageRequest*,
                                    v1::GetUsageResponse* response) {
  return gate_.Run(*context, "GetUsage", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const store::Usage usage, store_.GetUsage());
    for (const store::RunUsage& run : usage.runs) {
      v1::RunUsage& out = *response->add_runs();
      out.set_run(run.run);
      out.set_checkpoints(run.checkpoints);
      out.set_logical_bytes(run.logical_bytes);
      out.set_unshared_bytes(run.unshared_bytes);
    }
    response->set_stored_bytes(usage.stored_bytes);
    response->set_disk_bytes(usage.disk_bytes);
    response->set_disk_free_bytes(usage.disk_free_bytes);
    response->set_unreferenced_bytes(usage.unreferenced_bytes);
    return absl::OkStatus();
  });
}

}  // namespace bdh::checkpoint_store
