// Reads files that pyarrow wrote (tests/tools/make_parquet.py), one for each encoding, codec and page
// version, and compares them with the rule they were made by. What is not read is refused by name.
#include <gmock/gmock.h>

#include "documents_testing.h"

namespace bdh::documents {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kRows = 300;

// The rule of make_parquet.py.
std::optional<std::string> TextOf(int i) {
  if (i % 7 == 3) return std::nullopt;
  if (i % 11 == 5) return "";
  std::string out;
  if (i == 42) {
    for (int k = 0; k < 400; ++k) out += "long ";
    return out;
  }
  const char* const kWords[] = {"dragon", "hatchling", "größe", "水", "🐉", "synapse"};
  for (int k = 1; k < 2 + i % 5; ++k) out += (k == 1 ? "" : " ") + std::string(kWords[(i * k + k) % 6]);
  if (i % 3 != 0) out += " " + std::to_string(i);
  return out;
}

std::optional<double> ScoreOf(int i, bool count) {
  if (i % 13 == 4) return std::nullopt;
  return count ? i * 3 - 50 : i * 0.5;
}

std::string Golden(const std::string& name) {
  return std::string(BDH_SOURCE_DIR) + "/tests/golden/parquet/" + name + ".parquet";
}

class ParquetTest : public DocumentsTest, public ::testing::WithParamInterface<std::string> {};

void ExpectRows(const std::vector<Got>& documents, int from, const std::optional<bool>& count) {
  size_t at = 0;
  for (int i = from; i < kRows; ++i) {
    const auto text = TextOf(i);
    if (!text || text->empty()) continue;
    ASSERT_LT(at, documents.size());
    EXPECT_EQ(documents[at].text, *text) << i;
    EXPECT_THAT(documents[at].name, HasSubstr(":" + std::to_string(i + 1)));
    if (count) {
      EXPECT_EQ(documents[at].score, ScoreOf(i, *count)) << i;
    }
    ++at;
  }
  EXPECT_EQ(at, documents.size());
}

TEST_P(ParquetTest, EveryRowIsWhatWasWritten) {
  for (const bool count : {false, true}) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto documents,
                             Read({Golden(GetParam())}, {.score_column = count ? "count" : "score"}));
    ExpectRows(documents, 0, count);
    const Tally& total = report_.total;
    EXPECT_EQ(total.in.documents, kRows);
    EXPECT_EQ(total[Drop::kNull].documents, 43);
    EXPECT_EQ(total.in.documents, total.kept.documents + total.dropped_total().documents);
    EXPECT_GT(total.file_bytes, 100);
  }
}

TEST_P(ParquetTest, ReadingBeginsAtAnyRow) {
  for (const int row : {1, 37, 74, 150, 299}) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto source, Open({Golden(GetParam())}, {}, {.row = row}));
    BDH_ASSERT_OK_AND_ASSIGN(const auto documents, ReadAll(*source));
    ExpectRows(documents, row, std::nullopt);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, ParquetTest,
                         ::testing::Values("codec_none", "codec_snappy", "codec_gzip", "codec_zstd",
                                           "codec_brotli", "codec_lz4", "plain", "plain_v2", "dictionary_v2",
                                           "dictionary_old", "delta_length", "delta", "groups", "pages",
                                           "fallback", "checksums", "large_string", "binary", "no_statistics",
                                           "page_index", "lists_beside"),
                         [](const auto& info) { return info.param; });

class ParquetFileTest : public DocumentsTest {
 protected:
  std::string Refusal(const std::string& path, const Options& options = {}) {
    return std::string(Read({path}, options).status().message());
  }
  std::string Spoiled(const std::string& name, size_t at, char to) {
    std::string bytes = *ReadFile(Golden(name));
    bytes.at(at) = to;
    return Put("spoiled.parquet", bytes);
  }
};

TEST_F(ParquetFileTest, ColumnsWithoutNulls) {
  for (const char* const name : {"required", "required_v2"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({Golden(name)}));
    ExpectRows(documents, 0, std::nullopt);
    EXPECT_EQ(report_.total[Drop::kNull].documents, 0);
  }
}

TEST_F(ParquetFileTest, FieldsOfStructs) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({Golden("struct")}, {.text_column = "doc.text"}));
  ExpectRows(documents, 0, std::nullopt);
  EXPECT_THAT(Refusal(Golden("struct"), {.text_column = "doc"}),
              HasSubstr("no column 'doc'; the columns are doc.text"));
}

TEST_F(ParquetFileTest, FilesWithoutText) {
  BDH_ASSERT_OK_AND_ASSIGN(auto documents, Read({Golden("empty")}));
  EXPECT_TRUE(documents.empty());
  BDH_ASSERT_OK_AND_ASSIGN(documents, Read({Golden("all_null")}));
  EXPECT_TRUE(documents.empty());
  EXPECT_EQ(report_.total[Drop::kNull].documents, 50);
}

TEST_F(ParquetFileTest, WrongColumnsAreRefusedWithThoseThereAre) {
  EXPECT_THAT(Refusal(Golden("plain"), {.text_column = "txt"}),
              HasSubstr("plain.parquet: there is no column 'txt'; the columns are id, text, score, count"));
  EXPECT_THAT(Refusal(Golden("plain"), {.text_column = "id"}), HasSubstr("'id' holds INT64; want strings"));
  EXPECT_THAT(Refusal(Golden("plain"), {.score_column = "text"}),
              HasSubstr("'text' holds BYTE_ARRAY; a score is"));
  EXPECT_THAT(Refusal(Golden("plain"), {.score_column = "x"}), HasSubstr("no column 'x'"));
  EXPECT_THAT(Refusal(Golden("list"), {.text_column = "text"}),
              HasSubstr("is a list or map (text.list.element)"));
  EXPECT_THAT(Refusal(Golden("lists_beside"), {.text_column = "messages"}),
              HasSubstr("is a list or map (messages.list.element.role)"));
  EXPECT_THAT(Refusal(Golden("lists_beside"), {.text_column = "tags.list.element"}),
              HasSubstr("is a list or map (tags.list.element)"));
  EXPECT_THAT(Refusal(Golden("numbers")), HasSubstr("choose one (text_column) of id, x"));
  EXPECT_THAT(Refusal(Golden("two_texts")), HasSubstr("choose one (text_column) of question, answer"));
}

TEST_F(ParquetFileTest, DamageIsNamed) {
  const std::string whole = *ReadFile(Golden("checksums"));
  EXPECT_THAT(Refusal(Put("a.parquet", whole.substr(0, 3000))),
              HasSubstr("a.parquet: it is no parquet file, or was cut"));
  EXPECT_THAT(Refusal(Put("b.parquet", "PAR1")), HasSubstr("too short"));
  EXPECT_THAT(Refusal(Put("c.parquet", "")), HasSubstr("is empty and no parquet file"));
  std::string long_footer = whole;
  long_footer[long_footer.size() - 5] = '\x7f';
  EXPECT_THAT(Refusal(Put("d.parquet", long_footer)), HasSubstr("its footer does not fit"));
  // Whichever byte is another: what it was is read, or the page is named.
  int checksums = 0;
  for (size_t at = 100; at < whole.size() / 2; at += 101) {
    const auto status = Read({Spoiled("checksums", at, '\x55')}).status();
    if (status.ok()) continue;
    EXPECT_THAT(std::string(status.message()), HasSubstr("spoiled.parquet: "));
    if (status.message().find("of column 'text': its checksum is wrong") == std::string::npos) continue;
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("spoiled.parquet: row group 0: page"));
    ++checksums;
  }
  EXPECT_GT(checksums, 3);
}

TEST_F(ParquetFileTest, CodecsThatAreNotReadAreRefusedByName) {
  // The codec is field 4 of the column's metadata: after the list of its path, "text", comes 0x15 and the
  // number.
  std::string bytes = *ReadFile(Golden("codec_snappy"));
  const size_t path = bytes.rfind("\x18\x04text\x15\x02");
  const size_t at = path != std::string::npos ? path + 7 : bytes.rfind(std::string("\x04text\x15\x02")) + 6;
  ASSERT_LT(at, bytes.size());
  for (const auto& [number, name] : {std::pair<int, const char*>{3, "LZO"}, {5, "LZ4"}, {9, "number 9"}}) {
    bytes[at] = static_cast<char>(number * 2);
    EXPECT_THAT(
        Refusal(Put("codec.parquet", bytes)),
        HasSubstr("codec.parquet: it is compressed by " + std::string(name) + ", which is not read here"));
  }
}

TEST_F(ParquetFileTest, AStreamIsKeptInAFileMeanwhile) {
  const std::string bytes = *ReadFile(Golden("groups"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents,
                           ReadStream("x.parquet", bytes, 1000, {.spool_folder = folder_.path()}));
  ExpectRows(documents, 0, std::nullopt);
  EXPECT_THAT(std::string(ReadStream("x.parquet", bytes, 1000).status().message()),
              HasSubstr("give it as a plain file"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto packed,
                           Read({Put("x.parquet.gz", Gzip(bytes))}, {.spool_folder = folder_.path()}));
  ExpectRows(packed, 0, std::nullopt);
}

}  // namespace
}  // namespace bdh::documents
