#include "services/bdhctl/lab.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"
#include "services/bdhctl/process.h"

namespace bdh::bdhctl {

absl::Status BecomeProgram(const std::string& name, const std::vector<std::string>& arguments) {
  const std::string program = ExecutableFolder() + "/" + name;
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return absl::FailedPreconditionError(
      absl::StrFormat("%s; build it with `make build`", ErrnoStatus(errno, "run " + program).message()));
}

absl::Status BecomeLab(const std::vector<std::string>& arguments) {
  return Annotate(BecomeProgram("bdh-lab", arguments), "this needs LibTorch");
}

}  // namespace bdh::bdhctl
