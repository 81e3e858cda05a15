#include "services/bdhctl/lab.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"
#include "services/bdhctl/process.h"

namespace bdh::bdhctl {

absl::Status BecomeLab(const std::vector<std::string>& arguments) {
  const std::string lab = ExecutableFolder() + "/bdh-lab";
  std::vector<char*> argv = {const_cast<char*>(lab.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(lab.c_str(), argv.data());
  return absl::FailedPreconditionError(absl::StrFormat("%s; build it with `make build` (it needs LibTorch)",
                                                       ErrnoStatus(errno, "run " + lab).message()));
}

}  // namespace bdh::bdhctl
