#include "scrubber.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"

namespace bdh::store {
namespace {

constexpr size_t kStepChunks = 16;
constexpr int64_t kWriteDownBytes = 256 << 20;
constexpr absl::Duration kLookAgain = absl::Minutes(1);

}  // namespace

Scrubber::Scrubber(const Store::Options& options, const Database& database, const Chunks& chunks,
                   Ledger& ledger, Integrity& integrity)
    : options_(options), database_(database), chunks_(chunks), ledger_(ledger), integrity_(integrity) {
  if (options_.scrub_bytes_per_second > 0) thread_ = std::thread([this] { Run(); });
}

Scrubber::~Scrubber() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.NotifyAll();
  if (!thread_.joinable()) return;
  thread_.join();
  if (const absl::Status status = WriteDown(); !status.ok()) {
    BDH_LOG(WARNING) << "how far the scrub came is not written down: " << status.message();
  }
}

Scrubber::State Scrubber::state() const {
  const MutexLock lock(mutex_);
  State state;
  state.running = scrub_.round_begin_time_us() > scrub_.last_round_end_time_us();
  // Digests are spread evenly: the first byte says how many lie before.
  if (state.running && !scrub_.position().empty()) {
    state.part_done = static_cast<unsigned char>(scrub_.position()[0]) / 256.0;
  }
  state.rounds = scrub_.rounds();
  state.bytes = bytes_;
  if (scrub_.rounds() > 0) state.last_round_end = absl::FromUnixMicros(scrub_.last_round_end_time_us());
  return state;
}

absl::Status Scrubber::Load() {
  BDH_ASSIGN_OR_RETURN(const auto bytes, GetRecord(database_, own::kScrub, ""));
  v1::StoredScrub scrub;
  if (bytes.has_value()) {
    BDH_RETURN_IF_ERROR(ParseRecordInto(*bytes, "the scrub", scrub));
  }
  const MutexLock lock(mutex_);
  scrub_ = std::move(scrub);
  return absl::OkStatus();
}

absl::Status Scrubber::WriteDown() {
  unwritten_bytes_ = 0;
  std::string bytes;
  {
    const MutexLock lock(mutex_);
    bytes = scrub_.SerializeAsString();
  }
  const auto put = [&](Draft& draft) {
    draft.Put(own::kScrub, "", bytes);
    return absl::OkStatus();
  };
  return ledger_.Apply(put).status();
}

bool Scrubber::Sleep(absl::Duration duration) {
  const absl::Time until = absl::Now() + duration;
  const MutexLock lock(mutex_);
  while (!stop_ && absl::Now() < until)
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(until - absl::Now()));
  return !stop_;
}

void Scrubber::Run() {
  if (const absl::Status status = Load(); !status.ok())
    BDH_LOG(WARNING) << status.message() << "; it begins anew";
  while (true) {
    bool due = false;
    {
      const absl::Time now = options_.clock();
      const MutexLock lock(mutex_);
      const bool running = scrub_.round_begin_time_us() > scrub_.last_round_end_time_us();
      due = running || now >= absl::FromUnixMicros(scrub_.last_round_end_time_us()) + options_.scrub_interval;
      if (due && !running) {
        scrub_.set_round_begin_time_us(
            std::max(absl::ToUnixMicros(now), scrub_.last_round_end_time_us() + 1));
        scrub_.clear_position();
      }
    }
    const absl::Status status = due ? Step() : absl::OkStatus();
    if (!status.ok()) BDH_LOG(WARNING) << "scrub: " << status.message();
    if ((!due || !status.ok()) && !Sleep(std::min(kLookAgain, options_.scrub_interval))) return;
    if (!Sleep(absl::ZeroDuration())) return;
  }
}

absl::Status Scrubber::Step() {
  std::string position;
  {
    const MutexLock lock(mutex_);
    position = scrub_.position();
  }
  std::vector<std::pair<Digest, int64_t>> chunks;
  BDH_RETURN_IF_ERROR(
      chunks_.WalkIndex(nullptr, position, [&](const Digest& digest, const v1::StoredChunk& where) {
        chunks.emplace_back(digest, where.size_bytes());
        return chunks.size() < kStepChunks;
      }));
  for (const auto& [digest, size] : chunks) {
    const absl::Status status = integrity_.Check(digest, size, sha_, buffer_);
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    unwritten_bytes_ += size;
    {
      const MutexLock lock(mutex_);
      scrub_.set_position(std::string(digest.view()));
      bytes_ += size;
    }
    const double seconds = static_cast<double>(size) / static_cast<double>(options_.scrub_bytes_per_second);
    if (!Sleep(absl::Seconds(seconds))) return absl::OkStatus();
  }
  if (!chunks.empty()) return unwritten_bytes_ < kWriteDownBytes ? absl::OkStatus() : WriteDown();
  {
    const absl::Time now = options_.clock();
    const MutexLock lock(mutex_);
    scrub_.clear_position();
    scrub_.set_last_round_end_time_us(std::max(absl::ToUnixMicros(now), scrub_.round_begin_time_us()));
    scrub_.set_rounds(scrub_.rounds() + 1);
  }
  BDH_LOG(INFO) << "scrub round done damaged_chunks=" << ledger_.Damaged().size();
  return WriteDown();
}

}  // namespace bdh::store
