#include "services/data_loader/tokenizer_service.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/corpus/document_text.h"
#include "bdh/tokenizer/trainer.h"

namespace bdh::data_loader {
namespace {

using TrainStream = grpc::ServerReaderWriter<v1::TrainTokenizerResponse, v1::TrainTokenizerRequest>;
using tokenizer::Kind;

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);
// Text is given to the trainer in lines, joined up to this; a longer line is cut.
constexpr size_t kTextBytes = size_t{1} << 20;

v1::TokenizerKind ToProto(Kind kind) {
  switch (kind) {
    case Kind::kByte:
      return v1::TOKENIZER_KIND_BYTE;
    case Kind::kBpe:
      return v1::TOKENIZER_KIND_BPE;
    case Kind::kWordPiece:
      return v1::TOKENIZER_KIND_WORDPIECE;
    case Kind::kUnigram:
      return v1::TOKENIZER_KIND_UNIGRAM;
  }
  return v1::TOKENIZER_KIND_UNSPECIFIED;
}

v1::TokenizerInfo ToProto(const tokenizer::Library::Entry& entry) {
  const tokenizer::Tokenizer& tokenizer = *entry.tokenizer;
  v1::TokenizerInfo info;
  info.set_name(std::string(tokenizer.name()));
  info.set_kind(ToProto(tokenizer.kind()));
  info.set_vocab_size(tokenizer.vocab_size());
  info.set_hash(tokenizer.hash());
  const int64_t ms = absl::ToUnixMillis(entry.created);
  info.mutable_create_time()->set_seconds(ms / 1000);
  info.mutable_create_time()->set_nanos(static_cast<int32_t>(ms % 1000 * 1000000));
  for (const tokenizer::SpecialToken& special : tokenizer.special_tokens()) {
    info.add_special_tokens(special.text);
    info.add_special_ids(special.id);
  }
  info.set_chat_template(tokenizer.chat_template());
  return info;
}

absl::StatusOr<tokenizer::TrainerOptions> ToTrainerOptions(const v1::TrainTokenizerSpec& spec) {
  tokenizer::TrainerOptions options;
  if (spec.kind() == v1::TOKENIZER_KIND_BPE || spec.kind() == v1::TOKENIZER_KIND_UNSPECIFIED) {
    options.kind = Kind::kBpe;
  } else if (spec.kind() == v1::TOKENIZER_KIND_WORDPIECE) {
    options.kind = Kind::kWordPiece;
  } else if (spec.kind() == v1::TOKENIZER_KIND_UNIGRAM) {
    options.kind = Kind::kUnigram;
  } else {
    return absl::InvalidArgumentError("kind cannot be trained; want BPE, WORDPIECE or UNIGRAM");
  }
  options.vocab_size = spec.vocab_size();
  options.special_tokens = {spec.special_tokens().begin(), spec.special_tokens().end()};
  options.split = spec.split();
  options.min_frequency = spec.min_frequency();
  return options;
}

// Gives text to the trainer so that no word is cut, and tells the client how far it is.
class TrainingText {
 public:
  TrainingText(tokenizer::TokenizerTrainer& trainer, const grpc::ServerContext& context, TrainStream& stream,
               int64_t bytes_total, int vocab_size)
      : trainer_(trainer), context_(context), stream_(stream) {
    progress_.set_bytes_total(bytes_total);
    progress_.set_vocab_size_wanted(vocab_size);
  }

  absl::Status Add(std::string_view piece) {
    text_.append(piece);
    if (text_.size() < kTextBytes) return absl::OkStatus();
    const size_t line = text_.rfind('\n');
    const size_t end = line == std::string::npos ? text_.size() : line + 1;
    trainer_.Add(std::string_view(text_).substr(0, end));
    text_.erase(0, end);
    return Report({.phase = "reading", .bytes_in = trainer_.bytes_in()}) ? absl::OkStatus() : Gone();
  }

  void EndDocument() {
    if (!text_.empty()) trainer_.Add(text_);
    text_.clear();
  }

  // False: the client is gone.
  bool Report(const tokenizer::TrainerProgress& at) {
    if (context_.IsCancelled()) return false;
    if (absl::Now() < next_) return true;
    next_ = absl::Now() + kProgressInterval;
    progress_.set_phase(std::string(at.phase));
    progress_.set_bytes_in(trainer_.bytes_in());
    progress_.set_vocab_size(at.vocab_size);
    v1::TrainTokenizerResponse response;
    *response.mutable_progress() = progress_;
    return stream_.Write(response);
  }

  static absl::Status Gone() { return absl::CancelledError("the client went away; nothing was kept"); }

 private:
  tokenizer::TokenizerTrainer& trainer_;
  const grpc::ServerContext& context_;
  TrainStream& stream_;
  v1::TrainTokenizerProgress progress_;
  std::string text_;
  absl::Time next_ = absl::Now();
};

absl::Status ReadSource(documents::DocumentSource& source, TrainingText& text) {
  BDH_RETURN_IF_ERROR(ReadAll(source, {.begin =
                                           [&](const documents::Document&) {
                                             text.EndDocument();
                                             return absl::OkStatus();
                                           },
                                       .append = [&](std::string_view piece) { return text.Add(piece); }}));
  text.EndDocument();
  return absl::OkStatus();
}

absl::Status ReadDataset(const corpus::DatasetStore& store, const std::string& name, TrainingText& text) {
  BDH_ASSIGN_OR_RETURN(const auto dataset, store.Get(name));
  if (!dataset->complete() || !dataset->parts().empty()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "data set '%s' has no text of its own, or not all of it yet; name one that is complete", name));
  }
  BDH_ASSIGN_OR_RETURN(const auto reader, corpus::DocumentText::Create(dataset, store));
  for (int64_t document = 0; document < dataset->info().documents; ++document) {
    // Of the validation split nothing is learnt.
    BDH_RETURN_IF_ERROR(reader.Read(document, {corpus::Split::kTrain}, kTextBytes,
                                    [&](std::string_view piece) { return text.Add(piece); }));
    text.EndDocument();
  }
  return absl::OkStatus();
}

}  // namespace

grpc::Status Tokenizers::TrainTokenizer(grpc::ServerContext* context, TrainStream* stream) {
  return gate_.Run(*context, "TrainTokenizer", [&]() -> absl::Status {
    if (training_.exchange(true)) {
      return absl::ResourceExhaustedError("another tokenizer is being trained; try again when that is done");
    }
    const absl::Cleanup done = [&] { training_ = false; };
    return Train(*context, *stream);
  });
}

absl::Status Tokenizers::Train(const grpc::ServerContext& context, TrainStream& stream) {
  v1::TrainTokenizerRequest first;
  if (!stream.Read(&first) || !first.has_spec()) {
    return absl::InvalidArgumentError("the first message must hold spec");
  }
  const v1::TrainTokenizerSpec spec = first.spec();
  if (!IsResourceName(spec.name())) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "'%s' cannot name a tokenizer; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit",
        spec.name()));
  }
  if (spec.paths_size() > 0 && !spec.dataset().empty()) {
    return absl::InvalidArgumentError("the spec names paths and a data set; name one of them");
  }
  BDH_ASSIGN_OR_RETURN(const auto options, ToTrainerOptions(spec));
  BDH_ASSIGN_OR_RETURN(const auto trainer, tokenizer::TokenizerTrainer::Create(options));
  Sources sources;
  const std::vector<std::string> paths = {spec.paths().begin(), spec.paths().end()};
  BDH_ASSIGN_OR_RETURN(
      sources, FindSources(paths, {}, limits_, [&](int64_t, int64_t) { return !context.IsCancelled(); }));
  TrainingText text(*trainer, context, stream, sources.total_bytes(), spec.vocab_size());
  v1::TrainTokenizerRequest request;
  if (!spec.dataset().empty()) {
    BDH_RETURN_IF_ERROR(ReadDataset(store_, spec.dataset(), text));
  } else if (!paths.empty()) {
    BDH_ASSIGN_OR_RETURN(const auto source, documents::DocumentSource::Open(sources.files, sources.options));
    BDH_RETURN_IF_ERROR(ReadSource(*source, text));
  } else {
    const NextChunk next = [&]() -> absl::StatusOr<const v1::TextChunk*> {
      if (!stream.Read(&request)) return nullptr;
      if (request.has_chunk()) return &request.chunk();
      return absl::InvalidArgumentError("after the first message every message must hold a chunk");
    };
    BDH_ASSIGN_OR_RETURN(const auto source, OpenChunks(next, sources.options));
    BDH_RETURN_IF_ERROR(ReadSource(*source, text));
  }
  if (context.IsCancelled()) return TrainingText::Gone();
  BDH_ASSIGN_OR_RETURN(
      auto files, trainer->Finish([&](const tokenizer::TrainerProgress& at) { return text.Report(at); }));
  BDH_RETURN_IF_ERROR(library_.Add(spec.name(), std::move(files)).status());
  BDH_ASSIGN_OR_RETURN(const auto entry, library_.Get(spec.name()));
  BDH_LOG(INFO) << "tokenizer trained name=" << spec.name() << " vocabulary=" << entry.tokenizer->vocab_size()
                << " bytes=" << trainer->bytes_in() << " forgotten_words=" << trainer->forgotten_words();
  v1::TrainTokenizerResponse last;
  *last.mutable_tokenizer() = ToProto(entry);
  stream.Write(last);  // Who does not hear it asks again: the same content is OK twice.
  return absl::OkStatus();
}

grpc::Status Tokenizers::ImportTokenizer(grpc::ServerContext* context,
                                         const v1::ImportTokenizerRequest* request,
                                         v1::ImportTokenizerResponse* response) {
  return gate_.Run(*context, "ImportTokenizer", [&]() -> absl::Status {
    std::vector<tokenizer::TokenizerFile> files;
    for (const v1::TokenizerFile& file : request->files()) files.push_back({file.name(), file.data()});
    BDH_RETURN_IF_ERROR(library_.Add(request->name(), std::move(files)).status());
    BDH_ASSIGN_OR_RETURN(const auto entry, library_.Get(request->name()));
    *response->mutable_tokenizer() = ToProto(entry);
    return absl::OkStatus();
  });
}

grpc::Status Tokenizers::ExportTokenizer(grpc::ServerContext* context,
                                         const v1::ExportTokenizerRequest* request,
                                         v1::ExportTokenizerResponse* response) {
  return gate_.Run(*context, "ExportTokenizer", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto found, library_.Find(request->name()));
    for (const tokenizer::TokenizerFile& file : found->files()) {
      v1::TokenizerFile& wire = *response->add_files();
      wire.set_name(file.name);
      wire.set_data(file.bytes);
    }
    return absl::OkStatus();
  });
}

grpc::Status Tokenizers::ListTokenizers(grpc::ServerContext* context, const v1::ListTokenizersRequest*,
                                        v1::ListTokenizersResponse* response) {
  return gate_.Run(*context, "ListTokenizers", [&] {
    for (const auto& entry : library_.List()) *response->add_tokenizers() = ToProto(entry);
    return absl::OkStatus();
  });
}

std::vector<std::string> Tokenizers::DatasetsOf(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& dataset : store_.List()) {
    if (dataset->info().tokenizer == name) names.push_back(dataset->info().name);
  }
  return names;
}

grpc::Status Tokenizers::DescribeTokenizer(grpc::ServerContext* context,
                                           const v1::DescribeTokenizerRequest* request,
                                           v1::DescribeTokenizerResponse* response) {
  return gate_.Run(*context, "DescribeTokenizer", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const auto entry, library_.Get(request->name()));
    *response->mutable_tokenizer() = ToProto(entry);
    for (const std::string& name : DatasetsOf(std::string(entry.tokenizer->name())))
      response->add_datasets(name);
    return absl::OkStatus();
  });
}

grpc::Status Tokenizers::DeleteTokenizer(grpc::ServerContext* context,
                                         const v1::DeleteTokenizerRequest* request,
                                         v1::DeleteTokenizerResponse*) {
  return gate_.Run(*context, "DeleteTokenizer", [&]() -> absl::Status {
    // A damaged one may go, too.
    if (const auto found = library_.Find(request->name()); absl::IsNotFound(found.status()))
      return found.status();
    if (const auto used = DatasetsOf(request->name()); !used.empty() && request->name() != "byte") {
      return absl::FailedPreconditionError(
          absl::StrFormat("tokenizer '%s' is that of data sets %s; delete them first", request->name(),
                          absl::StrJoin(used, ", ")));
    }
    BDH_RETURN_IF_ERROR(library_.Delete(request->name()));
    BDH_LOG(INFO) << "tokenizer deleted name=" << request->name();
    return absl::OkStatus();
  });
}

}  // namespace bdh::data_loader
