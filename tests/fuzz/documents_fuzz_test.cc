// No parquet, csv, JSON, gzip or zstd file crashes its reader, keeps it for ever or makes the report lie.
#include <gtest/gtest.h>

#include <filesystem>

#include "bdh/base/file.h"
#include "bdh/documents/document_source.h"
#include "bdh/testing/status_matchers.h"
#include "libs/documents/src/documents_testing.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

using documents::ByteStream;
using documents::DocumentSource;
using documents::NamedStream;

class OneStream : public ByteStream {
 public:
  explicit OneStream(std::string bytes) : bytes_(std::move(bytes)) {}
  absl::StatusOr<std::string_view> Read() override {
    const std::string_view out = std::string_view(bytes_).substr(at_, 1000);
    at_ += out.size();
    return out;
  }

 private:
  const std::string bytes_;
  size_t at_ = 0;
};

// Reads all there is, or until it is refused; true if it was not.
bool Use(const std::string& name, std::string bytes, documents::Options options) {
  options.max_document_bytes = 1 << 20;
  options.spool_folder = std::filesystem::temp_directory_path();
  bool given = false;
  const auto source = DocumentSource::OpenStreams(
      [&]() -> absl::StatusOr<std::optional<NamedStream>> {
        if (std::exchange(given, true)) return std::nullopt;
        return NamedStream{name, std::make_unique<OneStream>(std::move(bytes))};
      },
      options);
  EXPECT_TRUE(source.ok()) << source.status();
  int64_t documents = 0, text = 0;
  absl::Status status;
  // A page of nulls may say that there are two thousand million of them: that is many, not an error.
  constexpr int64_t kRowsMax = 100'000;
  while ((*source)->report().total.in.documents < kRowsMax) {
    const auto document = (*source)->Next();
    status = document.status();
    if (!status.ok() || *document == nullptr) break;
    ++documents;
    while (true) {
      const auto piece = (*source)->Read();
      status = piece.status();
      if (!status.ok() || piece->empty()) break;
      text += static_cast<int64_t>(piece->size());
    }
    if (!status.ok()) break;
  }
  if (!status.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) << status;
    EXPECT_NE(std::string(status.message()).find(name), std::string::npos) << status;
    return false;
  }
  const documents::Tally& total = (*source)->report().total;
  EXPECT_EQ(total.kept.documents, documents);
  EXPECT_EQ(total.kept.bytes, text);
  EXPECT_EQ(total.in.documents, documents + total.dropped_total().documents);
  return true;
}

TEST(DocumentsFuzz, DamagedParquet) {
  std::vector<std::string> files;
  const std::string folder = std::string(BDH_SOURCE_DIR) + "/tests/golden/parquet";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (std::string& file : files) file = *ReadFile(file);
  using namespace std::string_view_literals;
  Mutator mutator(23,
                  {"\xff\xff\xff\xff"sv, "\0\0\0\0"sv, "\xff\xff\xff\xff\x0f"sv, "\x15\x00"sv, "\x15\x02"sv,
                   "\x19\x1c"sv, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"sv, "\x7f"sv, "\x01"sv, "PAR1"sv});
  int accepted = 0;
  const int rounds = Rounds(10000);
  for (int i = 0; i < rounds; ++i) {
    std::string bytes = mutator.Pick(files);
    // Half of the time in place, so that offsets go on to mean what they meant; most of it in footer and
    // headers.
    if (mutator.Below(2) == 0) {
      for (uint64_t n = 1 + mutator.Below(4); n > 0; --n) {
        const size_t near_end = std::min<size_t>(bytes.size() - 8, 600);
        const size_t at = mutator.Below(3) == 0 ? mutator.Below(bytes.size() - 8)
                                                : bytes.size() - 8 - mutator.Below(near_end);
        bytes[at] = static_cast<char>(mutator.Below(2) == 0 ? mutator.Below(256) : bytes[at] + 1);
      }
    } else {
      bytes = mutator.Mutated(std::move(bytes));
    }
    documents::Options options;
    if (mutator.Below(2) == 0) options.score_column = mutator.Below(2) == 0 ? "score" : "count";
    accepted += Use("x.parquet", std::move(bytes), options) ? 1 : 0;
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations are too wild to test anything but the footer";
}

TEST(DocumentsFuzz, DamagedRows) {
  const std::string csv = "id,text,score\n1,plain,0.5\r\n2,\"quoted \"\"x\"\", y\nz\",1\n\n3,,\n";
  const std::string json =
      "{\"text\":\"one\",\"score\":1}\n{\"text\":\"\\u0074\\ud83d\\udc09\",\"x\":[1,{\"y\":null}]}\n{"
      "\"text\":null}\n";
  const std::string array = "[{\"text\":\"one\"},\n {\"text\":\"t]w}o\\\"\"} ]\n";
  Mutator mutator(
      29, {",",  "\"",  "\"\"",    "\n",   "\r",    "{", "}",    "[",  "]",        ":",
           "\\", "\\u", "\\ud800", "null", "1e999", "-", "\xff", "\t", "\"text\"", "{\"text\":\"x\"}"});
  int accepted = 0;
  const int rounds = Rounds(30000);
  for (int i = 0; i < rounds; ++i) {
    documents::Options options;
    options.drop_too_long = mutator.Below(2) == 0;
    options.nfc = options.unix_line_ends = mutator.Below(2) == 0;
    options.utf8 = mutator.Below(2) == 0 ? documents::Utf8Policy::kRepair : documents::Utf8Policy::kKeep;
    if (mutator.Below(3) == 0) options.score_column = "score";
    const char* const names[] = {"x.csv", "x.jsonl", "x.json", "x.html", "x.md"};
    const std::string name = mutator.Pick(names);
    const std::string& good = name == "x.csv" ? csv : name == "x.jsonl" ? json : array;
    accepted += Use(name, mutator.Mutated(good), options) ? 1 : 0;
  }
  EXPECT_GT(accepted, rounds / 20);
}

TEST(DocumentsFuzz, DamagedGzip) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += std::to_string(i * 7919) + "\n";
  const std::string good = documents::Gzip(text) + documents::Gzip("more");
  Mutator mutator(31, {"\x1f\x8b", "\x1f\x8b\x08", std::string_view("\0\0", 2), "\xff\xff"});
  int accepted = 0;
  const int rounds = Rounds(3000);
  for (int i = 0; i < rounds; ++i)
    accepted += Use("x.txt.gz", mutator.Mutated(good), {.split = documents::TextSplit::kLine}) ? 1 : 0;
  EXPECT_LT(accepted, rounds / 2) << "its checksum sees most of it";
}

}  // namespace
}  // namespace bdh::fuzz
