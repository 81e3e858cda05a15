// bdh-lab: what needs LibTorch and is no daemon. `bdhctl model verify` is a call of this.

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/version.h"
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

int Main(int argc, char** argv) {
  InitLogging("bdh-lab");
  CLI::App app{"Checks of BDH models that need LibTorch."};
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
  try {
    app.parse(argc, argv);
    return Verify(flags);
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
