// bdhctl data add, tokenize: text into data sets.
#include <filesystem>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/data_commands.h"
#include "services/bdhctl/proto_json.h"
#include "services/bdhctl/transfer.h"

namespace bdh::bdhctl {
namespace {

using CreateStream = grpc::ClientReaderWriter<v1::CreateDatasetRequest, v1::CreateDatasetResponse>;

constexpr absl::Duration kUploadTimeout = absl::Hours(24);

const std::map<std::string, v1::Order> kOrders = {
    {"random", v1::ORDER_RANDOM}, {"epoch", v1::ORDER_EPOCH},   {"sequential", v1::ORDER_SEQUENTIAL},
    {"lanes", v1::ORDER_LANES},   {"length", v1::ORDER_LENGTH}, {"score", v1::ORDER_SCORE}};
const std::map<std::string, v1::SplitRule> kSplitRules = {{"tail", v1::SPLIT_RULE_TAIL},
                                                          {"document", v1::SPLIT_RULE_DOCUMENT}};

struct AddFlags {
  MeshFlags mesh;
  std::string name;
  std::vector<std::string> files, server_paths, parts;
  std::string tokenizer;
  double validation_fraction = -1;
  v1::SplitRule split_rule = v1::SPLIT_RULE_UNSPECIFIED;
  v1::Order order = v1::ORDER_UNSPECIFIED;
  bool end_of_text = false, no_end_of_text = false, streaming = false;
  v1::DocumentOptions documents;
};

struct TokenizeFlags {
  MeshFlags mesh;
  std::string from, name, tokenizer;
};

bool IsRemote(const std::string& path) {
  return absl::StartsWith(path, "hf://") || absl::StartsWith(path, "https://") ||
         absl::StartsWith(path, "http://");
}

// Shows what the daemon says, beside the sending if there is any, so that neither side waits for the other.
v1::Dataset ReadAnswers(CreateStream& stream, bool show_progress) {
  v1::Dataset dataset;
  ByteBar bar("reading", 0);
  v1::CreateDatasetResponse response;
  while (stream.Read(&response)) {
    if (response.has_dataset()) dataset = response.dataset();
    if (!show_progress || !response.has_progress()) continue;
    const v1::CreateDatasetProgress& at = response.progress();
    const std::string note = at.documents() > 0
                                 ? absl::StrFormat("%s documents, %s tokens", FormatCount(at.documents()),
                                                   FormatCount(at.tokens_out()))
                                 : std::string();
    bar.Show(at.phase().empty() ? "reading" : at.phase(), at.bytes_in(), at.bytes_total(), note);
  }
  return dataset;
}

absl::StatusOr<v1::DatasetPart> ParsePart(const std::string& text) {
  v1::DatasetPart part;
  const size_t at = text.find('=');
  part.set_dataset(text.substr(0, at));
  if (at == std::string::npos) return part;
  double weight = 0;
  if (!absl::SimpleAtod(text.substr(at + 1), &weight)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--part %s: '%s' is not a number; want NAME or NAME=WEIGHT", text, text.substr(at + 1)));
  }
  part.set_weight(weight);
  return part;
}

absl::StatusOr<v1::DatasetSpec> MakeSpec(const AddFlags& flags, const Mesh& mesh) {
  v1::DatasetSpec spec;
  spec.set_name(flags.name);
  spec.set_tokenizer(flags.tokenizer);
  if (flags.validation_fraction >= 0) spec.set_validation_fraction(flags.validation_fraction);
  spec.set_split_rule(flags.split_rule);
  spec.set_order(flags.order);
  if (flags.end_of_text || flags.no_end_of_text) spec.set_end_of_text(flags.end_of_text);
  spec.set_streaming(flags.streaming);
  if (flags.documents.ByteSizeLong() > 0) *spec.mutable_documents() = flags.documents;
  for (const std::string& part : flags.parts) {
    BDH_ASSIGN_OR_RETURN(*spec.add_parts(), ParsePart(part));
  }
  for (const std::string& path : flags.server_paths) {
    // On this machine a path means what it means in this folder.
    std::error_code ignored;
    const bool local = mesh.folder.has_value() && !IsRemote(path);
    spec.add_paths(local ? std::filesystem::absolute(path, ignored).string() : path);
  }
  for (const std::string& file : flags.files) {
    if (IsRemote(file)) spec.add_paths(file);
  }
  // Nothing but a name: one of the well-known sets.
  if (flags.files.empty() && flags.server_paths.empty() && flags.parts.empty()) spec.add_paths(flags.name);
  return spec;
}

// Sends the spec, then what `send` has; false from it means that the daemon ended the stream.
using SendText = std::function<absl::StatusOr<bool>(CreateStream& stream)>;
absl::StatusOr<v1::Dataset> Create(const mesh::Peer& loader, const v1::DatasetSpec& spec,
                                   const SendText& send) {
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto context = loader.NewContext(kUploadTimeout);
  const auto stream = stub->CreateDataset(context.get());
  v1::Dataset dataset;
  std::thread reader([&] { dataset = ReadAnswers(*stream, /*show_progress=*/send == nullptr); });
  v1::CreateDatasetRequest first;
  *first.mutable_spec() = spec;
  absl::StatusOr<bool> sent = stream->Write(first);
  if (*sent && send != nullptr) sent = send(*stream);
  // What could not be read here must not be kept as if it were whole.
  if (!sent.ok()) context->TryCancel();
  stream->WritesDone();
  reader.join();
  const absl::Status outcome = loader.Outcome(stream->Finish());
  BDH_RETURN_IF_ERROR(sent.status());
  BDH_RETURN_IF_ERROR(outcome);
  return dataset;
}

bool SendChunk(CreateStream& stream, const std::string& document, std::string_view piece) {
  v1::CreateDatasetRequest request;
  request.mutable_chunk()->set_document(document);
  request.mutable_chunk()->set_data(piece.data(), piece.size());
  return stream.Write(request);
}

absl::StatusOr<int> RunAdd(const AddFlags& flags) {
  std::vector<std::string> local;
  for (const std::string& file : flags.files) {
    if (!IsRemote(file)) local.push_back(file);
  }
  const bool elsewhere = local.size() < flags.files.size() || !flags.server_paths.empty();
  if (!local.empty() + elsewhere + !flags.parts.empty() > 1) {
    return absl::InvalidArgumentError(
        "the text comes from files that are sent, from sources that the data-loader reads, or from parts: "
        "name "
        "one kind of them");
  }
  BDH_ASSIGN_OR_RETURN(const std::vector<InputFile> files, OpenInputs(local));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  BDH_ASSIGN_OR_RETURN(const v1::DatasetSpec spec, MakeSpec(flags, mesh));
  const mesh::Peer loader = mesh.DataLoader();
  SendText send;
  if (!files.empty()) {
    send = [&](CreateStream& stream) {
      return SendInputs(files, [&](const std::string& file, std::string_view piece) {
        return SendChunk(stream, file, piece);
      });
    };
  }
  const auto dataset = Create(loader, spec, send);
  const bool name_alone = flags.files.empty() && flags.server_paths.empty() && flags.parts.empty();
  if (name_alone && absl::IsNotFound(dataset.status())) {
    return absl::InvalidArgumentError(
        absl::StrFormat("name files to send (or - for standard input), or --server-path, or --part; a name "
                        "alone is that of a "
                        "well-known set, and %s",
                        dataset.status().message()));
  }
  BDH_RETURN_IF_ERROR(dataset.status());
  PrintDataset(*dataset, flags.mesh.json);
  return kExitOk;
}

// The text of one data set, out of it and in again as tokens of another tokenizer.
absl::StatusOr<int> RunTokenize(const TokenizeFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  v1::DatasetSpec spec;
  spec.set_name(flags.name);
  spec.set_tokenizer(flags.tokenizer);
  spec.mutable_documents()->set_format("text");
  const auto lookup = v1::DatasetService::NewStub(loader.channel());
  v1::ExportDatasetRequest request;
  request.set_dataset(flags.from);
  absl::Status exported;
  BDH_ASSIGN_OR_RETURN(const v1::Dataset dataset,
                       Create(loader, spec, [&](CreateStream& stream) -> absl::StatusOr<bool> {
                         const auto context = loader.NewContext(kUploadTimeout);
                         const auto reader = lookup->ExportDataset(context.get(), request);
                         ByteBar bar("tokenizing", 0);
                         int64_t sent = 0;
                         bool open = true;
                         for (v1::TextChunk chunk; open && reader->Read(&chunk);) {
                           open = SendChunk(stream, chunk.document(), chunk.data());
                           bar.Show(sent += static_cast<int64_t>(chunk.data().size()));
                         }
                         if (!open) context->TryCancel();
                         const absl::Status outcome = loader.Outcome(reader->Finish());
                         if (open && !outcome.ok()) return outcome;
                         return open;
                       }));
  PrintDataset(dataset, flags.mesh.json);
  return kExitOk;
}

void DefineDocuments(CLI::App& command, v1::DocumentOptions& documents) {
  const auto text = [&](const char* name, std::string* (v1::DocumentOptions::*field)(), const char* help,
                        const char* type) {
    command
        .add_option_function<std::string>(
            name, [&documents, field](const std::string& value) { *(documents.*field)() = value; }, help)
        ->type_name(type)
        ->group("Documents");
  };
  text("--format", &v1::DocumentOptions::mutable_format,
       "text, jsonl, json, csv, tsv, parquet, markdown or html (default: by name and first bytes)", "FORMAT");
  text("--text-column", &v1::DocumentOptions::mutable_text_column, "Column or field with the text", "NAME");
  text("--score-column", &v1::DocumentOptions::mutable_score_column, "Column with a number to order by",
       "NAME");
  text("--split-text", &v1::DocumentOptions::mutable_split_text,
       "Cut text files at: file, blank_line, line or separator", "WHERE");
  text("--separator", &v1::DocumentOptions::mutable_separator, "What separates documents", "TEXT");
  text("--utf8", &v1::DocumentOptions::mutable_utf8, "What is not UTF-8: keep, repair, drop or refuse",
       "WHAT");
  text("--hub-split", &v1::DocumentOptions::mutable_hub_split, "Split of a data set on the hub", "NAME");
  const auto number = [&](const char* name, void (v1::DocumentOptions::*set)(int64_t), const char* help) {
    command
        .add_option_function<int64_t>(
            name, [&documents, set](int64_t value) { (documents.*set)(value); }, help)
        ->group("Documents");
  };
  number("--min-bytes", &v1::DocumentOptions::set_min_bytes, "Drop shorter documents");
  number("--max-bytes", &v1::DocumentOptions::set_max_bytes, "Drop longer documents");
  command
      .add_option_function<double>(
          "--min-word-share", [&documents](double value) { documents.set_min_word_share(value); },
          "Drop documents with a smaller share of bytes in letters and digits")
      ->type_name("0..1")
      ->check(CLI::Range(0.0, 1.0))
      ->group("Documents");
  const auto texts = [&](const char* name, void (v1::DocumentOptions::*add)(const std::string&),
                         const char* help) {
    command
        .add_option_function<std::vector<std::string>>(
            name,
            [&documents, add](const std::vector<std::string>& values) {
              for (const std::string& value : values) (documents.*add)(value);
            },
            help)
        ->type_name("TEXT")
        ->allow_extra_args(false)
        ->group("Documents");
  };
  texts("--must-contain", &v1::DocumentOptions::add_must_contain,
        "Drop documents without it; may be repeated, then all are wanted");
  texts("--must-not-contain", &v1::DocumentOptions::add_must_not_contain,
        "Drop documents with it; may be repeated");
  const auto flag = [&](const char* name, void (v1::DocumentOptions::*set)(bool), const char* help) {
    command
        .add_flag_callback(
            name, [&documents, set] { (documents.*set)(true); }, help)
        ->group("Documents");
  };
  flag("--drop-too-long", &v1::DocumentOptions::set_drop_too_long,
       "Drop rows longer than data_loader.max_document_bytes instead of refusing them");
  flag("--dedupe", &v1::DocumentOptions::set_deduplicate, "Drop documents that were there before");
  flag("--nfc", &v1::DocumentOptions::set_nfc, "Unicode's composed form");
  flag("--unix-line-ends", &v1::DocumentOptions::set_unix_line_ends, "Make CR LF and CR alone LF");
  flag("--csv-no-header", &v1::DocumentOptions::set_csv_no_header, "The first row is text, too");
}

void DefineAdd(CLI::App& command, AddFlags& flags) {
  command.add_option("name", flags.name, "1 to 64 of [a-z0-9._-]; alone, that of a well-known set")
      ->required()
      ->type_name("NAME");
  command
      .add_option("files", flags.files,
                  "Files to send (- is standard input), or hf://datasets/OWNER/NAME or https://... to fetch")
      ->type_name("FILE");
  command
      .add_option(
          "--server-path", flags.server_paths,
          "Instead of FILE: a file, folder or pattern that the data-loader reads itself; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  command
      .add_option("--part", flags.parts, "Instead of text: another data set and its weight; may be repeated")
      ->type_name("NAME[=WEIGHT]")
      ->allow_extra_args(false);
  command.add_option("--tokenizer", flags.tokenizer, "How text becomes tokens (default: byte)")
      ->type_name("NAME");
  command
      .add_option("--validation-fraction", flags.validation_fraction,
                  "Share kept for validation (default: 0.1)")
      ->type_name("0..0.5")
      ->check(CLI::Range(0.0, 0.5));
  command
      .add_option(
          "--split-rule", flags.split_rule,
          "What is kept for validation: the tail of every document, or whole ones (default: whole ones "
          "where there are 100 or more)")
      ->type_name("RULE")
      ->transform(CLI::CheckedTransformer(kSplitRules));
  command
      .add_option(
          "--order", flags.order,
          "In which order batches come: random, epoch, sequential, lanes, length or score (default: random)")
      ->type_name("ORDER")
      ->transform(CLI::CheckedTransformer(kOrders));
  auto* const end =
      command.add_flag("--end-of-text", flags.end_of_text,
                       "End each document with the tokenizer's token for that (default: if it has one)");
  command.add_flag("--no-end-of-text", flags.no_end_of_text, "Join documents without it")->excludes(end);
  command.add_flag("--streaming", flags.streaming,
                   "Serve it while it is tokenized; for sources that the data-loader reads");
  DefineDocuments(command, flags.documents);
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "The same name with the same text again is fine; with other text it is refused. What was broken off "
      "is\n"
      "gone on with.\n\n"
      "Examples:\n"
      "  bdhctl data add books a.txt b.jsonl.gz\n"
      "  bible -f 'gen1:1-rev22:21' | bdhctl data add kjv -\n"
      "  bdhctl data add big --server-path '/srv/corpus/**/*.parquet' --tokenizer mine --dedupe\n"
      "  bdhctl data add stories hf://datasets/roneneldan/TinyStories --streaming\n"
      "  bdhctl data add tiny-shakespeare\n"
      "  bdhctl data add mix --part books=3 --part kjv=1 --order epoch");
}

void DefineTokenize(CLI::App& command, TokenizeFlags& flags) {
  command.add_option("from", flags.from, "The data set whose text is taken")->required()->type_name("FROM");
  command.add_option("name", flags.name, "The one that is made")->required()->type_name("NAME");
  command.add_option("--tokenizer", flags.tokenizer, "How text becomes tokens")
      ->required()
      ->type_name("NAME");
  AddMeshFlags(command, flags.mesh);
}

}  // namespace

void PrintDataset(const v1::Dataset& dataset, bool json) {
  if (json) return PrintJson(ToJson(dataset));
  if (!dataset.complete()) {
    std::cout << absl::StrFormat("Data set %s is being tokenized (%s) and can be trained on from now\n",
                                 dataset.name(), dataset.tokenizer());
    return;
  }
  std::cout << absl::StrFormat(
      "Data set %s: %d documents, %s, %s tokens to train on and %s to validate with (%s)\n", dataset.name(),
      dataset.documents(), FormatBytes(dataset.bytes_in()), FormatCount(dataset.train_tokens()),
      FormatCount(dataset.validation_tokens()), dataset.tokenizer());
}

void AddDataMaking(CLI::App& group, Invocation& invocation) {
  AddCommand<AddFlags>(group, invocation, "add", "Make a data set out of text", DefineAdd, RunAdd);
  AddCommand<TokenizeFlags>(group, invocation, "tokenize", "Make a data set of another one's text",
                            DefineTokenize, RunTokenize);
}

void AddDataCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("data", "Data sets: text that became tokens");
  group->require_subcommand(1);
  AddDataMaking(*group, invocation);
  AddDataLooking(*group, invocation);
}

}  // namespace bdh::bdhctl
