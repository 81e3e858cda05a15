// bdh-checkpoint-store as its clients see it: a real daemon, a real client, real sockets. What is put comes
// back byte for byte, also after a restart; wrong input is refused by name; clients that vanish leave
// nothing.

#include "services/checkpoint_store/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include "absl/strings/str_format.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"

namespace bdh::checkpoint_store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Stub = v1::CheckpointStoreService::Stub;
using Bytes = std::map<std::string, std::string>;  // By tensor.

constexpr char kToken[] = "mesh-token";
constexpr char kA[] = "runs/a/steps/1", kB[] = "runs/a/steps/2";

struct Content {
  v1::Checkpoint checkpoint;
  Bytes bytes;

  void Add(const std::string& name, v1::DType dtype, const std::vector<int64_t>& shape, std::string data) {
    v1::TensorInfo& info = *checkpoint.add_tensors();
    info.set_name(name);
    info.set_dtype(dtype);
    info.mutable_shape()->Assign(shape.begin(), shape.end());
    info.set_size_bytes(static_cast<int64_t>(data.size()));
    bytes[name] = std::move(data);
  }
};

// Tensors of several chunks, of less than one, of no bytes and of no dimension, and every fact there is.
Content SomeContent(const std::string& name, uint64_t seed) {
  Content content;
  v1::Checkpoint& checkpoint = content.checkpoint;
  checkpoint.set_name(name);
  checkpoint.mutable_model()->set_n_embd(64);
  checkpoint.set_config_yaml("train:\n  seed: 3\n");
  checkpoint.set_step(7);
  checkpoint.set_train_loss(1.25);
  checkpoint.set_validation_loss(0);
  checkpoint.set_tokens_seen(1 << 20);
  checkpoint.set_parent("runs/a/steps/0");
  checkpoint.mutable_cursor()->set_dataset_hash("abc");
  checkpoint.set_tokenizer("byte");
  checkpoint.set_host("here");
  checkpoint.set_software_version("0.1");
  content.Add("encoder", v1::DTYPE_F32, {5, 131072}, RandomBytes(seed, 5 * 131072 * 4));
  content.Add("embed.weight", v1::DTYPE_BF16, {100, 3}, RandomBytes(1, 600));
  content.Add("nothing", v1::DTYPE_F32, {0, 4}, "");
  content.Add("optimizer/step", v1::DTYPE_I64, {}, RandomBytes(2, 8));
  return content;
}

class CheckpointStoreTest : public testing::Test {
 protected:
  void SetUp() override { Start({}); }

  void Start(Server::Options options) {
    server_.reset();
    options.listen.credentials = kToken;
    options.data_dir = folder_.path() + "/store";
    options.min_free_bytes = 0;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", server_->address(), kToken);
    stub_ = v1::CheckpointStoreService::NewStub(peer_->channel());
  }

  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    return peer_->Call(*stub_, method, request, absl::Seconds(20));
  }

  using Writer = grpc::ClientWriter<v1::PutCheckpointRequest>;
  static bool SendHead(Writer& writer, const v1::Checkpoint& checkpoint) {
    v1::PutCheckpointRequest request;
    *request.mutable_checkpoint() = checkpoint;
    return writer.Write(request);
  }
  static bool SendChunk(Writer& writer, const std::string& tensor, int64_t offset, std::string data) {
    v1::PutCheckpointRequest request;
    request.mutable_chunk()->set_tensor(tensor);
    request.mutable_chunk()->set_offset_bytes(offset);
    request.mutable_chunk()->set_data(std::move(data));
    return writer.Write(request);
  }
  static void SendAll(Writer& writer, const Content& content, size_t piece_bytes) {
    if (!SendHead(writer, content.checkpoint)) return;
    for (const v1::TensorInfo& info : content.checkpoint.tensors()) {
      const std::string& bytes = content.bytes.at(info.name());
      for (size_t offset = 0; offset < bytes.size(); offset += piece_bytes) {
        if (!SendChunk(writer, info.name(), static_cast<int64_t>(offset), bytes.substr(offset, piece_bytes)))
          return;
      }
    }
  }
  // A put in which `send` says what is sent.
  absl::StatusOr<v1::PutCheckpointResponse> PutBy(const std::function<void(Writer&)>& send) {
    const auto context = peer_->NewContext(absl::Seconds(20));
    v1::PutCheckpointResponse response;
    const auto writer = stub_->PutCheckpoint(context.get(), &response);
    send(*writer);
    writer->WritesDone();
    const absl::Status status = peer_->Outcome(writer->Finish());
    if (!status.ok()) return status;
    return response;
  }
  absl::StatusOr<v1::PutCheckpointResponse> Put(const Content& content, size_t piece_bytes = 1 << 20) {
    return PutBy([&](Writer& writer) { SendAll(writer, content, piece_bytes); });
  }
  absl::StatusOr<Content> Get(const v1::GetCheckpointRequest& request) {
    const auto context = peer_->NewContext(absl::Seconds(20));
    const auto reader = stub_->GetCheckpoint(context.get(), request);
    Content content;
    v1::GetCheckpointResponse response;
    if (reader->Read(&response)) content.checkpoint = response.checkpoint();
    while (reader->Read(&response)) {
      std::string& bytes = content.bytes[response.chunk().tensor()];
      EXPECT_EQ(response.chunk().offset_bytes(), static_cast<int64_t>(bytes.size()));
      EXPECT_LE(response.chunk().data().size(), size_t{1} << 20);
      bytes += response.chunk().data();
    }
    const absl::Status status = peer_->Outcome(reader->Finish());
    if (!status.ok()) return status;
    return content;
  }
  absl::StatusOr<Content> Get(const std::string& reference) {
    v1::GetCheckpointRequest request;
    request.set_reference(reference);
    return Get(request);
  }
  void ExpectWhole(const Content& content) {
    const auto got = Get(content.checkpoint.name());
    ASSERT_TRUE(got.ok()) << got.status();
    Bytes want = content.bytes;
    want.erase("nothing");  // No bytes, no chunks.
    EXPECT_TRUE(got->bytes == want);
  }
  absl::StatusOr<v1::SetTagResponse> SetTag(const std::string& tag, const std::string& reference,
                                            const std::string& expected = "") {
    v1::SetTagRequest request;
    request.set_tag(tag);
    request.set_reference(reference);
    if (!expected.empty()) request.set_expected_checkpoint(expected);
    return Call(&Stub::SetTag, request);
  }
  std::string KeyFigure() {
    const auto stub = v1::MeshService::NewStub(peer_->channel());
    const auto status =
        peer_->Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(20));
    return status.ok() ? status->key_figure() : status.status().ToString();
  }
  std::string Metrics() {
    using boost::asio::ip::tcp;
    boost::asio::io_context context;
    tcp::socket socket(context);
    const std::string& address = server_->admin_address();
    const size_t colon = address.rfind(':');
    boost::asio::connect(socket,
                         tcp::resolver(context).resolve(address.substr(0, colon), address.substr(colon + 1)));
    boost::asio::write(socket, boost::asio::buffer(std::string("GET /metrics HTTP/1.0\r\n\r\n")));
    std::string answer;
    boost::system::error_code error;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), error);
    return answer;
  }

  TempDirectory folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(CheckpointStoreTest, WhatWasPutComesBackAlsoAfterARestart) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto put, Put(content));
  EXPECT_EQ(put.stored_bytes(), put.checkpoint().size_bytes());
  ExpectWhole(content);
  BDH_ASSERT_OK(SetTag("best", kA));
  Start({});
  ExpectWhole(content);
  BDH_ASSERT_OK_AND_ASSIGN(const Content got, Get(std::string("best")));
  // Every fact comes back, and what the store adds.
  v1::Checkpoint want = content.checkpoint;
  want.set_digest(put.checkpoint().digest());
  want.set_size_bytes(5 * 131072 * 4 + 600 + 8);
  *want.mutable_create_time() = put.checkpoint().create_time();
  want.add_tags("best");
  EXPECT_EQ(got.checkpoint.DebugString(), want.DebugString());
  EXPECT_TRUE(got.checkpoint.has_validation_loss());
}

TEST_F(CheckpointStoreTest, PiecesOfAnySizeMakeTheSameCheckpoint) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Put(content));
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, Put(content, 100'000));
  EXPECT_EQ(second.checkpoint().digest(), first.checkpoint().digest());
  EXPECT_EQ(second.stored_bytes(), 0);
  ExpectWhole(content);
}

TEST_F(CheckpointStoreTest, FieldsOfANewerClientAreKept) {
  Content content = SomeContent(kA, 1);
  content.checkpoint.GetReflection()->MutableUnknownFields(&content.checkpoint)->AddVarint(900, 42);
  BDH_ASSERT_OK(Put(content));
  BDH_ASSERT_OK_AND_ASSIGN(const Content got, Get(std::string(kA)));
  const auto& unknown = got.checkpoint.GetReflection()->GetUnknownFields(got.checkpoint);
  ASSERT_EQ(unknown.field_count(), 1);
  EXPECT_EQ(unknown.field(0).varint(), 42u);
}

TEST_F(CheckpointStoreTest, UnchangedTensorsCostNoSpace) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, Put(SomeContent(kB, 2)));
  EXPECT_EQ(second.stored_bytes(), 5 * 131072 * 4);
  const auto other = Put(SomeContent(kB, 3)).status();
  EXPECT_TRUE(absl::IsAlreadyExists(other)) << other;
  EXPECT_EQ(KeyFigure(), "2 checkpoints, 5.0 MiB");
  const std::string metrics = Metrics();
  EXPECT_THAT(metrics, HasSubstr("bdh_store_checkpoints 2"));
  EXPECT_THAT(metrics, HasSubstr("bdh_store_new_bytes_total 5243488"));
  EXPECT_THAT(metrics, HasSubstr("bdh_store_commit_seconds_count 2"));
}

TEST_F(CheckpointStoreTest, AReaderTakesOnlyTheTensorsItWants) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)));
  v1::GetCheckpointRequest request;
  request.set_reference(kA);
  request.add_prefixes_excluded("optimizer/");
  BDH_ASSERT_OK_AND_ASSIGN(const Content weights, Get(request));
  EXPECT_EQ(weights.bytes.size(), 2u);
  EXPECT_EQ(weights.checkpoint.tensors_size(), 4);
  request.clear_prefixes_excluded();
  request.add_tensors("optimizer/step");
  BDH_ASSERT_OK_AND_ASSIGN(const Content step, Get(request));
  EXPECT_THAT(step.bytes, ElementsAre(testing::Pair("optimizer/step", RandomBytes(2, 8))));
  request.add_tensors("absent");
  EXPECT_TRUE(absl::IsNotFound(Get(request).status()));
}

TEST_F(CheckpointStoreTest, TagsListsAndDeletionsFollowTheContract) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)));
  BDH_ASSERT_OK(Put(SomeContent(kB, 2)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto set, SetTag("latest", kA, "-"));
  EXPECT_GT(set.tag().update_time().seconds(), 0);
  EXPECT_TRUE(absl::IsAborted(SetTag("latest", kB, "-").status()));
  EXPECT_TRUE(absl::IsNotFound(SetTag("latest", "runs/x/steps/1").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(SetTag("runs/a", kA).status()));

  v1::DeleteCheckpointRequest remove;
  remove.set_name(kA);
  EXPECT_TRUE(absl::IsFailedPrecondition(Call(&Stub::DeleteCheckpoint, remove).status()));
  BDH_ASSERT_OK(SetTag("latest", kB, kA));
  BDH_ASSERT_OK_AND_ASSIGN(const auto removed, Call(&Stub::DeleteCheckpoint, remove));
  EXPECT_EQ(removed.freed_bytes(), 5 * 131072 * 4);
  EXPECT_TRUE(absl::IsNotFound(Call(&Stub::DeleteCheckpoint, remove).status()));

  BDH_ASSERT_OK_AND_ASSIGN(const auto tags, Call(&Stub::ListTags, v1::ListTagsRequest()));
  ASSERT_EQ(tags.tags_size(), 1);
  EXPECT_EQ(tags.tags(0).checkpoint(), kB);
  v1::DeleteTagRequest untag;
  untag.set_tag("latest");
  BDH_EXPECT_OK(Call(&Stub::DeleteTag, untag));
  EXPECT_TRUE(absl::IsNotFound(Call(&Stub::DeleteTag, untag).status()));
  v1::DescribeCheckpointRequest describe;
  describe.set_reference("latest");
  EXPECT_TRUE(absl::IsNotFound(Call(&Stub::DescribeCheckpoint, describe).status()));
}

TEST_F(CheckpointStoreTest, ListsNewestFirstPageByPage) {
  for (int i = 0; i < 12; ++i) {
    Content content;
    content.checkpoint.set_name(absl::StrFormat("runs/%s/steps/%d", i % 4 == 0 ? "other" : "mine", i));
    content.checkpoint.set_step(i);
    BDH_ASSERT_OK(Put(content));
  }
  v1::ListCheckpointsRequest request;
  BDH_ASSERT_OK_AND_ASSIGN(const auto all, Call(&Stub::ListCheckpoints, request));
  EXPECT_EQ(all.checkpoints_size(), 12);
  EXPECT_EQ(all.next_page_token(), "");
  request.set_run("mine");
  request.set_page_size(4);
  std::vector<int64_t> steps;
  do {
    BDH_ASSERT_OK_AND_ASSIGN(const auto page, Call(&Stub::ListCheckpoints, request));
    for (const v1::Checkpoint& checkpoint : page.checkpoints()) steps.push_back(checkpoint.step());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(steps, ElementsAre(11, 10, 9, 7, 6, 5, 3, 2, 1));
  request.set_page_size(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(Call(&Stub::ListCheckpoints, request).status()));
}

struct WrongPut {
  std::function<void(grpc::ClientWriter<v1::PutCheckpointRequest>&)> send;
  const char* error;
};

TEST_F(CheckpointStoreTest, WrongPutsAreRefusedByName) {
  const Content good = SomeContent(kA, 1);
  const std::string mib(1 << 20, 'x');
  const std::vector<WrongPut> table = {
      {[](Writer&) {}, "the first message"},
      {[&](Writer& w) { SendChunk(w, "encoder", 0, mib); }, "the first message"},
      {[&](Writer& w) {
         SendHead(w, good.checkpoint);
         SendHead(w, good.checkpoint);
       },
       "after the first must hold `chunk`"},
      {[&](Writer& w) {
         v1::Checkpoint named = good.checkpoint;
         named.set_name("runs/A/steps/1");
         SendHead(w, named);
       },
       "\"runs/A/steps/1\" is no name of a checkpoint"},
      {[&](Writer& w) {
         v1::Checkpoint lying = good.checkpoint;
         lying.mutable_tensors(0)->set_size_bytes(5);
         SendHead(w, lying);
       },
       "size_bytes of tensor \"encoder\" is 5"},
      {[&](Writer& w) {
         v1::Checkpoint untyped = good.checkpoint;
         untyped.mutable_tensors(1)->set_dtype(v1::DTYPE_UNSPECIFIED);
         SendHead(w, untyped);
       },
       "\"embed.weight\" has the unknown dtype"},
      {[&](Writer& w) {
         v1::Checkpoint twice = good.checkpoint;
         *twice.add_tensors() = twice.tensors(0);
         SendHead(w, twice);
       },
       "\"encoder\" is listed twice"},
      {[&](Writer& w) { SendHead(w, good.checkpoint); }, "ended early: tensor \"encoder\" has 0 of"},
      {[&](Writer& w) {
         SendHead(w, good.checkpoint);
         SendChunk(w, "embed.weight", 0, "x");
       },
       "want tensor \"encoder\" at offset 0"},
      {[&](Writer& w) {
         SendHead(w, good.checkpoint);
         SendChunk(w, "encoder", 0, mib);
         SendChunk(w, "encoder", 0, mib);
       },
       "out of order or twice"},
      {[&](Writer& w) {
         SendHead(w, good.checkpoint);
         SendChunk(w, "encoder", 0, "");
       },
       "a chunk holds no bytes"},
      {[&](Writer& w) {
         SendHead(w, good.checkpoint);
         SendChunk(w, "encoder", 0, mib + mib);
       },
       "at most 1048576 are taken at once"},
      {[&](Writer& w) {
         SendAll(w, good, 1 << 20);
         SendChunk(w, "optimizer/step", 8, "x");
       },
       "after all bytes"},
  };
  for (const WrongPut& wrong : table) {
    const auto status = PutBy(wrong.send).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.error << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.error));
  }
  EXPECT_EQ(KeyFigure(), "0 checkpoints, 0 B");
}

TEST_F(CheckpointStoreTest, WrongReferencesAreRefusedEverywhere) {
  v1::DescribeCheckpointRequest describe;
  describe.set_reference("runs/a/steps/1/../2");
  EXPECT_TRUE(absl::IsInvalidArgument(Call(&Stub::DescribeCheckpoint, describe).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Get(std::string("")).status()));
  const auto absent = Get(std::string(kA)).status();
  EXPECT_TRUE(absl::IsNotFound(absent));
  EXPECT_EQ(absent.message(), "there is no checkpoint runs/a/steps/1");
}

TEST_F(CheckpointStoreTest, TenThousandTinyTensorsAreOneCheckpoint) {
  Content content;
  content.checkpoint.set_name(kA);
  for (int i = 0; i < 10'000; ++i) {
    content.Add(absl::StrFormat("t%05d", i), v1::DTYPE_I32, {}, absl::StrFormat("%04d", i % 100));
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto put, Put(content));
  EXPECT_EQ(put.stored_bytes(), 400);
  ExpectWhole(content);
}

TEST_F(CheckpointStoreTest, TooManyUploadsAreRefusedAndASlotComesBack) {
  Start({.max_uploads = 1});
  const Content content = SomeContent(kA, 1);
  const auto context = peer_->NewContext(absl::Seconds(20));
  v1::PutCheckpointResponse response;
  const auto held = stub_->PutCheckpoint(context.get(), &response);
  ASSERT_TRUE(SendHead(*held, content.checkpoint));
  // Another call of the same connection is not ordered after it: ask until the upload is seen.
  absl::Status second;
  while ((second = Put(SomeContent(kB, 2)).status()).ok()) {
  }
  EXPECT_TRUE(absl::IsResourceExhausted(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("1 uploads are in flight"));
  context->TryCancel();
  EXPECT_FALSE(held->Finish().ok());
  while (!Put(content).ok()) std::this_thread::yield();
  ExpectWhole(content);
}

TEST_F(CheckpointStoreTest, AClientThatVanishesMidPutLeavesNothing) {
  const Content content = SomeContent(kA, 1);
  {
    const auto context = peer_->NewContext(absl::Seconds(20));
    v1::PutCheckpointResponse response;
    const auto writer = stub_->PutCheckpoint(context.get(), &response);
    SendHead(*writer, content.checkpoint);
    SendChunk(*writer, "encoder", 0, content.bytes.at("encoder").substr(0, 1 << 20));
    context->TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  EXPECT_TRUE(absl::IsNotFound(Get(std::string(kA)).status()));
  BDH_ASSERT_OK_AND_ASSIGN(const auto put, Put(content));
  ExpectWhole(content);
}

TEST_F(CheckpointStoreTest, AClientThatVanishesMidGetHoldsNothingUp) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)));
  for (int i = 0; i < 20; ++i) {
    const auto context = peer_->NewContext(absl::Seconds(20));
    v1::GetCheckpointRequest request;
    request.set_reference(kA);
    const auto reader = stub_->GetCheckpoint(context.get(), request);
    v1::GetCheckpointResponse response;
    EXPECT_TRUE(reader->Read(&response));
    context->TryCancel();
    EXPECT_FALSE(reader->Finish().ok());
  }
  ExpectWhole(SomeContent(kA, 1));
}

TEST_F(CheckpointStoreTest, PutsAndGetsGoOnSideBySide) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)));
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const Content mine = SomeContent(absl::StrFormat("runs/t%d/steps/0", i), 10 + i);
      if (!Put(mine).ok()) ++failures;
      const auto got = Get(std::string(kA));
      if (!got.ok() || got->bytes.at("encoder") != RandomBytes(1, 5 * 131072 * 4)) ++failures;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(KeyFigure(), "5 checkpoints, 12.5 MiB");
}

TEST_F(CheckpointStoreTest, DrainingCutsUploadsOffWithoutATrace) {
  const Content content = SomeContent(kA, 1);
  const auto context = peer_->NewContext(absl::Seconds(20));
  v1::PutCheckpointResponse response;
  const auto writer = stub_->PutCheckpoint(context.get(), &response);
  ASSERT_TRUE(SendHead(*writer, content.checkpoint));
  server_->Drain(absl::Milliseconds(50));
  EXPECT_FALSE(writer->Finish().ok());
  Start({});
  EXPECT_EQ(KeyFigure(), "0 checkpoints, 0 B");
}

// What the next start would have to read again.
int64_t LogBytes(const std::string& folder) {
  int64_t bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (file.path().extension() == ".log") bytes += static_cast<int64_t>(file.file_size());
  }
  return bytes;
}

TEST_F(CheckpointStoreTest, DrainingFlushesTheLog) {
  BDH_ASSERT_OK(Put(SomeContent(kA, 1)).status());
  EXPECT_GT(LogBytes(folder_.path() + "/store/db"), 1 << 10);
  server_->Drain(absl::Seconds(5));
  EXPECT_LT(LogBytes(folder_.path() + "/store/db"), 1 << 10);
}

TEST_F(CheckpointStoreTest, CallsWithoutTheTokenAreRefused) {
  const mesh::Peer stranger("bdh-checkpoint-store", server_->address(), "guess");
  const auto stub = v1::CheckpointStoreService::NewStub(stranger.channel());
  const auto status =
      stranger.Call(*stub, &Stub::ListTags, v1::ListTagsRequest(), absl::Seconds(20)).status();
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
}

TEST_F(CheckpointStoreTest, ASecondDaemonOnTheFolderIsRefused) {
  const auto status = Server::Start({.data_dir = folder_.path() + "/store"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("is in use by another bdh-checkpoint-store"));
}

}  // namespace
}  // namespace bdh::checkpoint_store
