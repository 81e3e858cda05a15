// Following a training run until it ends.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bdh/v1/trainer.pb.h"
#include "services/bdhctl/client/context.h"

namespace bdh::bdhctl {

// One line on where a run stands: "step 450/1000  loss 1.82  val 1.90  3.1k tok/s  1m 20s left".
std::string ProgressText(const v1::Progress& progress);

// Shows what happens to the run until it is over, and returns how it ended. With `json` one object a line.
// Survives a trainer-worker that restarts. Errors: NOT_FOUND, no such run; UNAVAILABLE, the worker did not
// come back.
absl::StatusOr<v1::Run> WatchRun(const Mesh& mesh, const std::string& name, bool json);

}  // namespace bdh::bdhctl
