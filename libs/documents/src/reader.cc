#include "reader.h"

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"

namespace bdh::documents {

absl::Status TooLongError(std::string_view where, std::string_view what, const Options& options) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s%s is longer than max_document_bytes, which is %s; raise it, drop what is too long "
                      "(drop_too_long), or split "
                      "the file otherwise",
                      where, what, FormatBytes(static_cast<uint64_t>(options.max_document_bytes))));
}

absl::Status SkipRows(Reader& reader, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) {
    Row row;
    BDH_ASSIGN_OR_RETURN(const bool there, reader.Next(row));
    if (there) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "the position is at row %d, but the file has only %d: it is not the file this position is of", rows,
        i));
  }
  return absl::OkStatus();
}

}  // namespace bdh::documents
