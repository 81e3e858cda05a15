// The files that tests/tools/make_tokenizer_vectors.py made with Hugging Face's tokenizers.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/tokenizer/tokenizer.h"

namespace bdh::tokenizer {

inline constexpr char kGoldenFolder[] = BDH_SOURCE_DIR "/tests/golden/tokenizers";

inline std::string ReadGolden(const std::string& name, const std::string& folder = kGoldenFolder) {
  const std::string path = folder + "/" + name + ".gz";
  gzFile file = gzopen(path.c_str(), "rb");
  EXPECT_NE(file, nullptr) << path;
  std::string out;
  char buffer[1 << 16];
  for (int n = 0; file != nullptr && (n = gzread(file, buffer, sizeof buffer)) > 0;) out.append(buffer, n);
  if (file != nullptr) gzclose(file);
  return out;
}

// "texts" that are encoded, or the "corpus" that the tokenizers were trained on.
inline std::vector<std::string> GoldenTexts(const std::string& name = "texts",
                                            const std::string& folder = kGoldenFolder) {
  std::vector<std::string> texts;
  const std::string lines = ReadGolden(name + ".jsonl", folder);
  for (size_t at = 0; at < lines.size();) {
    const size_t end = lines.find('\n', at);
    texts.push_back(nlohmann::json::parse(lines.substr(at, end - at)).get<std::string>());
    at = end + 1;
  }
  return texts;
}

struct GoldenRow {
  std::vector<int32_t> ids, with_specials;
  std::string decoded;
};

// What is in a file of counts, ids and texts.
class GoldenReader {
 public:
  explicit GoldenReader(std::string bytes) : bytes_(std::move(bytes)) {}
  bool done() const { return at_ >= bytes_.size(); }
  std::vector<int32_t> Ids() {
    std::vector<int32_t> ids(Take<uint16_t>());
    for (int32_t& id : ids) id = Take<uint16_t>();
    return ids;
  }
  std::string Text() {
    const auto size = Take<uint32_t>();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

 private:
  template <class T>
  T Take() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  const std::string bytes_;
  size_t at_ = 0;
};

inline std::vector<GoldenRow> GoldenRows(const std::string& kind, const std::string& folder = kGoldenFolder) {
  GoldenReader reader(ReadGolden(kind + "/ids.bin", folder));
  std::vector<GoldenRow> rows;
  while (!reader.done()) {
    GoldenRow& row = rows.emplace_back();
    row.ids = reader.Ids();
    row.with_specials = reader.Ids();
    row.decoded = reader.Text();
  }
  return rows;
}

inline std::shared_ptr<const Tokenizer> GoldenTokenizer(const std::string& kind,
                                                        const std::string& folder = kGoldenFolder) {
  const std::string file = kind.starts_with("spiece") ? "spiece.model" : "tokenizer.json";
  auto loaded = LoadTokenizer(kind, {{file, ReadGolden(kind + "/" + file, folder)}});
  EXPECT_TRUE(loaded.ok()) << kind << ": " << loaded.status();
  return loaded.ok() ? *loaded : nullptr;
}

inline std::string Streamed(const std::shared_ptr<const Tokenizer>& tokenizer,
                            const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id).value();
  return text + decoder.Flush();
}

}  // namespace bdh::tokenizer
