// bdhctl bench: measurements beside the reference in LibTorch, which only bdh-lab links.
#include "services/bdhctl/command.h"
#include "services/bdhctl/lab.h"

namespace bdh::bdhctl {

void AddBenchCommand(CLI::App& app, Invocation& invocation) {
  CLI::App* bench = app.add_subcommand(
      "bench",
      "Measure decoding beside the reference's way in LibTorch, the data-loader, and the checkpoint store");
  AddBenchData(*bench, invocation);
  // What follows is bdh-lab's to read, flags included.
  bench->prefix_command();
  bench->footer(
      "bdhctl bench decode|prefill|fork|threads [FLAGS]; `bdhctl bench decode --help` lists the flags.\n"
      "bdhctl bench data measures how text becomes batches.\n"
      "bdhctl bench store [--folder F] [--bytes N] [--rounds N] [--json] measures the store beside the "
      "disk.\n\n"
      "Examples:\n"
      "  bdhctl bench decode --json\n"
      "  bdhctl bench decode --dtype bf16 --contexts 64,512\n"
      "  bdhctl bench decode --batch 8 --contexts 512\n"
      "  bdhctl bench prefill\n"
      "  bdhctl bench fork\n"
      "  bdhctl bench store --json --folder /data/bench");
  bench->callback([&invocation, bench] {
    if (!bench->get_subcommands().empty()) return;  // Of ours.
    std::vector<std::string> arguments = bench->remaining();
    const bool store = !arguments.empty() && arguments.front() == "store";
    if (store) {
      arguments.front() = "bench";
    } else {
      arguments.insert(arguments.begin(), "bench");
    }
    invocation.action = [arguments, store]() -> absl::StatusOr<int> {
      return store ? BecomeProgram("bdh-checkpoint-store", arguments) : BecomeLab(arguments);
    };
  });
}

}  // namespace bdh::bdhctl
