// bdhctl model: models as files, and checks that need LibTorch, which only bdh-lab links.
#include "services/bdhctl/command.h"
#include "services/bdhctl/lab.h"
#include "services/bdhctl/model_commands.h"

namespace bdh::bdhctl {
namespace {

struct VerifyFlags {
  std::string file, dtype = "f32";
  bool json = false;
};

absl::StatusOr<int> RunVerify(const VerifyFlags& flags) {
  std::vector<std::string> arguments = {"verify", flags.file, "--dtype", flags.dtype};
  if (flags.json) arguments.push_back("--json");
  return BecomeLab(arguments);
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
