// Every method of every service demands the mesh token. The methods are read from the protos, so that one
// added later is tested without anybody remembering to.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "bdh/config/config.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_store.pb.h"
#include "bdh/v1/data_loader.pb.h"
#include "bdh/v1/inference.pb.h"
#include "bdh/v1/mesh.pb.h"
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

void ExpectAllGuarded(const mesh::Daemon& daemon, const google::protobuf::FileDescriptor& file) {
  const mesh::Peer peer("daemon", daemon.address(), /*token=*/"");
  ASSERT_GT(file.service_count(), 0);
  for (int s = 0; s < file.service_count(); ++s) {
    for (int m = 0; m < file.service(s)->method_count(); ++m) {
      const std::string method =
          absl::StrFormat("/%s/%s", file.service(s)->full_name(), file.service(s)->method(m)->name());
      const grpc::Status status = CallWithoutToken(peer, method);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED)
          << method << ": " << status.error_message();
    }
  }
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
                         const google::protobuf::FileDescriptor* file) {
  auto server = Server::Start(options(config, "the-token"));
  ASSERT_TRUE(server.ok()) << server.status();
  ExpectAllGuarded(**server, *v1::GetStatusRequest::descriptor()->file());
  if (file != nullptr) ExpectAllGuarded(**server, *file);
}

TEST_F(MeshTokenTest, TheDataLoaderDemandsIt) {
  ExpectServerGuarded<data_loader::Server>(Config(), &data_loader::OptionsFromConfig,
                                           v1::Batch::descriptor()->file());
}

TEST_F(MeshTokenTest, TheCheckpointStoreDemandsIt) {
  ExpectServerGuarded<checkpoint_store::Server>(Config(), &checkpoint_store::OptionsFromConfig,
                                                v1::Checkpoint::descriptor()->file());
}

TEST_F(MeshTokenTest, InferenceDemandsIt) {
  ExpectServerGuarded<inference::Server>(Config(), &inference::OptionsFromConfig,
                                         v1::Model::descriptor()->file());
}

TEST_F(MeshTokenTest, TheTrainerWorkerDemandsIt) {
  ExpectServerGuarded<trainer_worker::Server>(Config(), &trainer_worker::OptionsFromConfig,
                                              v1::Run::descriptor()->file());
}

TEST_F(MeshTokenTest, TheGatewayDemandsItOnItsGrpcPort) {
  ExpectServerGuarded<gateway::Server>(Config(), &gateway::OptionsFromConfig, nullptr);
}

}  // namespace
}  // namespace bdh
