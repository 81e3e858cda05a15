#include "bdh/documents/report.h"

namespace bdh::documents {

std::string_view DropName(Drop reason) {
  switch (reason) {
    case Drop::kEmpty:
      return "empty";
    case Drop::kNull:
      return "null";
    case Drop::kTooShort:
      return "too short";
    case Drop::kTooLong:
      return "too long";
    case Drop::kFewWords:
      return "few words";
    case Drop::kContent:
      return "content";
    case Drop::kDuplicate:
      return "duplicate";
    case Drop::kBrokenUtf8:
      return "broken UTF-8";
  }
  return "";
}

Count Tally::dropped_total() const {
  Count total;
  for (const Count& count : dropped) {
    total.documents += count.documents;
    total.bytes += count.bytes;
  }
  return total;
}

void Tally::Add(const Tally& other) {
  const auto add = [](Count& to, const Count& from) {
    to.documents += from.documents;
    to.bytes += from.bytes;
  };
  file_bytes += other.file_bytes;
  format_bytes += other.format_bytes;
  add(in, other.in);
  add(kept, other.kept);
  for (size_t i = 0; i < dropped.size(); ++i) add(dropped[i], other.dropped[i]);
  broken_utf8 += other.broken_utf8;
  cleaned_bytes += other.cleaned_bytes;
}

}  // namespace bdh::documents
