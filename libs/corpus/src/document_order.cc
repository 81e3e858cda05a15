#include "document_order.h"

#include <algorithm>

namespace bdh::corpus {

DocumentOrder::DocumentOrder(const Dataset& dataset, Split split, Order order) : split_(split) {
  struct Entry {
    double key;
    int64_t begin, length;
  };
  std::vector<Entry> entries;
  int64_t begin = 0;
  for (int64_t document = 0; document < dataset.info().documents; ++document) {
    const int64_t end = dataset.document_end(document).of(split);
    const double key = order == Order::kScore ? dataset.score(document) : static_cast<double>(end - begin);
    if (end > begin) entries.push_back({key, begin, end - begin});
    begin = end;
  }
  // What has no score comes last.
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    if (a.key != a.key || b.key != b.key) return a.key == a.key && b.key != b.key;
    return a.key < b.key;
  });
  int64_t at = 0;
  runs_.reserve(entries.size());
  for (const Entry& entry : entries) runs_.push_back({at += entry.length, entry.begin});
}

std::vector<DocumentOrder::Run>::const_iterator DocumentOrder::RunAt(int64_t position) const {
  return std::upper_bound(runs_.begin(), runs_.end(), position,
                          [](int64_t p, const Run& run) { return p < run.end; });
}

void DocumentOrder::Copy(const Dataset& dataset, int64_t position, int64_t count, char* out) const {
  auto run = RunAt(position);
  int64_t run_begin = run == runs_.begin() ? 0 : (run - 1)->end;
  for (; count > 0; run_begin = run->end, ++run) {
    const int64_t n = std::min(count, run->end - position);
    dataset.Copy(split_, run->begin + position - run_begin, n, out);
    out += n * dataset.info().token_bytes;
    position += n;
    count -= n;
  }
}

void DocumentOrder::VisitBegins(int64_t position, int64_t count,
                                const std::function<void(int64_t)>& visit) const {
  auto run = RunAt(position);
  int64_t begin = run == runs_.begin() ? 0 : (run - 1)->end;
  for (; run != runs_.end() && begin < position + count; begin = run->end, ++run) {
    if (begin >= position) visit(begin);
  }
}

}  // namespace bdh::corpus
