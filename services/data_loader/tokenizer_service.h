#pragma once

#include <atomic>

#include "bdh/corpus/dataset_store.h"
#include "bdh/mesh/gate.h"
#include "bdh/tokenizer/library.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/data_loader/sources.h"

namespace bdh::data_loader {

// Tokenizers trained, imported and handed out. Thread-safe.
class Tokenizers final : public v1::TokenizerService::Service {
 public:
  // All outlive this object.
  Tokenizers(tokenizer::Library& library, const corpus::DatasetStore& store, const mesh::Gate& gate,
             SourceLimits limits)
      : library_(library), store_(store), gate_(gate), limits_(std::move(limits)) {}

 private:
  using TrainStream = grpc::ServerReaderWriter<v1::TrainTokenizerResponse, v1::TrainTokenizerRequest>;

  grpc::Status TrainTokenizer(grpc::ServerContext* context, TrainStream* stream) override;
  grpc::Status ImportTokenizer(grpc::ServerContext* context, const v1::ImportTokenizerRequest* request,
                               v1::ImportTokenizerResponse* response) override;
  grpc::Status ExportTokenizer(grpc::ServerContext* context, const v1::ExportTokenizerRequest* request,
                               v1::ExportTokenizerResponse* response) override;
  grpc::Status ListTokenizers(grpc::ServerContext* context, const v1::ListTokenizersRequest* request,
                              v1::ListTokenizersResponse* response) override;
  grpc::Status DescribeTokenizer(grpc::ServerContext* context, const v1::DescribeTokenizerRequest* request,
                                 v1::DescribeTokenizerResponse* response) override;
  grpc::Status DeleteTokenizer(grpc::ServerContext* context, const v1::DeleteTokenizerRequest* request,
                               v1::DeleteTokenizerResponse* response) override;

  absl::Status Train(const grpc::ServerContext& context, TrainStream& stream);
  // Data sets that were made with it.
  std::vector<std::string> DatasetsOf(const std::string& name) const;

  tokenizer::Library& library_;
  const corpus::DatasetStore& store_;
  const mesh::Gate& gate_;
  const SourceLimits limits_;
  std::atomic<bool> training_ = false;
};

}  // namespace bdh::data_loader
