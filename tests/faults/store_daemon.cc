#include "tests/faults/store_daemon.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

constexpr absl::Duration kStream = absl::Minutes(4);

std::string ReadyFile(const std::string& folder) {
  return folder + "/ready.json";
}

}  // namespace

Command StoreDaemon::StartCommand(const std::string& folder, const std::vector<std::string>& settings) {
  Command command{{Binary("bdh-checkpoint-store"), "--ready-file", ReadyFile(folder)}};
  const auto set = [&](const std::string& setting) {
    command.arguments.push_back("--set");
    command.arguments.push_back("checkpoint_store." + setting);
  };
  set("listen=127.0.0.1:0");
  set("admin_listen=127.0.0.1:0");
  set("data_dir=" + folder + "/store");
  for (const std::string& setting : settings) set(setting);
  return command;
}

StoreDaemon::StoreDaemon(const std::string& folder, const std::vector<std::string>& settings)
    : StoreDaemon(folder, StartCommand(folder, settings)) {}

StoreDaemon::StoreDaemon(const std::string& folder, const Command& command) {
  std::remove(ReadyFile(folder).c_str());
  process_ = std::make_unique<Subprocess>(command);
  AwaitReady(folder);
}

void StoreDaemon::AwaitReady(const std::string& folder) {
  std::string address;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (address.empty() && absl::Now() < deadline && !IsGone(process_->pid())) {
    const auto text = ReadFile(ReadyFile(folder));
    if (text.ok()) {
      const Json ready = Json::parse(*text, nullptr, false);
      if (ready.is_object()) address = ready.value("address", "");
    }
    if (address.empty()) absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_FALSE(address.empty()) << process_->Complained();
  peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", address, "");
  stub_ = v1::CheckpointStoreService::NewStub(peer_->channel());
  admin_ = v1::CheckpointAdminService::NewStub(peer_->channel());
}

void StoreDaemon::Kill() {
  process_->Signal(SIGKILL);
  process_->Wait(absl::Seconds(20));
}

absl::Status StoreDaemon::Put(const v1::Checkpoint& checkpoint,
                              const std::function<bool(v1::TensorChunk&)>& next) const {
  const auto context = peer_->NewContext(kStream);
  v1::PutCheckpointResponse response;
  const auto writer = stub_->PutCheckpoint(context.get(), &response);
  v1::PutCheckpointRequest request;
  *request.mutable_checkpoint() = checkpoint;
  bool good = writer->Write(request);
  while (good && next(*request.mutable_chunk())) good = writer->Write(request);
  writer->WritesDone();
  return peer_->Outcome(writer->Finish());
}

absl::Status StoreDaemon::Put(const std::string& name, const std::string& bytes) const {
  v1::Checkpoint checkpoint;
  checkpoint.set_name(name);
  AddTensor(checkpoint, "t", static_cast<int64_t>(bytes.size()));
  size_t at = 0;
  return Put(checkpoint, [&](v1::TensorChunk& chunk) {
    if (at == bytes.size()) return false;
    chunk.set_tensor("t");
    chunk.set_offset_bytes(static_cast<int64_t>(at));
    chunk.set_data(bytes.substr(at, 1 << 20));
    at += chunk.data().size();
    return true;
  });
}

absl::Status StoreDaemon::Get(const std::string& reference,
                              const std::function<void(const v1::TensorChunk&)>& take) const {
  const auto context = peer_->NewContext(kStream);
  v1::GetCheckpointRequest request;
  request.set_reference(reference);
  const auto reader = stub_->GetCheckpoint(context.get(), request);
  v1::GetCheckpointResponse response;
  while (reader->Read(&response)) {
    if (response.has_chunk()) take(response.chunk());
  }
  return peer_->Outcome(reader->Finish());
}

absl::StatusOr<std::string> StoreDaemon::Get(const std::string& reference) const {
  std::string bytes;
  const absl::Status status = Get(reference, [&](const v1::TensorChunk& chunk) { bytes += chunk.data(); });
  if (!status.ok()) return status;
  return bytes;
}

absl::Status StoreDaemon::Delete(const std::string& name) const {
  v1::DeleteCheckpointRequest request;
  request.set_name(name);
  return Call(&Stub::DeleteCheckpoint, request).status();
}

absl::Status StoreDaemon::SetTag(const std::string& tag, const std::string& reference) const {
  v1::SetTagRequest request;
  request.set_tag(tag);
  request.set_reference(reference);
  return Call(&Stub::SetTag, request).status();
}

absl::Status StoreDaemon::CollectGarbage() const {
  const auto context = peer_->NewContext(kStream);
  const auto reader = admin_->CollectGarbage(context.get(), v1::CollectGarbageRequest());
  v1::CollectGarbageResponse response;
  while (reader->Read(&response)) {
  }
  return peer_->Outcome(reader->Finish());
}

int64_t StoreDaemon::PeakMemoryMib() const {
  std::ifstream status(absl::StrFormat("/proc/%d/status", pid()));
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtoll(line.c_str() + 6, nullptr, 10) / 1024;
  }
  ADD_FAILURE() << "no VmHWM of process " << pid();
  return 0;
}

void AddTensor(v1::Checkpoint& checkpoint, const std::string& name, int64_t size_bytes) {
  v1::TensorInfo& info = *checkpoint.add_tensors();
  info.set_name(name);
  info.set_dtype(v1::DTYPE_U8);
  info.add_shape(size_bytes);
  info.set_size_bytes(size_bytes);
}

}  // namespace bdh::e2e
