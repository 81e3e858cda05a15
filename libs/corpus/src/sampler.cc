#include "bdh/corpus/sampler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "document_order.h"
#include "order.h"

namespace bdh::corpus {
namespace {

constexpr int64_t kWindowBlocks = 1024;
constexpr uint64_t kBigEpoch = uint64_t{1}
                               << 40;  // Epochs get keys of their own, and stay apart from windows.

absl::Status TooShort(const DatasetInfo& info, Split split, int64_t tokens, int64_t block_size) {
  return absl::InvalidArgumentError(
      absl::StrFormat("the %s split of data set '%s' has %d tokens, and a row of block_size %d needs %d; %s",
                      SplitName(split), info.name, tokens, block_size, block_size + 1,
                      tokens > 2 ? absl::StrFormat("set block_size to %d or less, or add text", tokens - 1)
                                 : std::string("add text, or a larger validation_fraction")));
}

absl::Status CheckOrder(const Dataset& dataset, Order order) {
  if ((order == Order::kWindow) != dataset.info().streaming) {
    return absl::InvalidArgumentError(
        absl::StrFormat("data set '%s' is %sstreaming, and the order '%s' is for data sets that are%s; leave "
                        "the order to the "
                        "data set",
                        dataset.info().name, dataset.info().streaming ? "" : "not ", OrderName(order),
                        dataset.info().streaming ? " not" : ""));
  }
  if (order == Order::kScore && !dataset.info().scored) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the documents of data set '%s' have no score to order by; add it again with a score "
                        "column, or order by length",
                        dataset.info().name));
  }
  return absl::OkStatus();
}

}  // namespace

RowRange SliceOf(int64_t batch_size, int64_t rank, int64_t world_size) {
  return {rank * batch_size / world_size, (rank + 1) * batch_size / world_size};
}

absl::StatusOr<Sampler> Sampler::Create(std::shared_ptr<const Dataset> dataset, const Options& options) {
  if (options.batch_size < 1 || options.block_size < 1) {
    return absl::InvalidArgumentError(absl::StrFormat("batch_size %d and block_size %d; want at least 1",
                                                      options.batch_size, options.block_size));
  }
  const Order order = options.order.value_or(dataset->info().order);
  Sampler sampler(dataset, options, order);
  std::vector<double> weights;
  if (dataset->parts().empty()) {
    weights = {1};
    BDH_RETURN_IF_ERROR(sampler.AddPart(dataset));
  }
  for (const Dataset::Part& part : dataset->parts()) {
    weights.push_back(part.weight);
    BDH_RETURN_IF_ERROR(sampler.AddPart(part.dataset));
  }
  if (order == Order::kLanes) BDH_RETURN_IF_ERROR(sampler.LayOutLanes(weights));
  sampler.schedule_ = std::make_shared<const Schedule>(weights);
  return sampler;
}

Sampler::Sampler(std::shared_ptr<const Dataset> dataset, const Options& options, Order order)
    : dataset_(std::move(dataset)), options_(options), order_(order) {}

absl::Status Sampler::AddPart(std::shared_ptr<const Dataset> dataset) {
  BDH_RETURN_IF_ERROR(CheckOrder(*dataset, order_));
  const int64_t tokens = dataset->tokens(options_.split);
  // One that is still being tokenized may yet get what it lacks.
  if (dataset->complete() && tokens < options_.block_size + 1) {
    return TooShort(dataset->info(), options_.split, tokens, options_.block_size);
  }
  Part part;
  part.key = Mix(Mix(Mix(HashPrefix(dataset_->info().hash)) + options_.seed) +
                 static_cast<uint64_t>(options_.split));
  // The parts of a mixture draw independently.
  if (!dataset_->parts().empty()) part.key = RandomAt(part.key, HashPrefix(dataset->info().hash));
  if (order_ == Order::kLength || order_ == Order::kScore) {
    BDH_ASSIGN_OR_RETURN(part.documents, dataset->DocumentsInOrder(options_.split, order_));
  }
  part.dataset = std::move(dataset);
  parts_.push_back(std::move(part));
  return absl::OkStatus();
}

absl::Status Sampler::LayOutLanes(const std::vector<double>& weights) {
  const Schedule rows(weights);
  for (int64_t row = 0; row < options_.batch_size; ++row) {
    const size_t part = rows.At(static_cast<uint64_t>(row)).part;
    lanes_.push_back({part, parts_[part].lanes++});
  }
  for (const Part& part : parts_) {
    const int64_t tokens = part.dataset->tokens(options_.split);
    if (part.lanes == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "batch_size %d gives part '%s' of data set '%s' no lane; take larger batches or a larger weight",
          options_.batch_size, part.dataset->info().name, dataset_->info().name));
    }
    if ((tokens - 1) / part.lanes < options_.block_size) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the %s split of data set '%s' has %d tokens, too few for %d lanes of at least one block of %d; "
          "take "
          "smaller batches or shorter blocks, or add text",
          SplitName(options_.split), part.dataset->info().name, tokens, part.lanes, options_.block_size));
    }
  }
  return absl::OkStatus();
}

int64_t Sampler::Blocks(const Dataset& dataset) const {
  return (dataset.tokens(options_.split) - 1) / options_.block_size;
}

Sampler::Place Sampler::PlaceOf(int64_t step, int64_t row) const {
  if (order_ == Order::kLanes) return PlaceInLane(step, row);
  const uint64_t sample =
      static_cast<uint64_t>(step) * static_cast<uint64_t>(options_.batch_size) + static_cast<uint64_t>(row);
  const Schedule::Turn turn = schedule_->At(sample);
  return PlaceInPart(turn.part, turn.index);
}

Sampler::Place Sampler::PlaceInPart(size_t number, uint64_t index) const {
  const Part& part = parts_[number];
  const int64_t block = options_.block_size;
  if (order_ == Order::kRandom) {
    const auto places = static_cast<uint64_t>(part.dataset->tokens(options_.split) - block);
    return {.part = number, .position = static_cast<int64_t>(Scale(RandomAt(part.key, index), places))};
  }
  // While a data set grows, how many blocks it has is not known; what is asked for then is of the first
  // epoch.
  const bool complete = part.dataset->complete();
  const auto blocks = complete ? static_cast<uint64_t>(Blocks(*part.dataset)) : UINT64_MAX;
  const uint64_t epoch = index / blocks, number_of_block = index % blocks;
  const uint64_t key = RandomAt(part.key, epoch);
  Place place = {.part = number, .epoch = static_cast<int64_t>(epoch)};
  if (order_ == Order::kEpoch) {
    // The tokens that fill no block are at the end in one epoch and at the beginning in another.
    const auto spare = static_cast<uint64_t>(part.dataset->tokens(options_.split) - 1) -
                       blocks * static_cast<uint64_t>(block);
    place.position = static_cast<int64_t>(Permutation(blocks, key)(number_of_block)) * block +
                     static_cast<int64_t>(Scale(Mix(key), spare + 1));
  } else if (order_ == Order::kWindow) {
    const uint64_t window = number_of_block / kWindowBlocks, first = window * kWindowBlocks;
    const uint64_t size = std::min<uint64_t>(kWindowBlocks, blocks - first);
    const uint64_t in_window = Permutation(size, RandomAt(key, kBigEpoch + window))(number_of_block - first);
    place.position = static_cast<int64_t>(first + in_window) * block;
  } else {
    place.position = static_cast<int64_t>(number_of_block) * block;
  }
  return place;
}

Sampler::Place Sampler::PlaceInLane(int64_t step, int64_t row) const {
  const Lane lane = lanes_[static_cast<size_t>(row)];
  const Part& part = parts_[lane.part];
  const int64_t length = (part.dataset->tokens(options_.split) - 1) / part.lanes;
  const int64_t blocks = length / options_.block_size;
  const int64_t in_lane = step % blocks;
  return {.part = lane.part,
          .position = lane.lane * length + in_lane * options_.block_size,
          .epoch = step / blocks,
          .reset = in_lane == 0};
}

absl::Status Sampler::Await(int64_t step, RowRange rows, const std::function<bool()>& cancelled) const {
  for (const Part& part : parts_) {
    if (part.dataset->complete()) continue;
    // A window is shuffled as a whole, so all of it must be there.
    const int64_t last_sample = step * options_.batch_size + rows.end - 1;
    const int64_t windows = last_sample / kWindowBlocks + 1;
    BDH_RETURN_IF_ERROR(part.dataset->AwaitTokens(
        options_.split, windows * kWindowBlocks * options_.block_size + 1, cancelled));
    const int64_t tokens = part.dataset->tokens(options_.split);
    if (part.dataset->complete() && tokens < columns()) {
      return TooShort(part.dataset->info(), options_.split, tokens, options_.block_size);
    }
  }
  return absl::OkStatus();
}

void Sampler::Fill(int64_t step, RowRange rows, char* out) const {
  BDH_CHECK(rows.begin >= 0 && rows.end <= options_.batch_size);
  for (int64_t row = rows.begin; row < rows.end; ++row, out += row_bytes()) {
    const Place place = PlaceOf(step, row);
    const Part& part = parts_[place.part];
    if (part.documents != nullptr) {
      part.documents->Copy(*part.dataset, place.position, columns(), out);
    } else {
      part.dataset->Copy(options_.split, place.position, columns(), out);
    }
  }
}

std::string Sampler::DocumentBegins(int64_t step, RowRange rows) const {
  std::string bits(static_cast<size_t>((rows.size() * columns() + 7) / 8), '\0');
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const Place place = PlaceOf(step, row);
    const Part& part = parts_[place.part];
    const int64_t first_bit = (row - rows.begin) * columns();
    const auto mark = [&](int64_t position) {
      const int64_t bit = first_bit + position - place.position;
      bits[static_cast<size_t>(bit / 8)] |= static_cast<char>(1 << (bit % 8));
    };
    if (part.documents != nullptr) {
      part.documents->VisitBegins(place.position, columns(), mark);
    } else {
      part.dataset->VisitDocumentBegins(options_.split, place.position, columns(), mark);
    }
  }
  return bits;
}

std::string Sampler::RowResets(int64_t step, RowRange rows) const {
  std::string resets;
  if (order_ != Order::kLanes) return resets;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    resets.push_back(PlaceOf(step, row).reset ? '\1' : '\0');
  }
  return resets;
}

}  // namespace bdh::corpus
