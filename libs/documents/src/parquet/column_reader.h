// One column of a row group, value after value. A page is held at a time, and the dictionary.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parquet/decoders.h"
#include "parquet/metadata.h"

namespace bdh::documents::parquet {

// Numbers as doubles, for scores.
class NumberDecoder {
 public:
  virtual ~NumberDecoder() = default;
  virtual bool Next(double& out) = 0;
};

class ColumnReader {
 public:
  struct Options {
    int descriptor = -1;
    int64_t data_end = 0;        // Where the footer begins.
    int64_t max_page_bytes = 0;  // A larger one is refused.
    size_t max_value_bytes = 0;  // Of strings that are put together.
  };

  // `column` and `chunk` outlive it. Errors do not name the file.
  ColumnReader(const Options& options, const Column& column, const Chunk& chunk);
  ~ColumnReader();

  // The next value; nothing for null. Strings are valid until the next call.
  absl::StatusOr<std::optional<std::string_view>> NextString();
  absl::StatusOr<std::optional<double>> NextNumber();

  // Bytes of the file that were read.
  int64_t bytes_read() const { return bytes_read_; }

 private:
  // Whether the next value is there; reads pages as needed.
  absl::StatusOr<bool> NextIsThere();
  absl::Status NextPage();
  absl::StatusOr<PageHeader> ReadHeader();
  absl::Status CheckCrc(const PageHeader& header) const;
  absl::Status OpenDictionary(const PageHeader& header);
  absl::Status OpenData(const PageHeader& header);
  absl::Status OpenDataV2(const PageHeader& header);
  absl::Status OpenValues(int encoding, std::string_view bytes);
  absl::Status OpenNumbers(int encoding, std::string_view bytes);
  absl::StatusOr<std::string> ReadAt(int64_t offset, int64_t size);
  absl::Status Damaged(std::string_view what) const;

  const Options options_;
  const Column& column_;
  const Chunk& chunk_;
  int64_t at_ = 0;    // In the file: the next page.
  int64_t left_ = 0;  // Values of the chunk behind the page at hand.
  int64_t page_ = -1;
  int64_t bytes_read_ = 0;

  std::string compressed_, body_;
  int64_t page_left_ = 0;
  HybridDecoder definitions_;
  std::unique_ptr<StringDecoder> strings_;
  std::unique_ptr<NumberDecoder> numbers_;

  std::string dictionary_body_;
  bool has_dictionary_ = false;
  std::vector<std::string_view> string_dictionary_;
  std::vector<double> number_dictionary_;
};

}  // namespace bdh::documents::parquet
