// Words the tests of documents share: files put into a folder, and all that is read out of them.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/documents/document_source.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::documents {

struct Got {
  std::string name;
  std::string text;
  std::optional<double> score;
  Position position, next;
};

// All documents from here to the end.
inline absl::StatusOr<std::vector<Got>> ReadAll(DocumentSource& source) {
  std::vector<Got> out;
  while (true) {
    BDH_ASSIGN_OR_RETURN(const Document* const document, source.Next());
    if (document == nullptr) return out;
    Got got{document->name, "", document->score, document->position, {}};
    while (true) {
      BDH_ASSIGN_OR_RETURN(const std::string_view piece, source.Read());
      if (piece.empty()) break;
      EXPECT_LE(piece.size(), DocumentSource::kPieceBytes);
      got.text += piece;
    }
    if (document->known_bytes >= 0) {
      EXPECT_EQ(document->known_bytes, static_cast<int64_t>(got.text.size()));
    }
    got.next = source.next_position();
    out.push_back(std::move(got));
  }
}

inline std::vector<std::string> Texts(const std::vector<Got>& documents) {
  std::vector<std::string> out;
  for (const Got& document : documents) out.push_back(document.text);
  return out;
}

inline std::string Gzip(std::string_view text) {
  z_stream state = {};
  EXPECT_EQ(deflateInit2(&state, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&state, text.size()), '\0');
  state.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
  state.avail_in = static_cast<uInt>(text.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&state, Z_FINISH), Z_STREAM_END);
  out.resize(state.total_out);
  deflateEnd(&state);
  return out;
}

inline std::string Zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  out.resize(ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return out;
}

// A stream of given pieces.
class PiecesStream : public ByteStream {
 public:
  PiecesStream(std::string text, size_t piece) : text_(std::move(text)), piece_(piece) {}
  absl::StatusOr<std::string_view> Read() override {
    const std::string_view out = std::string_view(text_).substr(at_, piece_);
    at_ += out.size();
    return out;
  }

 private:
  const std::string text_;
  const size_t piece_;
  size_t at_ = 0;
};

class DocumentsTest : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, std::string_view text) {
    const std::string path = folder_.path() + "/" + name;
    EXPECT_TRUE(MakeDirectories(std::filesystem::path(path).parent_path()).ok());
    EXPECT_TRUE(WriteFileAtomically(path, text).ok());
    return path;
  }

  absl::StatusOr<std::unique_ptr<DocumentSource>> Open(const std::vector<std::string>& paths,
                                                       const Options& options = {},
                                                       const Position& from = {}) {
    BDH_ASSIGN_OR_RETURN(SourceList list, ListSources(paths));
    return DocumentSource::Open(std::move(list.files), options, from);
  }

  absl::StatusOr<std::vector<Got>> Read(const std::vector<std::string>& paths, const Options& options = {}) {
    BDH_ASSIGN_OR_RETURN(const auto source, Open(paths, options));
    BDH_ASSIGN_OR_RETURN(auto documents, ReadAll(*source));
    report_ = source->report();
    return documents;
  }

  // As a stream that comes in pieces.
  absl::StatusOr<std::vector<Got>> ReadStream(const std::string& name, const std::string& text, size_t piece,
                                              const Options& options = {}) {
    bool given = false;
    BDH_ASSIGN_OR_RETURN(const auto source,
                         DocumentSource::OpenStreams(
                             [&]() -> absl::StatusOr<std::optional<NamedStream>> {
                               if (std::exchange(given, true)) return std::nullopt;
                               return NamedStream{name, std::make_unique<PiecesStream>(text, piece)};
                             },
                             options));
    BDH_ASSIGN_OR_RETURN(auto documents, ReadAll(*source));
    report_ = source->report();
    return documents;
  }

  TempDirectory folder_;
  Report report_;
};

}  // namespace bdh::documents
