// Every method of every service demands the mesh token. The methods are read from the protos, so that one
// added later is tested without anybody remembering to; and a service that a daemon begins to serve must be
// named here as its own, or it is found to answer.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/config/config.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_admin.pb.h"
#include "bdh/v1/checkpoint_store.pb.h"
#include "bdh/v1/coordination.pb.h"
#include "bdh/v1/data_loader.pb.h"
#include "bdh/v1/inference.pb.h"
#include "bdh/v1/mesh.pb.h"
#include "bdh/v1/sessions.pb.h"
#include "bdh/v1/tokenizers.pb.h"
#include "bdh/v1/trainer.pb.h"
#include "services/checkpoint_store/server.h"
#include "services/data_loader/server.h"
#include "services/gateway/server.h"
#include "services/inference/server.h"
#include "services/trainer_worker/server.h"

namespace bdh {
namespace {

// The outcome of calling `method` (any kind of streaming) with one empty message and no token.
grpc::Status CallWithoutToken(const mesh::Peer& peer, const std::string& method) {
  grpc::GenericStub stub(peer.channel());
  grpc::CompletionQueue queue;
  const auto context = peer.NewContext(absl::Seconds(10));
  const auto call = stub.PrepareCall(context.get(), method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  grpc::Slice empty;
  call->Write(grpc::ByteBuffer(&empty, 1), grpc::WriteOptions().set_last_message(), nullptr);
  queue.Next(&tag, &ok);
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

// Every file of protos/bdh/v1 that has services.
std::vector<const FileDescriptor*> FilesWithServices() {
  return {v1::GetStatusRequest::descriptor()->file(),
          v1::Batch::descriptor()->file(),
          v1::Checkpoint::descriptor()->file(),
          v1::Run::descriptor()->file(),
          v1::Model::descriptor()->file(),
          v1::Group::descriptor()->file(),
          v1::Session::descriptor()->file(),
          v1::TokenizerInfo::descriptor()->file(),
          v1::FindMissingChunksRequest::descriptor()->file()};
}

std::string PathOf(const MethodDescriptor& method) {
  return absl::StrFormat("/%s/%s", method.service()->full_name(), method.name());
}

// A daemon serves MeshService and those in `served`, guarded; of the others it knows nothing.
void ExpectGuarded(const mesh::Daemon& daemon, const std::set<std::string>& served) {
  const mesh::Peer peer("daemon", daemon.address(), /*token=*/"");
  size_t guarded = 0;
  for (const FileDescriptor* file : FilesWithServices()) {
    for (int s = 0; s < file->service_count(); ++s) {
      const ServiceDescriptor& service = *file->service(s);
      const bool serves = service.name() == "MeshService" || served.count(service.name()) > 0;
      guarded += serves;
      for (int m = 0; m < service.method_count(); ++m) {
        const grpc::Status status = CallWithoutToken(peer, PathOf(*service.method(m)));
        EXPECT_EQ(status.error_code(),
                  serves ? grpc::StatusCode::UNAUTHENTICATED : grpc::StatusCode::UNIMPLEMENTED)
            << PathOf(*service.method(m)) << ": " << status.error_message();
      }
    }
  }
  EXPECT_EQ(guarded, served.size() + 1) << "a name in `served` is no service's";
}

class MeshTokenTest : public ::testing::Test {
 protected:
  v1::Config Config() const {
    v1::Config config;
    config.mutable_data_loader()->set_data_dir(folder_.path() + "/loader");
    config.mutable_checkpoint_store()->set_data_dir(folder_.path() + "/store");
    config.mutable_inference()->set_data_dir(folder_.path() + "/inference");
    config.mutable_trainer_worker()->set_data_dir(folder_.path() + "/trainer");
    config::FillDefaults(config);
    const auto pick_ports = [](auto* daemon) {
      daemon->set_listen("127.0.0.1:0");
      daemon->set_admin_listen("127.0.0.1:0");
    };
    pick_ports(config.mutable_data_loader());
    pick_ports(config.mutable_trainer_worker());
    pick_ports(config.mutable_checkpoint_store());
    pick_ports(config.mutable_inference());
    pick_ports(config.mutable_gateway());
    config.mutable_gateway()->set_http_listen("127.0.0.1:0");
    return config;
  }

  TempDirectory folder_;
};

template <class Server, class OptionsFromConfig>
void ExpectServerGuarded(const v1::Config& config, OptionsFromConfig options,
                         const std::set<std::string>& served) {
  auto server = Server::Start(options(config, "the-token"));
  ASSERT_TRUE(server.ok()) << server.status();
  ExpectGuarded(**server, served);
}

TEST_F(MeshTokenTest, TheDataLoaderDemandsIt) {
  ExpectServerGuarded<data_loader::Server>(Config(), &data_loader::OptionsFromConfig,
                                           {"DataLoaderService", "DatasetService", "TokenizerService"});
}

TEST_F(MeshTokenTest, TheCheckpointStoreDemandsIt) {
  ExpectServerGuarded<checkpoint_store::Server>(
      Config(), &checkpoint_store::OptionsFromConfig,
      {"CheckpointAdminService", "CheckpointStoreService", "CoordinationService", "KeyValueService",
       "RunRecordService", "SnapshotService"});
}

TEST_F(MeshTokenTest, InferenceDemandsIt) {
  ExpectServerGuarded<inference::Server>(Config(), &inference::OptionsFromConfig, {"InferenceService"});
}

TEST_F(MeshTokenTest, TheTrainerWorkerDemandsIt) {
  ExpectServerGuarded<trainer_worker::Server>(Config(), &trainer_worker::OptionsFromConfig,
                                              {"TrainerService"});
}

TEST_F(MeshTokenTest, TheGatewayDemandsItOnItsGrpcPort) {
  ExpectServerGuarded<gateway::Server>(Config(), &gateway::OptionsFromConfig, {});
}

TEST(Protos, EveryFileWithServicesIsAmongThoseCalled) {
  std::set<std::string> called;
  for (const FileDescriptor* file : FilesWithServices()) called.insert(file->name());
  const std::filesystem::path folder(BDH_SOURCE_DIR "/protos/bdh/v1");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string text = *ReadFile(entry.path());
    const std::string name = "bdh/v1/" + entry.path().filename().string();
    EXPECT_EQ(called.count(name) > 0, text.find("\nservice ") != std::string::npos)
        << name << ": name one of its messages in FilesWithServices";
  }
}

}  // namespace
}  // namespace bdh
