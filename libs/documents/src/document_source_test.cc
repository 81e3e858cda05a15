// Proves what becomes a document in each format, whatever it is packed in and however it comes; that reading
// begins again anywhere; that the report adds up; and that wrong input is refused with file, line and remedy.
#include "bdh/documents/document_source.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <random>

#include "absl/strings/str_format.h"
#include "documents_testing.h"

namespace bdh::documents {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

void ExpectAddsUp(const Report& report) {
  Tally sum = report.unnamed;
  for (const SourceTally& source : report.sources) sum.Add(source.tally);
  for (const Tally* tally : {&report.total, static_cast<const Tally*>(&sum)}) {
    const Count dropped = tally->dropped_total();
    EXPECT_EQ(tally->in.documents, tally->kept.documents + dropped.documents);
    EXPECT_EQ(tally->in.bytes, tally->kept.bytes + tally->cleaned_bytes + dropped.bytes);
  }
  EXPECT_EQ(sum.in.bytes, report.total.in.bytes);
  EXPECT_EQ(sum.file_bytes, report.total.file_bytes);
}

class DocumentSourceTest : public DocumentsTest {
 protected:
  // Reads the file plain, packed, and as streams of several piece sizes: the same each time.
  std::vector<std::string> ReadEveryWay(const std::string& name, const std::string& text,
                                        const Options& options = {}) {
    const auto plain = Read({Put(name, text)}, options);
    EXPECT_TRUE(plain.ok()) << plain.status();
    if (!plain.ok()) return {};
    ExpectAddsUp(report_);
    EXPECT_EQ(report_.total.file_bytes, static_cast<int64_t>(text.size()));
    EXPECT_EQ(report_.total.in.bytes + report_.total.format_bytes, static_cast<int64_t>(text.size()));
    const auto same = [&](const absl::StatusOr<std::vector<Got>>& other, const std::string& how) {
      EXPECT_TRUE(other.ok()) << how << other.status();
      if (other.ok()) {
        EXPECT_EQ(Texts(*other), Texts(*plain)) << how;
      }
    };
    same(Read({Put(name + ".gz", Gzip(text))}, options), "gz");
    const size_t half = text.size() / 2;
    same(Read({Put(name + ".gz", Gzip(text.substr(0, half)) + Gzip(text.substr(half)))}, options),
         "two members");
    same(Read({Put(name + ".zst", Zstd(text.substr(0, half)) + Zstd(text.substr(half)))}, options), "zst");
    for (const size_t piece : {1u, 2u, 3u, 7u, 100u}) same(ReadStream(name, text, piece, options), "pieces");
    same(ReadStream(name + ".gz", Gzip(text), 5, options), "stream of gz");
    ExpectResumes(folder_.path() + "/" + name, options, *plain);
    ExpectResumes(folder_.path() + "/" + name + ".gz", options, *plain);
    return Texts(*plain);
  }

  void ExpectResumes(const std::string& path, const Options& options, const std::vector<Got>& all) {
    for (size_t i = 0; i < all.size(); ++i) {
      for (const Position& from : {all[i].position, all[i].next}) {
        if (path.ends_with(".gz") && i % 3 != 0) continue;
        Position position = from;
        if (path.ends_with(".gz")) position.offset = -1;
        const size_t first = from == all[i].position ? i : i + 1;
        const auto source = Open({path}, options, position);
        ASSERT_TRUE(source.ok()) << source.status();
        const auto rest = ReadAll(**source);
        ASSERT_TRUE(rest.ok()) << rest.status();
        ASSERT_EQ(rest->size(), all.size() - first);
        for (size_t k = 0; k < rest->size(); ++k) {
          EXPECT_EQ((*rest)[k].text, all[first + k].text);
          if (path.ends_with(".gz")) continue;
          EXPECT_EQ((*rest)[k].name, all[first + k].name);
          EXPECT_EQ((*rest)[k].position, all[first + k].position);
        }
      }
    }
  }

  std::string Refusal(const std::string& name, const std::string& text, const Options& options = {}) {
    return std::string(Read({Put(name, text)}, options).status().message());
  }
};

TEST_F(DocumentSourceTest, ATextFileIsOneDocument) {
  EXPECT_THAT(ReadEveryWay("a.txt", "one\ntwo\n\nthree"), ElementsAre("one\ntwo\n\nthree"));
  EXPECT_THAT(ReadEveryWay("noname", "x"), ElementsAre("x"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({Put("b.txt", "")}));
  EXPECT_THAT(documents, IsEmpty());
  EXPECT_EQ(report_.total[Drop::kEmpty].documents, 1);
}

TEST_F(DocumentSourceTest, TextIsCutWhereAsked) {
  const std::string text = "one\ntwo\r\n\r\n\n\nthree\nfour\n\n";
  EXPECT_THAT(ReadEveryWay("a.txt", text, {.split = TextSplit::kBlankLine}),
              ElementsAre("one\ntwo\r", "three\nfour"));
  EXPECT_THAT(ReadEveryWay("b.txt", text, {.split = TextSplit::kLine}),
              ElementsAre("one", "two\r", "\r", "three", "four"));
  EXPECT_EQ(report_.total[Drop::kEmpty].documents, 3);
  EXPECT_THAT(ReadEveryWay("c.txt", "a<|eot|>b<|eo<|eot|><|eot|>c<|e",
                           {.split = TextSplit::kSeparator, .separator = "<|eot|>"}),
              ElementsAre("a", "b<|eo", "c<|e"));
}

TEST_F(DocumentSourceTest, RowsOfJson) {
  const std::string lines =
      "{\"id\": 1, \"text\": \"one\"}\n\n{\"text\":\"t\\u0077o \\ud83d\\udc09 \\\\ "
      "\\n\",\"x\":[1,{\"text\":\"no\"}]}\r\n"
      "{\"text\":null}\n{\"other\":true}\n{\"text\":\"last\"}";
  EXPECT_THAT(ReadEveryWay("a.jsonl", lines), ElementsAre("one", "two 🐉 \\ \n", "last"));
  EXPECT_EQ(report_.total[Drop::kNull].documents, 2);
  EXPECT_THAT(ReadEveryWay("b.json", "[ {\"text\": \"a ] } \\\" \"},\n{\"text\":\"b\"} ]\n"),
              ElementsAre("a ] } \" ", "b"));
  EXPECT_THAT(ReadEveryWay("c.json", "{\n \"text\": \"one\"\n}\n{\"text\": \"two\"}"),
              ElementsAre("one", "two"));
  EXPECT_THAT(ReadEveryWay("d.json", "[]"), IsEmpty());
  EXPECT_THAT(ReadEveryWay("e.jsonl", "{\"a\":{\"b\":\"deep\"},\"a.c\":\"dot\"}", {.text_column = "a.b"}),
              ElementsAre("deep"));
  EXPECT_THAT(ReadEveryWay("f.jsonl", "{\"a\":{\"b\":\"deep\"},\"a.c\":\"dot\"}", {.text_column = "a.c"}),
              ElementsAre("dot"));
  EXPECT_THAT(ReadEveryWay("g.jsonl", "{\"n\":1,\"prose\":\"only one\"}"), ElementsAre("only one"));
}

TEST_F(DocumentSourceTest, RowsOfCsv) {
  const std::string text =
      "id,text,score\r\n1,plain,0.5\r\n2,\"quoted, with \"\"quotes\"\"\nand "
      "lines\",\r\n\r\n3,\"\",-1e3\r\n4,end \"here\",7";
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({Put("s.csv", text)}, {.score_column = "score"}));
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].score, 0.5);
  EXPECT_EQ(documents[1].score, std::nullopt);
  EXPECT_EQ(documents[1].name, "s.csv:3");
  EXPECT_EQ(documents[2].name, "s.csv:7");
  EXPECT_THAT(ReadEveryWay("a.csv", text),
              ElementsAre("plain", "quoted, with \"quotes\"\nand lines", "end \"here\""));
  EXPECT_THAT(ReadEveryWay("b.tsv", "text\tn\na, b\t1\n\"tab\there\"\t2\n"),
              ElementsAre("a, b", "tab\there"));
  EXPECT_THAT(ReadEveryWay("c.csv", "a,1\nb,2\n", {.text_column = "1", .csv_header = false}),
              ElementsAre("a", "b"));
  EXPECT_THAT(ReadEveryWay("d.csv", "text\none\n\ntwo\n"), ElementsAre("one", "two"));
  EXPECT_THAT(ReadEveryWay("e.csv", "text,a\n"), IsEmpty());
}

TEST_F(DocumentSourceTest, ScoresOfJson) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents,
                           Read({Put("a.jsonl", "{\"text\":\"a\",\"s\":{\"q\":-2.5e1}}\n{\"text\":\"b\"}\n")},
                                {.score_column = "s.q"}));
  EXPECT_EQ(documents[0].score, -25.0);
  EXPECT_EQ(documents[1].score, std::nullopt);
}

TEST_F(DocumentSourceTest, BadRowsAreRefusedWithFileAndLine) {
  EXPECT_THAT(Refusal("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b}\n"),
              StartsWith("a.jsonl:2: no JSON at column 9: a string has no end"));
  EXPECT_THAT(Refusal("b.jsonl", "[1]"), HasSubstr("b.jsonl:1: no JSON at column 1: want an object"));
  EXPECT_THAT(Refusal("c.jsonl", "{\"text\":\"a\"}\n{\"text\":7}\n"),
              HasSubstr("c.jsonl:2: 'text' is a number; want a string"));
  EXPECT_THAT(Refusal("d.jsonl", "{\"q\":\"a\",\"r\":\"b\"}\n"),
              HasSubstr("d.jsonl:1: no column is surely the text; choose one (text_column) of q, r"));
  EXPECT_THAT(Refusal("e.jsonl", "{\"q\":\"a\"}\n{\"q\":\"b\"}\n", {.text_column = "text"}),
              HasSubstr("there is no column 'text'; the columns are q"));
  EXPECT_THAT(Refusal("f.json", "[{\"text\":\"a\"}\n{\"text\":\"b\"}]"),
              HasSubstr("f.json:2: no JSON: want ',' or ']'"));
  EXPECT_THAT(Refusal("g.json", "[{\"text\":\"a\"},\n{\"text\":\"b\""),
              HasSubstr("g.json:2: no JSON: the object that begins here has no end"));
  EXPECT_THAT(Refusal("h.json", "[{\"text\":\"a\"}\n"), HasSubstr("h.json:2: no JSON: the array has no end"));
  EXPECT_THAT(Refusal("i.csv", "text,n\na,1\nb\n"),
              StartsWith("i.csv:3: the row has 1 fields, the header 2; mend the row"));
  EXPECT_THAT(Refusal("j.csv", "text,n\na,1\n\"b\nc,2\n"),
              StartsWith("j.csv:3: a quote opens here and never closes"));
  EXPECT_THAT(Refusal("k.csv", "text,n\n\"a\"b,1\n"),
              StartsWith("k.csv:2: text follows a quoted field's closing quote"));
  EXPECT_THAT(Refusal("l.csv", "a,b\n1,2\n"),
              HasSubstr("l.csv:1: no column is surely the text; choose one (text_column) of a, b"));
  EXPECT_THAT(Refusal("m.csv", "text,s\n1,x\n", {.score_column = "s"}),
              HasSubstr("m.csv:2: 's' is 'x'; a score is a number"));
}

TEST_F(DocumentSourceTest, DamagedPackingIsNamed) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * 7919) + " ";
  const std::string gz = Gzip(text), zst = Zstd(text);
  const auto cut = Read({Put("a.txt.gz", gz.substr(0, gz.size() - 9))}).status();
  EXPECT_EQ(cut.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(cut.message()),
              StartsWith("a.txt.gz: the gzip data ends before its end: the file was cut short"));
  std::string bad = gz;
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 0x40);
  EXPECT_THAT(Refusal("b.txt.gz", bad), StartsWith("b.txt.gz: the gzip data is damaged"));
  EXPECT_THAT(Refusal("c.txt.zst", zst.substr(0, zst.size() - 3)),
              StartsWith("c.txt.zst: the zstd data ends before its end"));
  bad = zst;
  bad[zst.size() / 2] = static_cast<char>(bad[zst.size() / 2] ^ 0x40);
  EXPECT_THAT(Refusal("d.txt.zst", bad.substr(0, zst.size())), StartsWith("d.txt.zst: the zstd data"));
  EXPECT_THAT(Refusal("e.txt.gz", "plain"), HasSubstr("is no gzip file, though its name says so"));
  EXPECT_THAT(Refusal("f.txt", std::string("\xfd"
                                           "7zXZ\0more",
                                           10)),
              HasSubstr("is compressed by xz"));
  EXPECT_THAT(Refusal("g.txt", "BZh91AY&SYxx"), HasSubstr("is compressed by bzip2"));
  EXPECT_THAT(Refusal("h.txt", "\xff\xfeh\0i\0"), HasSubstr("is UTF-16"));
}

TEST_F(DocumentSourceTest, PolicyOnBytesThatAreNoUtf8) {
  const std::string path = Put("a.txt", "good\nb\xc3\xa4\xff\xc3\nend");
  const auto with = [&](Utf8Policy policy) {
    return Read({path}, {.split = TextSplit::kLine, .utf8 = policy});
  };
  EXPECT_THAT(Texts(*with(Utf8Policy::kKeep)), ElementsAre("good", "b\xc3\xa4\xff\xc3", "end"));
  EXPECT_EQ(report_.total.broken_utf8, 1);
  EXPECT_THAT(Texts(*with(Utf8Policy::kRepair)), ElementsAre("good", "bä\ufffd\ufffd", "end"));
  ExpectAddsUp(report_);
  EXPECT_THAT(Texts(*with(Utf8Policy::kDrop)), ElementsAre("good", "end"));
  EXPECT_EQ(report_.total[Drop::kBrokenUtf8].documents, 1);
  EXPECT_EQ(report_.total[Drop::kBrokenUtf8].bytes, 5);
  const auto refused = with(Utf8Policy::kRefuse).status();
  EXPECT_THAT(std::string(refused.message()),
              StartsWith("a.txt:2: there are bytes in it that are no UTF-8; convert it"));
}

TEST_F(DocumentSourceTest, FiltersDropAndCount) {
  const std::string path = Put(
      "a.txt", "tiny\nthis one stays\n$$$ ### !!! ???\nthis one stays\nbad word here\nmuch too long for it");
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({path}, {.split = TextSplit::kLine,
                                                               .min_bytes = 5,
                                                               .max_bytes = 18,
                                                               .min_word_share = 0.5,
                                                               .must_not_contain = {"bad"},
                                                               .dedupe = true}));
  EXPECT_THAT(Texts(documents), ElementsAre("this one stays"));
  const Tally& total = report_.total;
  for (const Drop reason :
       {Drop::kTooShort, Drop::kTooLong, Drop::kFewWords, Drop::kDuplicate, Drop::kContent}) {
    EXPECT_EQ(total[reason].documents, 1) << DropName(reason);
  }
  EXPECT_EQ(total[Drop::kTooLong].bytes, 20);
  ExpectAddsUp(report_);
  BDH_ASSERT_OK_AND_ASSIGN(const auto found,
                           Read({path}, {.split = TextSplit::kLine, .must_contain = {"one", "stays"}}));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_THAT(std::string(Read({path}, {.split = TextSplit::kLine, .dedupe = true, .dedupe_documents_max = 2})
                              .status()
                              .message()),
              HasSubstr("more than 2 different documents"));
}

TEST_F(DocumentSourceTest, DuplicatesAreKnownAfterResuming) {
  const std::string path = Put("a.txt", "a\nb\na\nc\nb\nd\n");
  const Options options = {.split = TextSplit::kLine, .dedupe = true};
  BDH_ASSERT_OK_AND_ASSIGN(const auto all, Read({path}, options));
  EXPECT_THAT(Texts(all), ElementsAre("a", "b", "c", "d"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto source, Open({path}, options, all[1].next));
  BDH_ASSERT_OK_AND_ASSIGN(const auto rest, ReadAll(*source));
  EXPECT_THAT(Texts(rest), ElementsAre("c", "d"));
  EXPECT_EQ(source->report().total.in.documents, 4) << "what lies before the position does not count again";
}

TEST_F(DocumentSourceTest, LongLinesPassInPiecesOrAreRefusedByName) {
  // 1 GiB without a line end, from a file with a hole; a row of that is over the limit.
  const std::string path = Put("long.txt", "first\n");
  constexpr int64_t kBytes = int64_t{1} << 30;
  ASSERT_EQ(truncate(path.c_str(), kBytes), 0);
  BDH_ASSERT_OK_AND_ASSIGN(auto source,
                           Open({path}, {.split = TextSplit::kLine, .max_document_bytes = 1 << 20}));
  ASSERT_NE(*source->Next(), nullptr);
  BDH_ASSERT_OK_AND_ASSIGN(const Document* const document, source->Next());
  EXPECT_EQ(document->name, "long.txt:2");
  rusage before = {}, after = {};
  getrusage(RUSAGE_SELF, &before);
  int64_t bytes = 0;
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const std::string_view piece, source->Read());
    if (piece.empty()) break;
    bytes += static_cast<int64_t>(piece.size());
  }
  getrusage(RUSAGE_SELF, &after);
  EXPECT_EQ(bytes, kBytes - 6);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 32 << 10) << "KiB";
  const Options small = {.max_document_bytes = 1 << 20};
  const std::string row =
      "{\"text\":\"ok\"}\n{\"text\":\"" + std::string(2 << 20, 'x') + "\"}\n{\"text\":\"end\"}\n";
  EXPECT_THAT(
      Refusal("a.jsonl", row, small),
      StartsWith("a.jsonl:2: the line is longer than max_document_bytes, which is 1.0 MiB; raise it"));
  EXPECT_THAT(Refusal("b.json", row, small), StartsWith("b.json:2: the object is longer"));
  EXPECT_THAT(Refusal("c.csv", "text,n\n\"" + std::string(2 << 20, 'x') + "\",1\nend,2\n", small),
              StartsWith("c.csv:2: the row is longer"));
  EXPECT_THAT(Refusal("d.html", std::string(2 << 20, 'x'), small), StartsWith("d.html: the file is longer"));
  Options drop = small;
  drop.drop_too_long = true;
  EXPECT_THAT(ReadEveryWay("e.jsonl", row, drop), ElementsAre("ok", "end"));
  EXPECT_EQ(report_.total[Drop::kTooLong].documents, 1);
  EXPECT_THAT(ReadEveryWay("f.json", row, drop), ElementsAre("ok", "end"));
  EXPECT_THAT(ReadEveryWay("g.csv", "text,n\n\"" + std::string(2 << 20, 'x') + "\",1\nend,2\n", drop),
              ElementsAre("end"));
}

TEST_F(DocumentSourceTest, APieceEndsBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 5 * DocumentSource::kPieceBytes / 2) text += "🐉";
  BDH_ASSERT_OK_AND_ASSIGN(const auto source, Open({Put("a.txt", text)}));
  ASSERT_NE(*source->Next(), nullptr);
  int pieces = 0;
  for (std::string_view piece = *source->Read(); !piece.empty(); piece = *source->Read(), ++pieces) {
    EXPECT_NE(piece[0] & 0xc0, 0x80);
  }
  EXPECT_EQ(pieces, 3);
}

TEST_F(DocumentSourceTest, AFileThatChangedIsRefused) {
  const std::string path = Put("a.txt", "one");
  BDH_ASSERT_OK_AND_ASSIGN(const SourceList list, ListSources({path}));
  Put("a.txt", "four");
  BDH_ASSERT_OK_AND_ASSIGN(const auto source, DocumentSource::Open(list.files, {}));
  const auto status = source->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("a.txt has changed since it was listed: it holds 4 bytes, not 3; put it back"));
}

TEST_F(DocumentSourceTest, WrongOptionsAreRefused) {
  const auto refusal = [](const Options& options) { return std::string(Check(options).message()); };
  EXPECT_THAT(refusal({.split = TextSplit::kSeparator}), HasSubstr("separator has 0 bytes"));
  EXPECT_THAT(refusal({.separator = "x"}), HasSubstr("split is not 'separator'"));
  EXPECT_THAT(refusal({.min_bytes = 5, .max_bytes = 4}), HasSubstr("nothing would be kept"));
  EXPECT_THAT(refusal({.min_word_share = 2}), HasSubstr("want 0 to 1"));
  EXPECT_THAT(refusal({.max_document_bytes = 1}), HasSubstr("want 1024 to"));
  EXPECT_THAT(std::string(ParseFormat("docx").status().message()),
              HasSubstr("format is 'docx'; want one of guess, text, jsonl"));
  EXPECT_NE(CanonicalText({.text_column = "a"}), CanonicalText({.score_column = "a"}));
  EXPECT_EQ(CanonicalText({.spool_folder = "/tmp"}), CanonicalText({}));
}

TEST_F(DocumentSourceTest, EveryDocumentOfAFolderOnce) {
  Put("in/b.jsonl", "{\"text\":\"3\"}\n{\"text\":\"4\"}\n");
  Put("in/a.txt", "1");
  Put("in/deep/c.csv", "text\n5\n6\n");
  Put("in/ab.md", "# 2\n");
  BDH_ASSERT_OK_AND_ASSIGN(const auto documents, Read({folder_.path() + "/in"}));
  EXPECT_THAT(Texts(documents), ElementsAre("1", "2\n", "3", "4", "5", "6"));
  EXPECT_EQ(documents[4].name, "deep/c.csv:2");
  ASSERT_EQ(report_.sources.size(), 4u);
  ExpectAddsUp(report_);
  // From the middle of any file on.
  for (size_t i = 0; i < documents.size(); ++i) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto source, Open({folder_.path() + "/in"}, {}, documents[i].next));
    BDH_ASSERT_OK_AND_ASSIGN(const auto rest, ReadAll(*source));
    EXPECT_EQ(rest.size(), documents.size() - i - 1);
  }
}

}  // namespace
}  // namespace bdh::documents
