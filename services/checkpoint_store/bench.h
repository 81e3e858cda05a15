#pragma once

namespace bdh::checkpoint_store {

// `bdh-checkpoint-store bench [--folder F] [--bytes N] [--rounds N] [--checkpoints N] [--json]`, which
// `bdhctl bench store` runs: the store beside what the disk and the processor can do, in one run and one
// folder. Answers the exit code.
int RunBench(int argc, char** argv);

}  // namespace bdh::checkpoint_store
