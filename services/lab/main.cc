// bdh-lab: what needs LibTorch and is no daemon. `bdhctl model verify` and `bdhctl bench` are calls of this.

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <iostream>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/version.h"
#include "services/lab/bench.h"
#include "services/lab/bench_oracle.h"
#include "services/lab/engine_checks.h"
#include "services/lab/golden_file.h"
#include "services/lab/model_checks.h"
#include "services/lab/report.h"

namespace bdh::lab {
namespace {

constexpr int kExitOk = 0, kExitFailed = 1, kExitError = 2;

int Fail(const std::string& message) {
  std::cerr << "bdh-lab: " << message << "\n";
  return kExitError;
}

struct VerifyFlags {
  std::string path, dtype = "f32";
  bool json = false;
};

// In float32 everything the file has numbers for.
absl::StatusOr<Report> VerifyAll(const std::string& path, const GoldenFile& golden) {
  Report report{.file = path, .checks = CheckModel(golden), .unchecked = golden.unchecked};
  BDH_ASSIGN_OR_RETURN(const auto engine_checks, CheckEngine(golden));
  report.checks.insert(report.checks.end(), engine_checks.begin(), engine_checks.end());
  return report;
}

int Verify(const VerifyFlags& flags) {
  const auto golden = ReadGoldenFile(flags.path);
  if (!golden.ok()) return Fail(std::string(golden.status().message()));
  Report report{.file = flags.path, .checks = {}, .unchecked = {}};
  if (flags.dtype == "bf16") {
    report.checks = CheckModelInBf16(*golden);
    if (report.checks.empty()) return Fail(flags.path + ": has no logits and no loss to compare in bf16");
  } else {
    const auto all = VerifyAll(flags.path, *golden);
    if (!all.ok()) return Fail("engine: " + std::string(all.status().message()));
    report = *all;
  }
  std::cout << (flags.json ? ToJson(report) : ToText(report));
  return report.failed() == 0 ? kExitOk : kExitFailed;
}

struct BenchFlags {
  BenchOptions options;
  bool json = false, no_oracle = false;
};

using RunBench = std::function<absl::StatusOr<Rows>(const BenchOptions&, const MakeOracle&)>;

int Run(const BenchFlags& flags, const RunBench& bench) {
  const auto rows = bench(flags.options, flags.no_oracle ? MakeOracle() : MakeOracle(TorchOracle));
  if (!rows.ok()) return Fail(std::string(rows.status().message()));
  std::cout << (flags.json ? nlohmann::json(*rows).dump(2) + "\n" : ToTable(*rows));
  return kExitOk;
}

void AddBenchFlags(CLI::App& command, BenchFlags& flags) {
  BenchOptions& o = flags.options;
  command.add_option("--contexts", o.contexts, "Tokens before the ones measured")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--dtype", o.dtype, "Of the weights: f32 or bf16")->capture_default_str();
  command.add_option("--threads", o.threads, "0: one a core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--tokens", o.tokens, "Decoded in every round")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command.add_option("--rounds", o.rounds, "The best one counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command.add_option("--weights", o.weights,
                     "A safetensors file with a config in its metadata; else random weights");
  command.add_option("--density", o.density, "Of the activations, for random weights")->capture_default_str();
  command.add_option("--n-layer", o.config.n_layer)->capture_default_str();
  command.add_option("--n-embd", o.config.n_embd)->capture_default_str();
  command.add_option("--n-head", o.config.n_head)->capture_default_str();
  command.add_option("--multiplier", o.config.mlp_internal_dim_multiplier)->capture_default_str();
  command.add_option("--oracle-up-to", o.oracle_up_to, "Longest context asked of the oracle")
      ->capture_default_str();
  command.add_flag("--no-oracle", flags.no_oracle, "Measure the engine alone");
  command.add_flag("--json", flags.json, "Print the rows as JSON");
}

CLI::App* AddBench(CLI::App& parent, const std::string& name, const std::string& summary,
                   std::vector<int64_t> contexts, BenchFlags& flags) {
  CLI::App* command = parent.add_subcommand(name, summary);
  flags.options.contexts = std::move(contexts);
  AddBenchFlags(*command, flags);
  return command;
}

int Main(int argc, char** argv) {
  InitLogging("bdh-lab");
  CLI::App app{"Checks and measures what needs LibTorch."};
  app.set_version_flag("--version", Version());
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 all checks passed, 1 a check failed, 2 wrong usage or unreadable file.\n"
      "Example: bdh-lab verify tests/golden/tiny.safetensors");

  VerifyFlags flags;
  CLI::App* verify = app.add_subcommand("verify", "Compares this program's numbers with the reference's");
  verify
      ->add_option("FILE", flags.path,
                   "A golden file: weights and the numbers the reference computed with them")
      ->required();
  verify
      ->add_option("--dtype", flags.dtype,
                   "f32: equal to the reference within rounding; bf16: how far bfloat16 weights are from it")
      ->check(CLI::IsMember({"f32", "bf16"}));
  verify->add_flag("--json", flags.json, "Print the checks as JSON");
  verify->footer(
      "Runs the model of FILE (safetensors) and prints one line a check: its name, the largest absolute\n"
      "difference from the reference, the tolerance, and ok or FAILED. Which checks depends on what FILE "
      "holds:\n"
      "logits, loss, gradients, greedy continuation, AdamW training. What a golden file looks like is "
      "written in\n"
      "services/lab/README.md.\n"
      "Exit status: 0 all checks passed, 1 a check failed, 2 wrong usage or unreadable file.");

  CLI::App* bench = app.add_subcommand("bench", "Measures the engine beside the reference's way in LibTorch");
  bench->require_subcommand(1);
  BenchFlags decode_flags, prefill_flags, fork_flags, thread_flags;
  CLI::App* decode =
      AddBench(*bench, "decode", "One token after another", {64, 512, 2048, 16384}, decode_flags);
  decode->add_option("--batch", decode_flags.options.batch, "Sessions decoded together")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  CLI::App* prefill = AddBench(*bench, "prefill", "A prompt at once", {512, 2048}, prefill_flags);
  CLI::App* fork = AddBench(*bench, "fork", "A second session from one that is there", {4096}, fork_flags);
  AddBench(*bench, "threads", "One session on all threads beside as many sessions on one each", {512},
           thread_flags);
  try {
    app.parse(argc, argv);
    if (verify->parsed()) return Verify(flags);
    if (decode->parsed()) return Run(decode_flags, BenchDecode);
    if (prefill->parsed()) return Run(prefill_flags, BenchPrefill);
    if (fork->parsed()) return Run(fork_flags, [](const auto& o, const auto&) { return BenchFork(o); });
    return Run(thread_flags, [](const auto& o, const auto&) { return BenchThreads(o); });
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitError;
  } catch (const std::exception& error) {  // LibTorch's way to say that memory is out, for one.
    return Fail(error.what());
  }
}

}  // namespace
}  // namespace bdh::lab

int main(int argc, char** argv) {
  return bdh::lab::Main(argc, argv);
}
