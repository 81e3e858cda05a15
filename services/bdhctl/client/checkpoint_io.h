// Weights to and from the checkpoint store, a tensor at a time.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/v1/checkpoint_store.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/checkpoint_store/put_client.h"

namespace bdh::bdhctl {

// Puts a checkpoint, sending what the store lacks. `bytes_of` gives the bytes of header.tensors(i), asked for
// in order; its error ends the put, and then nothing is visible.
absl::StatusOr<checkpoint_store::PutClient::Result> PutCheckpoint(
    const Mesh& mesh, const v1::Checkpoint& header,
    const std::function<absl::StatusOr<std::string>(int)>& bytes_of);

// Gets the weights of a checkpoint or tag and its tokenizer's files, without what belongs to its optimiser
// and trainer. `take` gets each tensor when it is whole.
absl::StatusOr<v1::Checkpoint> GetWeights(
    const Mesh& mesh, const std::string& reference,
    const std::function<absl::Status(const v1::TensorInfo&, std::string)>& take);

// The file of a tokenizer that a tensor of a checkpoint holds, or nothing; and the tensor of a file.
std::string TokenizerFileOf(const v1::TensorInfo& tensor);
std::string TokenizerTensor(const std::string& file);

// Whether a tensor of a checkpoint is a weight.
bool IsWeight(const v1::TensorInfo& tensor);

}  // namespace bdh::bdhctl
