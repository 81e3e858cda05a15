#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/store/store.h"

namespace bdh::store {

// The bytes of chosen tensors in a chosen order, in pieces of the size that is asked for, whatever the size
// of the chunks they stand in.
class TensorStream {
 public:
  static absl::StatusOr<TensorStream> Open(Store& store, std::string_view reference,
                                           const std::vector<Selection::Range>& ranges) {
    TensorStream stream;
    if (!ranges.empty()) {
      BDH_ASSIGN_OR_RETURN(stream.reader_, store.Read(reference, {.ranges = ranges}));
    }
    return stream;
  }

  // The next `size` bytes; valid until the next call.
  absl::StatusOr<std::string_view> Next(size_t size) {
    buffer_.erase(0, used_);
    while (buffer_.size() < size) {
      BDH_ASSIGN_OR_RETURN(const auto piece, reader_->Next());
      if (!piece.has_value()) return absl::DataLossError("a tensor ended early");
      buffer_ += piece->bytes;
    }
    used_ = size;
    return std::string_view(buffer_).substr(0, size);
  }

 private:
  TensorStream() = default;
  std::unique_ptr<Reader> reader_;
  std::string buffer_;
  size_t used_ = 0;
};

}  // namespace bdh::store
