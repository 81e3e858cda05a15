#include "services/checkpoint_store/bench.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/sha256.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/mesh/peer.h"
#include "bdh/store/model_ops.h"
#include "bdh/store/store.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/checkpoint_store/put_client.h"
#include "services/checkpoint_store/remote_store.h"
#include "services/checkpoint_store/server.h"

namespace bdh::checkpoint_store {
namespace {

namespace fs = std::filesystem;
using store::Store;

constexpr int64_t kPiece = 1 << 20;
constexpr int kTensors = 50;

struct Plan {
  std::string folder = "bdh-bench-store";
  int64_t bytes = int64_t{1} << 30;
  int rounds = 3;
  int checkpoints = 10'000;
  bool json = false;
};

struct Figures {
  double write_seconds = 0, put_seconds = 0, read_seconds = 0, get_seconds = 0, list_ms = 0;
  // Through a daemon: the first put, the second with digests that are known, and with bytes alone.
  double daemon_put_seconds = 0, second_put_seconds = 0, rehash_put_seconds = 0;
  int64_t second_put_growth = 0, one_tensor_growth = 0, tensor_bytes = 0;
  std::vector<double> put_ratios, get_ratios, speedups, rehash_speedups;
};

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Random bytes of kTensors tensors. Fresh ones of each round differ in every chunk.
class Data {
 public:
  explicit Data(int64_t bytes)
      : tensor_bytes_(std::max<int64_t>(kPiece, bytes / kTensors / kPiece * kPiece)) {
    std::mt19937_64 random(7);
    bytes_.resize(static_cast<size_t>(tensor_bytes_ * kTensors));
    for (size_t i = 0; i + 8 <= bytes_.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(&bytes_[i], &word, 8);
    }
  }
  void Renew(uint64_t round) {
    for (size_t i = 0; i < bytes_.size(); i += kPiece) std::memcpy(&bytes_[i], &round, 8);
  }
  void RenewTensor(int tensor, uint64_t round) {
    for (int64_t i = 0; i < tensor_bytes_; i += kPiece) {
      std::memcpy(&bytes_[static_cast<size_t>(tensor * tensor_bytes_ + i)], &round, 8);
    }
  }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  int64_t tensor_bytes() const { return tensor_bytes_; }
  std::string_view Piece(int64_t offset) const { return std::string_view(bytes_).substr(offset, kPiece); }
  std::string_view Tensor(int tensor) const {
    return std::string_view(bytes_).substr(static_cast<size_t>(tensor * tensor_bytes_),
                                           static_cast<size_t>(tensor_bytes_));
  }

 private:
  const int64_t tensor_bytes_;
  std::string bytes_;
};

// What `dd bs=1M conv=fsync` does.
absl::StatusOr<double> WriteFile(const std::string& path, const Data& data) {
  const Stopwatch watch;
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return ErrnoStatus(errno, "open " + path);
  bool good = true;
  for (int64_t at = 0; good && at < data.size(); at += kPiece) {
    good = write(file, data.Piece(at).data(), kPiece) == kPiece;
  }
  good = good && fsync(file) == 0;
  const int error = errno;
  close(file);
  if (!good) return ErrnoStatus(error, "write " + path);
  return watch.Seconds();
}

absl::StatusOr<double> ReadAndHashFile(const std::string& path, int64_t size) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return ErrnoStatus(errno, "open " + path);
  std::string buffer(kPiece, '\0');
  Sha256 sha;
  const auto read_all = [&] {
    for (int64_t at = 0; at < size; at += kPiece) {
      if (pread(file, buffer.data(), kPiece, at) != kPiece) return false;
      (void)sha.Of(buffer);
    }
    return true;
  };
  bool good = read_all();  // So that it is in the cache.
  const Stopwatch watch;
  good = good && read_all();
  const double seconds = watch.Seconds();
  close(file);
  if (!good) return absl::DataLossError(path + " cannot be read");
  return seconds;
}

std::string TensorName(int tensor) {
  return absl::StrFormat("tensor%02d", tensor);
}

store::Checkpoint Describe(const std::string& name, const Data& data) {
  store::Checkpoint checkpoint{.name = name};
  for (int i = 0; i < kTensors; ++i) {
    checkpoint.tensors.push_back({.name = TensorName(i),
                                  .dtype = store::DType::kU8,
                                  .shape = {data.tensor_bytes()},
                                  .size_bytes = data.tensor_bytes()});
  }
  return checkpoint;
}

absl::StatusOr<double> Put(Store& store, const std::string& name, const Data& data) {
  const Stopwatch watch;
  BDH_ASSIGN_OR_RETURN(const auto upload, store.Begin(Describe(name, data)));
  for (int i = 0; i < kTensors; ++i) {
    const std::string tensor = TensorName(i);
    for (int64_t at = 0; at < data.tensor_bytes(); at += kPiece) {
      BDH_RETURN_IF_ERROR(upload->AddChunk(tensor, at, data.Piece(i * data.tensor_bytes() + at)));
    }
  }
  BDH_RETURN_IF_ERROR(upload->Commit().status());
  return watch.Seconds();
}

absl::StatusOr<double> Get(Store& store, const std::string& name, const Data& data) {
  const Stopwatch watch;
  BDH_ASSIGN_OR_RETURN(const auto reader, store.Read(name));
  int64_t bytes = 0;
  while (true) {
    BDH_ASSIGN_OR_RETURN(const auto piece, reader->Next());
    if (!piece.has_value()) break;
    bytes += static_cast<int64_t>(piece->bytes.size());
  }
  if (bytes != data.size()) return absl::DataLossError("the checkpoint came back short");
  return watch.Seconds();
}

int64_t FolderBytes(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) bytes += static_cast<int64_t>(entry.file_size(error));
  }
  return bytes;
}

// A daemon of the store and a client of it, as they are in a mesh.
class Daemon {
 public:
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const std::string& folder) {
    Server::Options options;
    options.data_dir = folder;
    BDH_ASSIGN_OR_RETURN(auto server, Server::Start(std::move(options)));
    return std::unique_ptr<Daemon>(new Daemon(std::move(server)));
  }

  // As a trainer does: every byte, to be hashed there.
  absl::StatusOr<double> Put(const std::string& name, const Data& data) {
    const Stopwatch watch;
    const auto context = peer_.NewContext(kLong);
    v1::PutCheckpointResponse response;
    const auto writer = checkpoints_->PutCheckpoint(context.get(), &response);
    v1::PutCheckpointRequest request;
    *request.mutable_checkpoint() = Header(name, data);
    bool good = writer->Write(request);
    for (int i = 0; i < kTensors; ++i) {
      v1::TensorChunk& chunk = *request.mutable_chunk();
      chunk.set_tensor(TensorName(i));
      for (int64_t at = 0; good && at < data.tensor_bytes(); at += kPiece) {
        chunk.set_offset_bytes(at);
        chunk.set_data(std::string(data.Piece(i * data.tensor_bytes() + at)));
        good = writer->Write(request);
      }
    }
    writer->WritesDone();
    BDH_RETURN_IF_ERROR(peer_.Outcome(writer->Finish()));
    return watch.Seconds();
  }

  // As `bdhctl import` does: hashes, asks, sends what is missing.
  absl::StatusOr<double> PutMissing(const std::string& name, const Data& data) {
    const Stopwatch watch;
    PutClient client(peer_, Header(name, data));
    for (int i = 0; i < kTensors; ++i) BDH_RETURN_IF_ERROR(client.Add(std::string(data.Tensor(i))));
    BDH_ASSIGN_OR_RETURN(const PutClient::Result result, client.Commit());
    if (result.sent_bytes > 0) return absl::InternalError("bytes were sent that the store has");
    return watch.Seconds();
  }

  // As a push between stores does, which has the digests from its own manifest.
  absl::StatusOr<double> Push(Store& from, const std::string& name) {
    const Stopwatch watch;
    RemoteStore target(server_->address(), "", [] { return false; });
    BDH_ASSIGN_OR_RETURN(const store::CopyProgress progress, store::Copy(from, {name}, target));
    if (progress.bytes_skipped < progress.bytes_total) {
      return absl::InternalError("bytes were sent that the store has");
    }
    return watch.Seconds();
  }

  absl::Status Delete(const std::string& name) {
    v1::DeleteCheckpointRequest request;
    request.set_name(name);
    return peer_.Call(*checkpoints_, &v1::CheckpointStoreService::Stub::DeleteCheckpoint, request, kLong)
        .status();
  }

 private:
  static constexpr absl::Duration kLong = absl::Minutes(10);

  explicit Daemon(std::unique_ptr<Server> server)
      : server_(std::move(server)),
        peer_("bdh-checkpoint-store", server_->address(), ""),
        checkpoints_(v1::CheckpointStoreService::NewStub(peer_.channel())) {}

  static v1::Checkpoint Header(const std::string& name, const Data& data) {
    v1::Checkpoint header;
    header.set_name(name);
    for (int i = 0; i < kTensors; ++i) {
      v1::TensorInfo& tensor = *header.add_tensors();
      tensor.set_name(TensorName(i));
      tensor.set_dtype(v1::DTYPE_U8);
      tensor.add_shape(data.tensor_bytes());
      tensor.set_size_bytes(data.tensor_bytes());
    }
    return header;
  }

  const std::unique_ptr<Server> server_;
  const mesh::Peer peer_;
  const std::unique_ptr<v1::CheckpointStoreService::Stub> checkpoints_;
};

// The same checkpoint twice through a daemon. `store` has it under the name first, with the same facts.
absl::Status SecondPut(const Plan& plan, Store& store, Daemon& daemon, const Data& data, int round,
                       Figures& figures) {
  const std::string name = store::CheckpointName("first", round),
                    again = store::CheckpointName("again", round);
  BDH_ASSIGN_OR_RETURN(const double first, daemon.Put(name, data));
  const int64_t before = FolderBytes(plan.folder);
  BDH_ASSIGN_OR_RETURN(const double second, daemon.Push(store, name));
  BDH_ASSIGN_OR_RETURN(const double rehashed, daemon.PutMissing(again, data));
  figures.second_put_growth = std::max(figures.second_put_growth, FolderBytes(plan.folder) - before);
  figures.daemon_put_seconds += first;
  figures.second_put_seconds += second;
  figures.rehash_put_seconds += rehashed;
  figures.speedups.push_back(first / second);
  figures.rehash_speedups.push_back(first / rehashed);
  for (const std::string& gone : {name, again}) BDH_RETURN_IF_ERROR(daemon.Delete(gone));
  return absl::OkStatus();
}

absl::Status OneRound(const Plan& plan, Store& store, Daemon& daemon, Data& data, int round,
                      Figures& figures) {
  const std::string file = plan.folder + "/plain";
  const auto name = [&](const char* run) { return store::CheckpointName(run, round); };
  data.Renew(2 * static_cast<uint64_t>(round));
  BDH_ASSIGN_OR_RETURN(const double written, WriteFile(file, data));
  BDH_ASSIGN_OR_RETURN(const double put, Put(store, name("first"), data));
  BDH_RETURN_IF_ERROR(SecondPut(plan, store, daemon, data, round, figures));
  BDH_ASSIGN_OR_RETURN(const double read, ReadAndHashFile(file, data.size()));
  BDH_RETURN_IF_ERROR(Get(store, name("first"), data).status());  // So that it is in the cache.
  BDH_ASSIGN_OR_RETURN(const double got, Get(store, name("first"), data));
  data.RenewTensor(round % kTensors, 2 * static_cast<uint64_t>(round) + 1);
  const int64_t before = FolderBytes(plan.folder + "/store");
  BDH_RETURN_IF_ERROR(Put(store, name("one_tensor"), data).status());
  const int64_t growth = FolderBytes(plan.folder + "/store") - before;
  figures.write_seconds += written;
  figures.put_seconds += put;
  figures.read_seconds += read;
  figures.get_seconds += got;
  figures.put_ratios.push_back(written / put);
  figures.get_ratios.push_back(read / got);
  figures.one_tensor_growth = std::max(figures.one_tensor_growth, growth);
  figures.tensor_bytes = data.tensor_bytes();
  for (const char* run : {"first", "one_tensor"}) BDH_RETURN_IF_ERROR(store.Delete(name(run)).status());
  store.Reclaim();
  fs::remove(file);
  return absl::OkStatus();
}

absl::Status MeasureListing(const Plan& plan, Figures& figures) {
  BDH_ASSIGN_OR_RETURN(const auto store, Store::Open({.folder = plan.folder + "/many"}));
  for (int i = 0; i < plan.checkpoints; ++i) {
    store::Checkpoint checkpoint{.name = store::CheckpointName(absl::StrFormat("run%d", i % 20), i),
                                 .facts = std::string(300, 'f')};
    BDH_ASSIGN_OR_RETURN(const auto upload, store->Begin(std::move(checkpoint)));
    BDH_RETURN_IF_ERROR(upload->Commit().status());
  }
  std::vector<double> times;
  for (int round = 0; round < 5; ++round) {
    const Stopwatch watch;
    int64_t listed = 0;
    std::string token;
    do {
      BDH_ASSIGN_OR_RETURN(const Store::Page page, store->List("", 1000, token));
      listed += static_cast<int64_t>(page.checkpoints.size());
      token = page.next_token;
    } while (!token.empty());
    if (listed != plan.checkpoints) return absl::DataLossError("the list came back short");
    times.push_back(watch.Seconds() * 1000);
  }
  figures.list_ms = Median(times);
  return absl::OkStatus();
}

void Print(const Plan& plan, int64_t bytes, const Figures& figures) {
  const double mib = static_cast<double>(bytes) * plan.rounds / (1 << 20);
  const double space = static_cast<double>(figures.second_put_growth) / static_cast<double>(bytes);
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  if (plan.json) {
    std::printf("%s", absl::StrFormat(
                          R"({
  "bytes": %d,
  "rounds": %d,
  "write_mib_per_second": %.1f,
  "put_mib_per_second": %.1f,
  "put_ratio": %.3f,
  "read_sha256_mib_per_second": %.1f,
  "get_mib_per_second": %.1f,
  "get_ratio": %.3f,
  "daemon_put_mib_per_second": %.1f,
  "second_put_seconds": %.3f,
  "second_put_speedup": %.2f,
  "second_put_rehash_seconds": %.3f,
  "second_put_rehash_speedup": %.2f,
  "second_put_space": %.5f,
  "tensor_bytes": %d,
  "one_tensor_bytes": %d,
  "list_checkpoints": %d,
  "list_ms": %.1f,
  "memory_peak_mib": %.0f
}
)",
                          bytes, plan.rounds, mib / figures.write_seconds, mib / figures.put_seconds,
                          Median(figures.put_ratios), mib / figures.read_seconds, mib / figures.get_seconds,
                          Median(figures.get_ratios), mib / figures.daemon_put_seconds,
                          figures.second_put_seconds / plan.rounds, Median(figures.speedups),
                          figures.rehash_put_seconds / plan.rounds, Median(figures.rehash_speedups), space,
                          figures.tensor_bytes, figures.one_tensor_growth, plan.checkpoints, figures.list_ms,
                          static_cast<double>(usage.ru_maxrss) / 1024)
                          .c_str());
    return;
  }
  std::printf(
      "%s", absl::StrFormat(
                "%s in %d tensors, %d rounds; ratios are medians\n"
                "  plain write and fsync   %7.0f MiB/s\n"
                "  put of fresh data       %7.0f MiB/s   %.2f of it\n"
                "  cached read and SHA-256 %7.0f MiB/s\n"
                "  get                     %7.0f MiB/s   %.2f of it\n"
                "  put through a daemon    %7.0f MiB/s\n"
                "    again, digests known  %7.1f times as fast\n"
                "    again, hashed anew    %7.1f times as fast; both: %.3f %% more space\n"
                "  one tensor of %d changed: %s more (it has %s)\n"
                "  listing %d checkpoints: %.0f ms\n",
                FormatBytes(static_cast<uint64_t>(bytes)), kTensors, plan.rounds, mib / figures.write_seconds,
                mib / figures.put_seconds, Median(figures.put_ratios), mib / figures.read_seconds,
                mib / figures.get_seconds, Median(figures.get_ratios), mib / figures.daemon_put_seconds,
                Median(figures.speedups), Median(figures.rehash_speedups), 100 * space, kTensors,
                FormatBytes(static_cast<uint64_t>(figures.one_tensor_growth)),
                FormatBytes(static_cast<uint64_t>(figures.tensor_bytes)), plan.checkpoints, figures.list_ms)
                .c_str());
}

absl::Status Run(const Plan& plan) {
  std::error_code error;
  if (fs::exists(plan.folder, error)) {
    return absl::AlreadyExistsError(
        absl::StrFormat("%s is there already; name a folder that is not, with --folder", plan.folder));
  }
  fs::create_directories(plan.folder, error);
  if (error) return ErrnoStatus(error.value(), "make " + plan.folder);
  Figures figures;
  Data data(plan.bytes);
  absl::Status status;
  {
    auto store = Store::Open({.folder = plan.folder + "/store"});
    auto daemon = Daemon::Start(plan.folder + "/daemon");
    status = store.ok() ? daemon.status() : store.status();
    for (int round = 1; status.ok() && round <= plan.rounds; ++round) {
      status = OneRound(plan, **store, **daemon, data, round, figures);
    }
  }
  if (status.ok()) status = MeasureListing(plan, figures);
  fs::remove_all(plan.folder, error);
  BDH_RETURN_IF_ERROR(status);
  Print(plan, data.size(), figures);
  return absl::OkStatus();
}

absl::StatusOr<Plan> ParsePlan(int argc, char** argv) {
  Plan plan;
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json") {
      plan.json = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    bool good = !value.empty();
    if (flag == "--folder") {
      plan.folder = value;
    } else if (flag == "--bytes") {
      good = absl::SimpleAtoi(value, &plan.bytes) && plan.bytes >= kTensors * kPiece;
    } else if (flag == "--rounds") {
      good = absl::SimpleAtoi(value, &plan.rounds) && plan.rounds > 0;
    } else if (flag == "--checkpoints") {
      good = absl::SimpleAtoi(value, &plan.checkpoints) && plan.checkpoints > 0;
    } else {
      good = false;
    }
    if (good) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s %s is not understood; flags: --folder FOLDER (made and removed), --bytes N (at "
                        "least %d), --rounds N, "
                        "--checkpoints N, --json",
                        flag, value, kTensors * kPiece));
  }
  return plan;
}

}  // namespace

int RunBench(int argc, char** argv) {
  const auto plan = ParsePlan(argc, argv);
  const absl::Status status = plan.ok() ? Run(*plan) : plan.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "bench store: %s\n", std::string(status.message()).c_str());
  return plan.ok() ? 1 : 2;
}

}  // namespace bdh::checkpoint_store
