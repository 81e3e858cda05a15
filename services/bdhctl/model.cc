// bdhctl model: checks that need LibTorch, which only bdh-lab links.
#include "services/bdhctl/command.h"
#include "services/bdhctl/lab.h"

namespace bdh::bdhctl {
namespace {

struct VerifyFlags {
  std::string file;
  bool json = false;
};

absl::StatusOr<int> RunVerify(const VerifyFlags& flags) {
  std::vector<std::string> arguments = {"verify", flags.file};
  if (flags.json) arguments.push_back("--json");
  return BecomeLab(arguments);
}

}  // namespace

void AddModelCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("model", "Check models");
  group->require_subcommand(1);
  AddCommand<VerifyFlags>(
      *group, invocation, "verify", "Compare our BDH with numbers of the reference implementation",
      [](CLI::App& command, VerifyFlags& flags) {
        command.add_option("file", flags.file, "A file of tests/golden")->required()->type_name("FILE");
        AddJsonFlag(command, flags.json);
        command.footer(
            "One line a check; exit code 1 if one fails.\n\n"
            "Example:\n  bdhctl model verify tests/golden/tiny.safetensors");
      },
      RunVerify);
}

}  // namespace bdh::bdhctl
