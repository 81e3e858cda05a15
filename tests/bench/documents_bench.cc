// How fast each format becomes documents, beside a plain read of the same bytes: bytes of text a second.
//
//   build/tests/bench/documents_bench --benchmark_min_time=0.5
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/documents/document_source.h"

namespace bdh::documents {
namespace {

constexpr size_t kTextBytes = size_t{32} << 20;
constexpr size_t kRowBytes = 2000;

// Words of many lengths; every 50th is not English.
const std::string& Text() {
  static const std::string& text = *[] {
    auto* const out = new std::string;
    uint32_t x = 1;
    const char* const kWords[] = {"the",     "dragon", "of",     "hatchling", "and",
                                  "synapse", "to",     "neuron", "größe",     "水"};
    while (out->size() < kTextBytes) {
      x = x * 1664525u + 1013904223u;
      const uint32_t pick = x >> 16;
      *out += pick % 50 == 0 ? kWords[8 + pick % 2] : kWords[pick % 8];
      *out += pick % 12 == 0 ? ".\n" : pick % 97 == 0 ? " \"quoted\" " : " ";
    }
    return out;
  }();
  return text;
}

template <class Row>
std::string Rows(std::string head, Row row) {
  for (size_t at = 0; at < Text().size(); at += kRowBytes) head += row(Text().substr(at, kRowBytes));
  return head;
}

std::string Escaped(std::string_view text, std::string_view quote, std::string_view line_end) {
  std::string out;
  for (const char c : text) {
    if (c == '"') {
      out += quote;
    } else if (c == '\n') {
      out += line_end;
    } else {
      out += c;
    }
  }
  return out;
}

std::string Gzip(const std::string& text) {
  z_stream state = {};
  BDH_CHECK(deflateInit2(&state, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&state, text.size()), '\0');
  state.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
  state.avail_in = static_cast<uInt>(text.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  BDH_CHECK(deflate(&state, Z_FINISH) == Z_STREAM_END);
  out.resize(state.total_out);
  deflateEnd(&state);
  return out;
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// The files, made once in a folder that goes with the process.
class Files {
 public:
  Files()
      : folder_(std::filesystem::temp_directory_path() / absl::StrFormat("documents_bench.%d", getpid())) {
    std::filesystem::create_directories(folder_);
    const std::string jsonl = Rows("", [](const std::string& t) {
      return "{\"text\":\"" + Escaped(t, "\\\"", "\\n") + "\",\"id\":1}\n";
    });
    Put("plain.txt", Text());
    Put("rows.jsonl", jsonl);
    Put("rows.json", "[" + Rows("", [](const std::string& t) {
                       return "{\"text\":\"" + Escaped(t, "\\\"", "\\n") + "\"},";
                     }) + "{}]");
    Put("rows.csv",
        Rows("id,text\n", [](const std::string& t) { return "1,\"" + Escaped(t, "\"\"", "\n") + "\"\n"; }));
    Put("plain.md", Text().substr(0, 8 << 20));
    Put("plain.html", Text().substr(0, 8 << 20));
    Put("plain.txt.gz", Gzip(Text()));
    Put("plain.txt.zst", Zstd(Text()));
    Put("rows.jsonl.gz", Gzip(jsonl));
    Put("rows.jsonl.zst", Zstd(jsonl));
  }
  ~Files() { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ / name; }

 private:
  void Put(const std::string& name, const std::string& text) {
    BDH_CHECK(WriteFileAtomically(Path(name), text).ok());
  }
  const std::filesystem::path folder_;
};

const Files& TheFiles() {
  static const Files files;
  return files;
}

int64_t ReadDocuments(const std::string& path, const Options& options) {
  const auto list = ListSources({path});
  BDH_CHECK(list.ok()) << list.status();
  const auto source = DocumentSource::Open(list->files, options);
  BDH_CHECK(source.ok()) << source.status();
  int64_t bytes = 0;
  while (true) {
    const auto document = (*source)->Next();
    BDH_CHECK(document.ok()) << document.status();
    if (*document == nullptr) return bytes;
    for (std::string_view piece = *(*source)->Read(); !piece.empty(); piece = *(*source)->Read()) {
      bytes += static_cast<int64_t>(piece.size());
    }
  }
}

void BM_PlainRead(benchmark::State& state) {
  const std::string path = TheFiles().Path("plain.txt");
  std::string buffer(size_t{1} << 20, '\0');
  int64_t bytes = 0;
  for (auto _ : state) {
    const int descriptor = open(path.c_str(), O_RDONLY);
    for (ssize_t got = read(descriptor, buffer.data(), buffer.size()); got > 0;
         got = read(descriptor, buffer.data(), buffer.size())) {
      bytes += got;
    }
    close(descriptor);
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_PlainRead);

void Documents(benchmark::State& state, const std::string& name, const Options& options) {
  int64_t bytes = 0;
  for (auto _ : state) bytes += ReadDocuments(name[0] == '/' ? name : TheFiles().Path(name), options);
  state.SetBytesProcessed(bytes);
}
BENCHMARK_CAPTURE(Documents, text, std::string("plain.txt"), Options{});
BENCHMARK_CAPTURE(Documents, text_by_line, std::string("plain.txt"), Options{.split = TextSplit::kLine});
BENCHMARK_CAPTURE(Documents, text_repair_nfc, std::string("plain.txt"),
                  Options{.utf8 = Utf8Policy::kRepair, .nfc = true});
BENCHMARK_CAPTURE(Documents, text_gz, std::string("plain.txt.gz"), Options{});
BENCHMARK_CAPTURE(Documents, text_zst, std::string("plain.txt.zst"), Options{});
BENCHMARK_CAPTURE(Documents, jsonl, std::string("rows.jsonl"), Options{});
BENCHMARK_CAPTURE(Documents, jsonl_dedupe, std::string("rows.jsonl"), Options{.dedupe = true});
BENCHMARK_CAPTURE(Documents, jsonl_gz, std::string("rows.jsonl.gz"), Options{});
BENCHMARK_CAPTURE(Documents, jsonl_zst, std::string("rows.jsonl.zst"), Options{});
BENCHMARK_CAPTURE(Documents, json_array, std::string("rows.json"), Options{});
BENCHMARK_CAPTURE(Documents, csv, std::string("rows.csv"), Options{});
BENCHMARK_CAPTURE(Documents, markdown, std::string("plain.md"), Options{});
BENCHMARK_CAPTURE(Documents, html, std::string("plain.html"), Options{});

// Parquet is not written here: BDH_BENCH_PARQUET names a file that another tool wrote.
void BM_Parquet(benchmark::State& state) {
  const char* const path = std::getenv("BDH_BENCH_PARQUET");
  if (path == nullptr) return state.SkipWithError("BDH_BENCH_PARQUET is not set");
  Documents(state, path, {});
}
BENCHMARK(BM_Parquet);

}  // namespace
}  // namespace bdh::documents

BENCHMARK_MAIN();
