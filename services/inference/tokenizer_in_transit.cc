#include "services/inference/tokenizer_in_transit.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::inference {

absl::StatusOr<TokenizerInTransit> TokenizerInTransit::Expect(const v1::Checkpoint& checkpoint) {
  TokenizerInTransit transit;
  transit.name_ = checkpoint.tokenizer().empty() ? "byte" : checkpoint.tokenizer();
  uint64_t total = 0;
  for (const v1::TensorInfo& info : checkpoint.tensors()) {
    if (!IsPart(info.name())) continue;
    const std::string name = info.name().substr(sizeof kTokenizerPrefix - 1);
    if (info.dtype() != v1::DTYPE_U8 || !tokenizer::IsTokenizerFile(name)) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is no file of a tokenizer", info.name()));
    }
    total += static_cast<uint64_t>(info.size_bytes());
    if (info.size_bytes() < 0 || total > tokenizer::kMaxTokenizerBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the tokenizer's files have more than %d bytes", tokenizer::kMaxTokenizerBytes));
    }
    transit.files_.push_back({name, ""});
    transit.sizes_.push_back(static_cast<size_t>(info.size_bytes()));
  }
  return transit;
}

absl::Status TokenizerInTransit::Add(const v1::TensorChunk& chunk) {
  for (size_t i = 0; i < files_.size(); ++i) {
    std::string& bytes = files_[i].bytes;
    if (kTokenizerPrefix + files_[i].name != chunk.tensor()) continue;
    const bool fits = chunk.offset_bytes() == static_cast<int64_t>(bytes.size()) &&
                      chunk.data().size() <= sizes_[i] - bytes.size();
    if (!fits)
      return absl::DataLossError(absl::StrFormat("tensor %s came with a gap or too long", chunk.tensor()));
    bytes += chunk.data();
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrFormat("tensor %s came, but the checkpoint does not list it", chunk.tensor()));
}

absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> TokenizerInTransit::Build() {
  for (size_t i = 0; i < files_.size(); ++i) {
    if (files_[i].bytes.size() == sizes_[i]) continue;
    return absl::DataLossError(
        absl::StrFormat("tensor %s%s came only in part", kTokenizerPrefix, files_[i].name));
  }
  if (!files_.empty()) {
    auto loaded = tokenizer::LoadTokenizer(name_, std::move(files_));
    BDH_RETURN_IF_ERROR(Annotate(loaded.status(), absl::StrFormat("the checkpoint's tokenizer '%s'", name_)));
    return loaded;
  }
  auto found = tokenizer::Find(name_);
  if (found.ok()) return found;
  return absl::InvalidArgumentError(
      absl::StrFormat("the checkpoint was trained with tokenizer '%s' and does not carry it: %s", name_,
                      std::string(found.status().message())));
}

}  // namespace bdh::inference
