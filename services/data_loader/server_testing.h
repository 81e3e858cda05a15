// What the tests of the data loader speak: a real daemon, a real client, and short words for what they do.
#pragma once

#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/data_loader/server.h"

namespace bdh::data_loader {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Stub = v1::DataLoaderService::Stub;

inline constexpr absl::Duration kTimeout = absl::Seconds(60);

// Text that differs everywhere.
inline std::string Text(size_t size, uint32_t seed = 1) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525u + 1013904223u;
    c = static_cast<char>('a' + (seed >> 24) % 26);
  }
  return text;
}

struct Document {
  std::string name, text;
};

class DataLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override { Restart(); }

  void Restart(const std::function<void(Server::Options&)>& change = [](Server::Options&) {}) {
    stub_.reset();
    server_.reset();
    Server::Options options = {.listen = {.credentials = "secret"}, .data_dir = data_dir()};
    change(options);
    BDH_ASSERT_OK_AND_ASSIGN(server_, Server::Start(options));
    peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", server_->address(), "secret");
    stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  }

  std::string data_dir() const { return folder_.path() + "/data"; }

  size_t Staged() const {
    const fs::directory_iterator entries(data_dir() + "/staging");
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }

  // Sends `requests` and collects what is answered.
  absl::StatusOr<v1::Dataset> Create(const std::vector<v1::CreateDatasetRequest>& requests,
                                     std::vector<v1::CreateDatasetProgress>* progress = nullptr) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->CreateDataset(context.get());
    for (const auto& request : requests) {
      if (!stream->Write(request)) break;  // Refused early; Finish says why.
    }
    stream->WritesDone();
    v1::CreateDatasetResponse response;
    v1::Dataset dataset;
    while (stream->Read(&response)) {
      if (response.has_dataset()) dataset = response.dataset();
      if (response.has_progress() && progress != nullptr) progress->push_back(response.progress());
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return dataset;
  }

  static v1::CreateDatasetRequest Spec(const std::string& name, const std::vector<std::string>& paths = {}) {
    v1::CreateDatasetRequest request;
    request.mutable_spec()->set_name(name);
    for (const std::string& path : paths) request.mutable_spec()->add_paths(path);
    return request;
  }

  static v1::CreateDatasetRequest Chunk(const std::string& document, const std::string& data) {
    v1::CreateDatasetRequest request;
    request.mutable_chunk()->set_document(document);
    request.mutable_chunk()->set_data(data);
    return request;
  }

  absl::StatusOr<v1::Dataset> Upload(const std::string& name, const std::vector<Document>& documents) {
    std::vector<v1::CreateDatasetRequest> requests = {Spec(name)};
    for (const auto& [document, text] : documents) {
      for (size_t at = 0; at < text.size(); at += 100000)
        requests.push_back(Chunk(document, text.substr(at, 100000)));
    }
    return Create(requests);
  }

  std::vector<std::string> Names() {
    const auto listed = peer_->Call(*stub_, &Stub::ListDatasets, v1::ListDatasetsRequest(), kTimeout);
    EXPECT_TRUE(listed.ok()) << listed.status();
    std::vector<std::string> names;
    if (listed.ok()) {
      for (const v1::Dataset& dataset : listed->datasets()) names.push_back(dataset.name());
    }
    return names;
  }

  absl::Status Delete(const std::string& name) {
    v1::DeleteDatasetRequest request;
    request.set_name(name);
    return peer_->Call(*stub_, &Stub::DeleteDataset, request, kTimeout).status();
  }

  static v1::StreamBatchesRequest Batches(const std::string& dataset, int64_t start, int64_t count) {
    v1::StreamBatchesRequest request;
    request.set_dataset(dataset);
    request.set_split(v1::SPLIT_TRAIN);
    request.set_seed(7);
    request.set_batch_size(6);
    request.set_block_size(32);
    request.set_start_step(start);
    request.set_step_count(count);
    return request;
  }

  // The rows of each step, joined.
  absl::StatusOr<std::map<int64_t, std::string>> Collect(const v1::StreamBatchesRequest& request) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->StreamBatches(context.get(), request);
    std::map<int64_t, std::string> steps;
    v1::Batch batch;
    while (stream->Read(&batch)) {
      const size_t row_bytes = static_cast<size_t>(batch.columns() * batch.token_bytes());
      EXPECT_EQ(batch.columns(), request.block_size() + 1);
      EXPECT_EQ(batch.tokens().size(), static_cast<size_t>(batch.rows()) * row_bytes);
      EXPECT_EQ(steps[batch.step()].size(), static_cast<size_t>(batch.first_row()) * row_bytes);
      steps[batch.step()] += batch.tokens();
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return steps;
  }

  std::string KeyFigure() {
    const auto stub = v1::MeshService::NewStub(peer_->channel());
    const auto status =
        peer_->Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), kTimeout);
    return status.ok() ? status->key_figure() : status.status().ToString();
  }

  // The server notices a vanished client soon, but not at once.
  static bool Eventually(const std::function<bool()>& condition) {
    for (const absl::Time end = absl::Now() + kTimeout; absl::Now() < end;
         absl::SleepFor(absl::Milliseconds(5))) {
      if (condition()) return true;
    }
    return false;
  }

  TempDirectory folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

}  // namespace bdh::data_loader
