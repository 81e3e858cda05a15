// Care for checkpoints as bdhctl and trainers see it: two real daemons, real sockets. Uploads that resume and
// are fenced, averages, differences, pushes, repairs, pins, retention, backups of a store that serves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/text.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "bdh/v1/coordination.grpc.pb.h"
#include "services/checkpoint_store/put_client.h"
#include "services/checkpoint_store/server.h"

namespace bdh::checkpoint_store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Admin = v1::CheckpointAdminService::Stub;
using Checkpoints = v1::CheckpointStoreService::Stub;

constexpr absl::Duration kLong = absl::Seconds(60);

std::string Step(int step) {
  return absl::StrFormat("runs/a/steps/%d", step);
}
std::string Digest(const std::string& bytes) {
  return absl::HexStringToBytes(Sha256Hex(bytes));
}
std::string Floats(float first, size_t count) {
  std::string bytes(count * 4, '\0');
  for (size_t i = 0; i < count; ++i) {
    const float value = first + static_cast<float>(i);
    std::memcpy(bytes.data() + i * 4, &value, 4);
  }
  return bytes;
}

// A daemon and its clients.
struct Store {
  explicit Store(const std::string& folder) : data_dir(folder) {
    Server::Options options;
    options.data_dir = folder;
    options.min_free_bytes = 0;
    auto started = Server::Start(options);
    EXPECT_TRUE(started.ok()) << started.status();
    if (!started.ok()) return;
    server = *std::move(started);
    peer = std::make_unique<mesh::Peer>("bdh-checkpoint-store", server->address(), "");
    admin = v1::CheckpointAdminService::NewStub(peer->channel());
    checkpoints = v1::CheckpointStoreService::NewStub(peer->channel());
  }

  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (Admin::*method)(grpc::ClientContext*, const Request&,
                                                              Response*),
                                const Request& request) {
    return peer->Call(*admin, method, request, kLong);
  }
  // The last answer of a call that reports progress.
  template <class Request, class Response>
  absl::StatusOr<Response> Last(
      std::unique_ptr<grpc::ClientReader<Response>> (Admin::*method)(grpc::ClientContext*, const Request&),
      const Request& request) {
    const auto context = peer->NewContext(kLong);
    const auto reader = ((*admin).*method)(context.get(), request);
    Response response, last;
    while (reader->Read(&response)) last = response;
    const absl::Status status = peer->Outcome(reader->Finish());
    if (!status.ok()) return status;
    return last;
  }

  // `before_end` happens when all has been sent but the end.
  absl::Status Put(const std::string& name, const std::string& weights,
                   const std::optional<v1::Fence>& fence = std::nullopt,
                   const std::function<void()>& before_end = {}) {
    const auto context = peer->NewContext(kLong);
    v1::PutCheckpointResponse response;
    const auto writer = checkpoints->PutCheckpoint(context.get(), &response);
    v1::PutCheckpointRequest request;
    v1::Checkpoint& checkpoint = *request.mutable_checkpoint();
    checkpoint = Description(name, weights);
    if (fence.has_value()) *request.mutable_fence() = *fence;
    writer->Write(request);
    request.clear_fence();
    for (size_t at = 0; at < weights.size(); at += 1 << 20) {
      request.mutable_chunk()->set_tensor("encoder");
      request.mutable_chunk()->set_offset_bytes(static_cast<int64_t>(at));
      request.mutable_chunk()->set_data(weights.substr(at, 1 << 20));
      if (!writer->Write(request)) break;
    }
    if (before_end) before_end();
    writer->WritesDone();
    return peer->Outcome(writer->Finish());
  }
  static v1::Checkpoint Description(const std::string& name, const std::string& weights) {
    v1::Checkpoint checkpoint;
    checkpoint.set_name(name);
    checkpoint.set_step(std::atoll(name.c_str() + name.rfind('/') + 1));
    checkpoint.set_train_loss(2.5);
    checkpoint.mutable_model()->set_n_embd(64);
    v1::TensorInfo& info = *checkpoint.add_tensors();
    info.set_name("encoder");
    info.set_dtype(v1::DTYPE_F32);
    info.add_shape(static_cast<int64_t>(weights.size() / 4));
    info.set_size_bytes(static_cast<int64_t>(weights.size()));
    return checkpoint;
  }
  absl::StatusOr<std::string> Get(const std::string& reference) {
    const auto context = peer->NewContext(kLong);
    v1::GetCheckpointRequest request;
    request.set_reference(reference);
    const auto reader = checkpoints->GetCheckpoint(context.get(), request);
    v1::GetCheckpointResponse response;
    std::string bytes;
    while (reader->Read(&response)) bytes += response.chunk().data();
    const absl::Status status = peer->Outcome(reader->Finish());
    if (!status.ok()) return status;
    return bytes;
  }
  absl::Status Delete(const std::string& name) {
    v1::DeleteCheckpointRequest request;
    request.set_name(name);
    return peer->Call(*checkpoints, &Checkpoints::DeleteCheckpoint, request, kLong).status();
  }
  absl::StatusOr<v1::FindMissingChunksResponse> FindMissing(const std::string& upload,
                                                            const std::vector<std::string>& digests) {
    v1::FindMissingChunksRequest request;
    request.set_upload(upload);
    request.mutable_digests()->Assign(digests.begin(), digests.end());
    return Call(&Admin::FindMissingChunks, request);
  }
  absl::StatusOr<v1::PutChunksResponse> PutChunks(
      const std::string& upload, const std::vector<std::pair<std::string, std::string>>& chunks) {
    const auto context = peer->NewContext(kLong);
    v1::PutChunksResponse response;
    const auto writer = admin->PutChunks(context.get(), &response);
    for (const auto& [digest, data] : chunks) {
      v1::PutChunksRequest request;
      request.set_upload(upload);
      request.set_digest(digest);
      request.set_data(data);
      if (!writer->Write(request)) break;
    }
    writer->WritesDone();
    const absl::Status status = peer->Outcome(writer->Finish());
    if (!status.ok()) return status;
    return response;
  }

  std::string data_dir;
  std::unique_ptr<Server> server;
  std::unique_ptr<mesh::Peer> peer;
  std::unique_ptr<Admin> admin;
  std::unique_ptr<Checkpoints> checkpoints;
};

// In the largest file of a folder.
void FlipABit(const std::string& folder, int64_t offset) {
  std::filesystem::path largest;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (largest.empty() || entry.file_size() > std::filesystem::file_size(largest)) largest = entry.path();
  }
  std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const char was = static_cast<char>(file.get());
  file.seekp(offset);
  file.put(static_cast<char>(was ^ 1));
}

class AdminTest : public testing::Test {
 protected:
  std::string Folder(const std::string& name) { return folder_.path() + "/" + name; }
  // A group of one, whose only worker comes again: a new generation.
  void JoinGroup() {
    const auto groups = v1::CoordinationService::NewStub(store_->peer->channel());
    v1::RegisterWorkerRequest join;
    join.set_group("runs/a");
    join.mutable_worker()->set_name("w");
    join.mutable_spec()->set_min_workers(1);
    join.mutable_spec()->set_max_workers(1);
    join.mutable_spec()->mutable_lease_duration()->set_seconds(60);
    BDH_EXPECT_OK(store_->peer->Call(*groups, &v1::CoordinationService::Stub::RegisterWorker, join, kLong));
  }

  TempDirectory folder_;
  std::unique_ptr<Store> store_ = std::make_unique<Store>(folder_.path() + "/store");
};

TEST_F(AdminTest, AnUploadSendsWhatIsMissingAndGoesOnAfterARestart) {
  const std::string weights = Floats(1, 400'000);  // Two chunks.
  const std::vector<std::string> digests = {Digest(weights.substr(0, 1 << 20)),
                                            Digest(weights.substr(1 << 20))};
  BDH_ASSERT_OK_AND_ASSIGN(const auto missing, store_->FindMissing("u", digests));
  EXPECT_THAT(missing.missing(), ElementsAre(0, 1));
  EXPECT_EQ(missing.chunk_bytes(), 1 << 20);
  BDH_ASSERT_OK_AND_ASSIGN(const auto put,
                           store_->PutChunks("u", {{digests[0], weights.substr(0, 1 << 20)}}));
  EXPECT_EQ(put.stored_bytes(), 1 << 20);
  v1::CommitUploadRequest commit;
  commit.set_upload("u");
  *commit.mutable_checkpoint() = Store::Description(Step(1), weights);
  commit.add_chunks()->set_tensor("encoder");
  for (const std::string& digest : digests) commit.mutable_chunks(0)->add_digests(digest);
  EXPECT_EQ(store_->Call(&Admin::CommitUpload, commit).status().code(),
            absl::StatusCode::kFailedPrecondition);

  store_.reset();
  store_ = std::make_unique<Store>(Folder("store"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto rest, store_->FindMissing("u", digests));
  EXPECT_THAT(rest.missing(), ElementsAre(1));
  EXPECT_EQ(store_->PutChunks("u", {{digests[1], "other bytes"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->PutChunks("v", {{digests[1], weights.substr(1 << 20)}}).status().code(),
            absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(store_->PutChunks("u", {{digests[1], weights.substr(1 << 20)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto committed, store_->Call(&Admin::CommitUpload, commit));
  EXPECT_EQ(committed.checkpoint().name(), Step(1));
  EXPECT_TRUE(*store_->Get(Step(1)) == weights);
  EXPECT_EQ(store_->FindMissing("bad name!", {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->FindMissing("u", {"short"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->FindMissing("u", std::vector<std::string>(65'537, digests[0])).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminTest, ACommitOfAGenerationThatIsOverIsRefused) {
  for (int generation = 1; generation <= 2; ++generation) JoinGroup();
  const std::string weights = Floats(1, 4);
  BDH_ASSERT_OK(store_->FindMissing("u", {Digest(weights)}));
  BDH_ASSERT_OK(store_->PutChunks("u", {{Digest(weights), weights}}));
  v1::CommitUploadRequest commit;
  commit.set_upload("u");
  *commit.mutable_checkpoint() = Store::Description(Step(1), weights);
  commit.add_chunks()->set_tensor("encoder");
  commit.mutable_chunks(0)->add_digests(Digest(weights));
  commit.mutable_fence()->set_group("runs/a");
  commit.mutable_fence()->set_generation(1);
  const auto stale = store_->Call(&Admin::CommitUpload, commit);
  EXPECT_EQ(stale.status().code(), absl::StatusCode::kAborted) << stale.status();
  EXPECT_EQ(store_->Get(Step(1)).status().code(), absl::StatusCode::kNotFound);
  commit.mutable_fence()->set_generation(2);
  BDH_EXPECT_OK(store_->Call(&Admin::CommitUpload, commit));
  commit.mutable_fence()->set_group("none");
  EXPECT_EQ(store_->Call(&Admin::CommitUpload, commit).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(AdminTest, APutOfAGenerationThatIsOverIsRefusedAlsoIfItEndedMeanwhile) {
  JoinGroup();
  const std::string weights = Floats(1, 400'000);
  v1::Fence fence;
  fence.set_group("runs/a");
  fence.set_generation(1);
  BDH_EXPECT_OK(store_->Put(Step(1), weights, fence));
  const auto stale = store_->Put(Step(2), weights, fence, [&] { JoinGroup(); });
  EXPECT_EQ(stale.code(), absl::StatusCode::kAborted) << "it ended while the bytes came: " << stale;
  EXPECT_EQ(store_->Put(Step(2), weights, fence).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(store_->Get(Step(2)).status().code(), absl::StatusCode::kNotFound);
  fence.set_generation(2);
  BDH_EXPECT_OK(store_->Put(Step(2), weights, fence));
  EXPECT_TRUE(*store_->Get(Step(2)) == weights);
  fence.set_group("none");
  EXPECT_EQ(store_->Put(Step(3), weights, fence).code(), absl::StatusCode::kNotFound);
}

TEST_F(AdminTest, APutOfWhatIsThereSendsNothing) {
  const std::string weights = RandomBytes(5, 5 << 20), same(3 << 20, 's');
  v1::Checkpoint header = Store::Description(Step(1), weights);
  *header.add_tensors() = header.tensors(0);
  header.mutable_tensors(1)->set_name("same");
  header.mutable_tensors(1)->set_shape(0, static_cast<int64_t>(same.size() / 4));
  header.mutable_tensors(1)->set_size_bytes(static_cast<int64_t>(same.size()));
  const auto put = [&](const std::string& name,
                       const std::string& first) -> absl::StatusOr<PutClient::Result> {
    header.set_name(name);
    PutClient client(*store_->peer, header);
    for (const std::string& bytes : {first, same}) {
      const absl::Status status = client.Add(bytes);
      if (!status.ok()) return status;
    }
    return client.Commit();
  };
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, put(Step(1), weights));
  EXPECT_EQ(first.sent_bytes, 6 << 20) << "three equal chunks are sent once";
  EXPECT_EQ(first.stored_bytes, 6 << 20);
  EXPECT_TRUE(*store_->Get(Step(1)) == weights + same);
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, put(Step(1), weights));
  EXPECT_EQ(again.sent_bytes, 0);
  EXPECT_EQ(again.stored_bytes, 0);
  EXPECT_EQ(again.checkpoint.digest(), first.checkpoint.digest());
  std::string next = weights;
  next[4 << 20] ^= 1;
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, put(Step(2), next));
  EXPECT_EQ(second.sent_bytes, 1 << 20) << "one chunk is new";
  EXPECT_EQ(put(Step(2), weights).status().code(), absl::StatusCode::kAlreadyExists);
  const auto short_one = put(Step(3), next.substr(1)).status();
  EXPECT_EQ(short_one.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(short_one.message()), HasSubstr("tensor encoder has 5242880 bytes"));
}

TEST_F(AdminTest, ChunksThatBelongToNoUploadReplaceDamagedOnes) {
  const std::string weights = RandomBytes(6, 6 << 20);
  BDH_ASSERT_OK(store_->Put(Step(1), weights));
  store_.reset();
  FlipABit(Folder("store"), 3'500'000);
  store_ = std::make_unique<Store>(Folder("store"));
  v1::VerifyRequest known;
  known.set_known_only(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto nothing, store_->Last(&Admin::Verify, known));
  EXPECT_EQ(nothing.result().damaged_chunks(), 0) << "nobody has looked";
  BDH_ASSERT_OK(store_->Last(&Admin::Verify, v1::VerifyRequest()));
  BDH_ASSERT_OK_AND_ASSIGN(const auto answer, store_->Last(&Admin::Verify, known));
  ASSERT_EQ(answer.result().damage_size(), 1);
  EXPECT_EQ(answer.result().bytes(), 0) << "nothing was read";
  const v1::Damage& damage = answer.result().damage(0);
  ASSERT_THAT(damage.tensors(), ElementsAre("encoder"));
  const std::string right =
      weights.substr(static_cast<size_t>(damage.offsets(0)), static_cast<size_t>(damage.size_bytes()));
  EXPECT_EQ(damage.digest(), Digest(right));
  EXPECT_EQ(store_->PutChunks("", {{damage.digest(), "wrong"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->PutChunks("", {{Digest("other"), "other"}}).status().code(), absl::StatusCode::kNotFound);
  BDH_EXPECT_OK(store_->PutChunks("", {{damage.digest(), right}}));
  EXPECT_TRUE(*store_->Get(Step(1)) == weights);
  BDH_ASSERT_OK_AND_ASSIGN(const auto healed, store_->Last(&Admin::Verify, known));
  EXPECT_EQ(healed.result().damaged_chunks(), 0);
  known.set_reference(Step(1));
  EXPECT_EQ(store_->Last(&Admin::Verify, known).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminTest, AverageAndDiffSayWhatTheyDid) {
  BDH_ASSERT_OK(store_->Put(Step(1), Floats(1, 1000)));
  BDH_ASSERT_OK(store_->Put(Step(2), Floats(3, 1000)));
  v1::AverageCheckpointsRequest average;
  average.add_references(Step(1));
  average.add_references(Step(2));
  average.set_name("runs/mean/steps/2");
  BDH_ASSERT_OK_AND_ASSIGN(const auto made, store_->Last(&Admin::AverageCheckpoints, average));
  EXPECT_EQ(made.checkpoint().name(), "runs/mean/steps/2");
  EXPECT_EQ(made.checkpoint().parent(), Step(2));
  EXPECT_EQ(made.checkpoint().step(), 2);
  EXPECT_EQ(made.checkpoint().model().n_embd(), 64);
  EXPECT_FALSE(made.checkpoint().has_train_loss()) << "nobody measured it";
  EXPECT_EQ(made.bytes_done(), made.bytes_total());
  EXPECT_TRUE(*store_->Get("runs/mean/steps/2") == Floats(2, 1000));
  average.add_weights(1);
  EXPECT_EQ(store_->Last(&Admin::AverageCheckpoints, average).status().code(),
            absl::StatusCode::kInvalidArgument);

  v1::DiffCheckpointsRequest diff;
  diff.set_left(Step(1));
  diff.set_right(Step(2));
  BDH_ASSERT_OK_AND_ASSIGN(const auto differ, store_->Call(&Admin::DiffCheckpoints, diff));
  ASSERT_EQ(differ.tensors_size(), 1);
  EXPECT_EQ(differ.tensors(0).difference_max(), 2);
  EXPECT_NEAR(differ.tensors(0).difference_norm(), 2 * std::sqrt(1000.0), 1e-9);
  diff.set_right("none");
  EXPECT_EQ(store_->Call(&Admin::DiffCheckpoints, diff).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(AdminTest, APushSendsWhatTheOtherLacksAndARepairBringsItBack) {
  const std::string weights = RandomBytes(1, 6 << 20);
  std::string next = weights;
  next[0] ^= 1;
  BDH_ASSERT_OK(store_->Put(Step(1), weights));
  BDH_ASSERT_OK(store_->Put(Step(2), next));
  auto other = std::make_unique<Store>(Folder("other"));
  v1::PushCheckpointsRequest push;
  push.set_target(other->server->address());
  push.add_references(Step(1));
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, store_->Last(&Admin::PushCheckpoints, push));
  EXPECT_TRUE(first.done());
  EXPECT_EQ(first.bytes_skipped(), 0);
  push.add_references(Step(2));
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, store_->Last(&Admin::PushCheckpoints, push));
  EXPECT_EQ(second.bytes_skipped(), 11 << 20) << "one chunk is new";
  EXPECT_TRUE(*other->Get(Step(2)) == next);
  push.set_references(1, "none");
  EXPECT_EQ(store_->Last(&Admin::PushCheckpoints, push).status().code(), absl::StatusCode::kNotFound);
  push.set_references(1, Step(2));
  push.set_target("127.0.0.1:1");
  EXPECT_EQ(store_->Last(&Admin::PushCheckpoints, push).status().code(), absl::StatusCode::kUnavailable);

  other.reset();
  FlipABit(Folder("other"), 3'500'000);
  other = std::make_unique<Store>(Folder("other"));
  v1::VerifyRequest one;
  one.set_reference(Step(1));
  BDH_ASSERT_OK_AND_ASSIGN(const auto verified, other->Last(&Admin::Verify, one));
  ASSERT_EQ(verified.result().damaged_chunks(), 1);
  EXPECT_THAT(verified.result().damage(0).checkpoints(), ElementsAre(Step(1), Step(2)));
  EXPECT_EQ(other->Get(Step(1)).status().code(), absl::StatusCode::kDataLoss) << "never served";
  v1::RepairRequest repair;
  repair.set_source(store_->server->address());
  BDH_ASSERT_OK_AND_ASSIGN(const auto repaired, other->Last(&Admin::Repair, repair));
  EXPECT_EQ(repaired.repaired_chunks(), 1);
  EXPECT_TRUE(*other->Get(Step(1)) == weights);
  BDH_ASSERT_OK_AND_ASSIGN(const auto healed, other->Last(&Admin::Verify, one));
  EXPECT_EQ(healed.result().damaged_chunks(), 0);
  EXPECT_EQ(healed.result().bytes(), static_cast<int64_t>(weights.size()));
}

TEST_F(AdminTest, NotesTagsHistoryAndSearch) {
  for (int step = 1; step <= 3; ++step) BDH_ASSERT_OK(store_->Put(Step(step), Floats(1.0f * step, 4)));
  v1::AnnotateRequest annotate;
  annotate.set_checkpoint(Step(2));
  annotate.mutable_note()->set_text("the good one");
  (*annotate.mutable_note()->mutable_labels())["quality"] = "good";
  BDH_ASSERT_OK(store_->Call(&Admin::Annotate, annotate));
  v1::SearchCheckpointsRequest search;
  (*search.mutable_labels())["quality"] = "good";
  BDH_ASSERT_OK_AND_ASSIGN(const auto found, store_->Call(&Admin::SearchCheckpoints, search));
  ASSERT_EQ(found.checkpoints_size(), 1);
  EXPECT_EQ(found.checkpoints(0).name(), Step(2));
  EXPECT_EQ(found.notes(0).text(), "the good one");
  v1::SetTagRequest tag;
  tag.set_tag("best");
  for (const int step : {1, 2}) {
    tag.set_reference(Step(step));
    BDH_ASSERT_OK(store_->peer->Call(*store_->checkpoints, &Checkpoints::SetTag, tag, kLong));
  }
  v1::ListTagHistoryRequest history;
  history.set_tag("best");
  BDH_ASSERT_OK_AND_ASSIGN(const auto changes, store_->Call(&Admin::ListTagHistory, history));
  ASSERT_EQ(changes.changes_size(), 2);
  EXPECT_EQ(changes.changes(0).checkpoint(), Step(2));
  history.set_tag("never");
  EXPECT_EQ(store_->Call(&Admin::ListTagHistory, history).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(AdminTest, WhatIsPinnedStaysAndRetentionSaysWhatGoes) {
  for (int step = 1; step <= 5; ++step) BDH_ASSERT_OK(store_->Put(Step(step), Floats(1.0f * step, 4)));
  v1::PinCheckpointRequest pin;
  pin.set_reference(Step(1));
  pin.set_holder("reader");
  pin.mutable_lease_duration()->set_seconds(60);
  BDH_ASSERT_OK_AND_ASSIGN(const auto pinned, store_->Call(&Admin::PinCheckpoint, pin));
  EXPECT_EQ(pinned.checkpoint(), Step(1));
  EXPECT_EQ(store_->Delete(Step(1)).code(), absl::StatusCode::kFailedPrecondition);
  pin.mutable_lease_duration()->set_seconds(3601);
  EXPECT_EQ(store_->Call(&Admin::PinCheckpoint, pin).status().code(), absl::StatusCode::kInvalidArgument);

  v1::ApplyRetentionRequest apply;
  apply.set_dry_run(true);
  EXPECT_EQ(store_->Call(&Admin::ApplyRetention, apply).status().code(),
            absl::StatusCode::kFailedPrecondition);
  v1::SetRetentionRequest set;
  set.mutable_policy();
  EXPECT_EQ(store_->Call(&Admin::SetRetention, set).status().code(), absl::StatusCode::kInvalidArgument);
  set.mutable_policy()->set_keep_last(2);
  set.mutable_policy()->set_keep_every_steps(3);
  BDH_ASSERT_OK(store_->Call(&Admin::SetRetention, set));
  v1::GetRetentionRequest get;
  get.set_run("a");
  BDH_ASSERT_OK_AND_ASSIGN(const auto rule, store_->Call(&Admin::GetRetention, get));
  EXPECT_TRUE(rule.inherited());
  EXPECT_EQ(rule.policy().keep_last(), 2);
  BDH_ASSERT_OK_AND_ASSIGN(const auto would, store_->Call(&Admin::ApplyRetention, apply));
  EXPECT_THAT(would.deleted(), ElementsAre(Step(2)));
  BDH_EXPECT_OK(store_->Get(Step(2)));
  apply.set_dry_run(false);
  BDH_ASSERT_OK_AND_ASSIGN(const auto did, store_->Call(&Admin::ApplyRetention, apply));
  EXPECT_THAT(did.deleted(), ElementsAre(Step(2)));
  EXPECT_EQ(store_->Get(Step(2)).status().code(), absl::StatusCode::kNotFound);
  v1::UnpinCheckpointRequest unpin;
  unpin.set_checkpoint(Step(1));
  unpin.set_holder("reader");
  BDH_ASSERT_OK(store_->Call(&Admin::UnpinCheckpoint, unpin));
  BDH_EXPECT_OK(store_->Delete(Step(1)));
}

TEST_F(AdminTest, ABackupOpensAsAStoreOfItsOwn) {
  BDH_ASSERT_OK(store_->Put(Step(1), Floats(1, 300'000)));
  const auto values = v1::KeyValueService::NewStub(store_->peer->channel());
  v1::SetValueRequest set;
  set.set_namespace_("n");
  set.set_key("k");
  set.set_value("v");
  BDH_ASSERT_OK(store_->peer->Call(*values, &v1::KeyValueService::Stub::SetValue, set, kLong));
  v1::BackUpRequest backup;
  backup.set_folder("not/absolute");
  EXPECT_EQ(store_->Last(&Admin::BackUp, backup).status().code(), absl::StatusCode::kInvalidArgument);
  backup.set_folder(Folder("backup"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, store_->Last(&Admin::BackUp, backup));
  EXPECT_TRUE(first.done());
  BDH_ASSERT_OK(store_->Put(Step(2), Floats(2, 300'000)));
  BDH_ASSERT_OK(store_->Last(&Admin::BackUp, backup));
  Store copy(Folder("backup"));
  for (const int step : {1, 2}) EXPECT_TRUE(*copy.Get(Step(step)) == Floats(1.0f * step, 300'000));
  const auto copied = v1::KeyValueService::NewStub(copy.peer->channel());
  v1::GetValueRequest get;
  get.set_namespace_("n");
  get.set_key("k");
  BDH_ASSERT_OK_AND_ASSIGN(const auto value,
                           copy.peer->Call(*copied, &v1::KeyValueService::Stub::GetValue, get, kLong));
  EXPECT_EQ(value.value(), "v");
}

TEST_F(AdminTest, GarbageOfUploadsIsFoundAndUsageSaysWhereTheBytesAre) {
  BDH_ASSERT_OK(store_->Put(Step(1), Floats(1, 1000)));
  BDH_ASSERT_OK(store_->Put("runs/b/steps/1", Floats(1, 1000)));
  const std::string lost = Floats(7, 1000);
  BDH_ASSERT_OK(store_->FindMissing("u", {Digest(lost)}));
  BDH_ASSERT_OK(store_->PutChunks("u", {{Digest(lost), lost}}));
  v1::CollectGarbageRequest collect;
  collect.set_dry_run(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto collected, store_->Last(&Admin::CollectGarbage, collect));
  EXPECT_TRUE(collected.done());
  EXPECT_EQ(collected.chunks_freed(), 0) << "an upload that is not quiet yet is safe";
  BDH_ASSERT_OK_AND_ASSIGN(const auto usage, store_->Call(&Admin::GetUsage, v1::GetUsageRequest()));
  ASSERT_EQ(usage.runs_size(), 2);
  EXPECT_EQ(usage.runs(0).run(), "a");
  EXPECT_EQ(usage.runs(0).logical_bytes(), 4000);
  EXPECT_EQ(usage.runs(0).unshared_bytes(), 0);
  EXPECT_EQ(usage.stored_bytes(), 4000);
  EXPECT_EQ(usage.unreferenced_bytes(), 4000);
  EXPECT_GT(usage.disk_free_bytes(), 0);
}

}  // namespace
}  // namespace bdh::checkpoint_store
