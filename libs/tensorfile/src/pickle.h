// The part of Python's pickle format that checkpoints of tensors use.
#pragma once

#include <deque>
#include <string_view>

#include "absl/status/statusor.h"
#include "bdh/tensorfile/torch_file.h"

namespace bdh::tensorfile {

// Reads a pickle of protocol 2 to 5 into `values`, which then own all that is in it, and returns what it
// stands for. Nothing is executed: an opcode that makes objects, and a global other than tensors, storages
// and OrderedDict, is an InvalidArgumentError that names it.
absl::StatusOr<const TorchValue*> ReadPickle(std::string_view pickle, std::deque<TorchValue>& values);

}  // namespace bdh::tensorfile
