// bdhctl model: models as files, and checks that need LibTorch, which only bdh-lab links.
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/model_commands.h"
#include "services/bdhctl/process.h"

namespace bdh::bdhctl {
namespace {

struct VerifyFlags {
  std::string file, dtype = "f32";
  bool json = false;
};

// Becomes bdh-lab, so its exit code is ours.
absl::StatusOr<int> RunVerify(const VerifyFlags& flags) {
  const std::string lab = ExecutableFolder() + "/bdh-lab";
  const char* arguments[] = {lab.c_str(),
                             "verify",
                             flags.file.c_str(),
                             "--dtype",
                             flags.dtype.c_str(),
                             flags.json ? "--json" : nullptr,
                             nullptr};
  execv(lab.c_str(), const_cast<char* const*>(arguments));
  return absl::FailedPreconditionError(absl::StrFormat("%s; build it with `make build` (it needs LibTorch)",
                                                       ErrnoStatus(errno, "run " + lab).message()));
}

}  // namespace

void AddModelCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("model", "Models as files: import, export, show, verify");
  group->require_subcommand(1);
  AddModelTransferCommands(*group, invocation);
  AddModelShowCommand(*group, invocation);
  AddCommand<VerifyFlags>(
      *group, invocation, "verify", "Compare our BDH with numbers of the reference implementation",
      [](CLI::App& command, VerifyFlags& flags) {
        command.add_option("file", flags.file, "A file of tests/golden")->required()->type_name("FILE");
        command.add_option("--dtype", flags.dtype, "f32: equal to the reference; bf16: how far from it")
            ->check(CLI::IsMember({"f32", "bf16"}));
        AddJsonFlag(command, flags.json);
        command.footer(
            "One line a check; exit code 1 if one fails. Runs bdh-lab, which needs LibTorch.\n\n"
            "Examples:\n"
            "  bdhctl model verify tests/golden/tiny.safetensors\n"
            "  bdhctl model verify tests/golden/small.safetensors --dtype bf16");
      },
      RunVerify);
}

}  // namespace bdh::bdhctl
