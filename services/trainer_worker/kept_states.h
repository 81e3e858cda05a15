// States of runs that the checkpoint store did not take, on the worker's own disk until it does.
//
//   DIR/kept/RUN.safetensors   a checkpoint's tensors; what else it says is in the file's metadata
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/training/exchange.h"
#include "bdh/v1/checkpoint_store.pb.h"

namespace bdh::trainer_worker {

// One of them, open.
struct KeptState {
  v1::Checkpoint checkpoint;
  bool best = false;  // As training::CheckpointFacts has it.
  tensorfile::SafetensorsFile file;

  // In the order in which `checkpoint` lists them; they point into the file.
  absl::StatusOr<std::vector<training::Tensor>> Tensors() const;
};

// Thread-safe, as long as no two threads are about the same run.
class KeptStates {
 public:
  explicit KeptStates(const std::string& data_dir) : folder_(data_dir + "/kept") {}

  // Whole and durable when it returns OK, in the place of what was kept of this run before. Returns the path.
  absl::StatusOr<std::string> Keep(const std::string& run, const v1::Checkpoint& checkpoint, bool best,
                                   std::span<const training::Tensor> tensors) const;

  bool Has(const std::string& run) const;
  // Nothing: none is kept. DataLossError: the file is damaged; the message says what to do.
  absl::StatusOr<std::optional<KeptState>> Find(const std::string& run) const;
  std::vector<std::string> Runs() const;
  void Forget(const std::string& run) const;

 private:
  std::string PathOf(const std::string& run) const;

  const std::string folder_;
};

}  // namespace bdh::trainer_worker
