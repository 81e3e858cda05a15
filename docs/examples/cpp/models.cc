// Says how bdh-inference does and which models it has loaded.
//
//   bdh-models ADDRESS [TOKEN_FILE [TLS_FOLDER]]
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "bdh/v1/inference.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"

namespace {

std::string FileText(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The mesh knows its daemons by name: the certificate is for "bdh-inference", whatever the address.
std::shared_ptr<grpc::Channel> Connect(const std::string& address, const std::string& tls_folder) {
  if (tls_folder.empty()) return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  grpc::SslCredentialsOptions files;
  files.pem_root_certs = FileText(tls_folder + "/ca.pem");
  files.pem_cert_chain = FileText(tls_folder + "/bdhctl.pem");
  files.pem_private_key = FileText(tls_folder + "/bdhctl.key");
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("bdh-inference");
  return grpc::CreateCustomChannel(address, grpc::SslCredentials(files), arguments);
}

// Every call carries the mesh token, and a deadline.
std::unique_ptr<grpc::ClientContext> NewContext(const std::string& token) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
  return context;
}

int Fail(const grpc::Status& status) {
  std::cerr << "bdh-models: " << status.error_message() << std::endl;
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::cerr << "usage: bdh-models ADDRESS [TOKEN_FILE [TLS_FOLDER]]" << std::endl;
    return 2;
  }
  std::string token = argc > 2 ? FileText(argv[2]) : "";
  while (!token.empty() && token.back() <= ' ') token.pop_back();
  const auto channel = Connect(argv[1], argc > 3 ? argv[3] : "");

  bdh::v1::GetStatusResponse daemon;
  grpc::Status status =
      bdh::v1::MeshService::NewStub(channel)->GetStatus(NewContext(token).get(), {}, &daemon);
  if (!status.ok()) return Fail(status);
  std::cout << daemon.daemon() << " " << daemon.version() << (daemon.ready() ? " is ready" : " is not ready")
            << std::endl;

  bdh::v1::ListModelsResponse models;
  status = bdh::v1::InferenceService::NewStub(channel)->ListModels(NewContext(token).get(), {}, &models);
  if (!status.ok()) return Fail(status);
  for (const bdh::v1::Model& model : models.models()) {
    std::cout << model.id() << " from " << model.checkpoint() << ", " << model.parameter_count()
              << " parameters" << std::endl;
  }
}
