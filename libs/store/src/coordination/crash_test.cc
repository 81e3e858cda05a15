// kill -9 during lease traffic: a child process registers, awaits generations, writes with fences and adds to
// a number, saying after each what it was told; it is killed at random moments. After each kill no generation
// that it was told of is missing or given again, no sum goes back, and a fence of an older one is refused.
//
// The child is this program, started again with --child.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>

#include "coordination_fixture.h"

namespace bdh::store {
namespace {

constexpr GroupSpec kSpec{.min_workers = 2, .max_workers = 2, .lease = absl::Seconds(600)};

void Say(const std::string& line) {
  if (write(STDOUT_FILENO, (line + "\n").c_str(), line.size() + 1) < 0) _exit(3);
}

// One worker that comes again and again.
void Work(Coordination& all, const std::string& name) {
  while (true) {
    const auto joined = all.Register("runs/a", kSpec, {.name = name});
    if (!joined.ok()) _exit(4);
    const auto place = all.AwaitGeneration("runs/a", joined->lease, 0, GoOn);
    if (absl::IsNotFound(place.status())) continue;
    if (!place.ok()) _exit(5);
    const int64_t number = place->generation.number;
    Say(absl::StrFormat("generation %d", number));
    const auto sum = all.Add("n", "sum", 1, "", Fence{"runs/a", number});
    if (sum.ok()) Say(absl::StrFormat("sum %d", *sum));
    if (!sum.ok() && !absl::IsAborted(sum.status())) _exit(6);
  }
}

int RunChild(const std::string& folder) {
  auto all = Coordination::Open({.folder = folder});
  if (!all.ok()) {
    Say("cannot open: " + std::string(all.status().message()));
    return 1;
  }
  Say("open");
  std::thread other([&] { Work(**all, "b"); });
  Work(**all, "a");
  return 0;
}

// What a child said until it was killed `lines` lines after it began.
std::vector<std::string> RunAndKill(const std::string& folder, int lines) {
  int out[2];
  if (pipe(out) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], STDOUT_FILENO);
    close(out[0]);
    execl("/proc/self/exe", "coordination_crash_test", "--child", folder.c_str(), nullptr);
    _exit(2);
  }
  close(out[1]);
  FILE* const stream = fdopen(out[0], "r");
  std::vector<std::string> said;
  char line[512];
  while (fgets(line, sizeof(line), stream) != nullptr) {
    said.emplace_back(line, strcspn(line, "\n"));
    if (--lines == 0) kill(child, SIGKILL);
  }
  fclose(stream);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << (said.empty() ? "" : said.back());
  return said;
}

TEST_F(CoordinationTest, NoGenerationIsLostOrGivenTwiceWhateverIsKilled) {
  const char* wanted = std::getenv("BDH_CRASH_KILLS");
  const int kills = wanted == nullptr ? 12 : std::atoi(wanted);
  std::mt19937 random(7);
  int64_t generation = 0, sum = 0;
  for (int i = 0; i < kills; ++i) {
    all_.reset();
    int64_t newest = generation;
    for (const std::string& line : RunAndKill(Options().folder, 2 + static_cast<int>(random() % 60))) {
      std::istringstream words(line);
      std::string what;
      int64_t number = 0;
      words >> what >> number;
      if (what == "generation") {
        // The group was formed when the process before was killed; it goes on with that or a later one.
        EXPECT_GE(number, generation) << line;
        newest = std::max(newest, number);
      } else if (what == "sum") {
        EXPECT_GT(number, sum - 2) << "two workers, so two lines may change places";
        sum = std::max(sum, number);
      } else {
        EXPECT_EQ(what, "open") << line;
      }
    }
    generation = newest;
    Reopen({.folder = Options().folder});
    const Group group = Look();
    EXPECT_GE(group.generation.number, generation);
    if (group.generation.number > 1) {
      const Fence stale{"runs/a", group.generation.number - 1};
      EXPECT_EQ(all_->Set("n", "k", "stale", stale).code(), absl::StatusCode::kAborted);
    }
    generation = group.generation.number;
    const auto stored = all_->Get("n", "sum");
    if (sum > 0) {
      ASSERT_TRUE(stored.ok()) << stored.status();
      EXPECT_GE(std::atoll(stored->c_str()), sum);
      sum = std::atoll(stored->c_str());
    }
  }
  EXPECT_GT(generation, 0);
}

}  // namespace
}  // namespace bdh::store

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--child") return bdh::store::RunChild(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
