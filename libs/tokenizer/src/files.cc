// Which files make up a tokenizer, and what the small ones among them say.
#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/tokenizer/tokenizer.h"
#include "hf_tokenizer.h"
#include "json_reader.h"

namespace bdh::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFileNames[] = {"tokenizer.json",  "tokenizer_config.json", "special_tokens_map.json",
                                      "tokenizer.model", "spiece.model",          "chat_template.jinja"};

const TokenizerFile* FindFile(const std::vector<TokenizerFile>& files, std::string_view name) {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const auto& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

absl::Status CheckFiles(const std::vector<TokenizerFile>& files) {
  size_t bytes = 0;
  for (const TokenizerFile& file : files) {
    if (!IsTokenizerFile(file.name)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("'%s' is no file of a tokenizer; want tokenizer.json, tokenizer.model or "
                          "spiece.model, and beside it "
                          "tokenizer_config.json, special_tokens_map.json or chat_template.jinja",
                          file.name));
    }
    if (FindFile(files, file.name) != &file) {
      return absl::InvalidArgumentError(absl::StrFormat("%s is given twice", file.name));
    }
    bytes += file.bytes.size();
  }
  if (bytes > kMaxTokenizerBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("the tokenizer's files hold %s; want at most %s",
                                                      FormatBytes(bytes), FormatBytes(kMaxTokenizerBytes)));
  }
  return absl::OkStatus();
}

// A token is written as its text or as an object that has it.
absl::Status ReadTokenText(const JsonPlace& place, std::optional<std::string>& text) {
  if (place.is_null()) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(text, place.json().is_object() ? place.At("content").String() : place.String());
  return absl::OkStatus();
}

// A text, or a list of named ones of which the default is taken.
absl::Status ReadChatTemplate(const JsonPlace& place, std::string& out) {
  if (place.is_null()) return absl::OkStatus();
  if (!place.json().is_array()) {
    BDH_ASSIGN_OR_RETURN(out, place.String());
    return absl::OkStatus();
  }
  for (size_t i = 0; i < place.json().size(); ++i) {
    if (place.At(i).At("name").json() != "default") continue;
    BDH_ASSIGN_OR_RETURN(out, place.At(i).At("template").String());
  }
  return absl::OkStatus();
}

}  // namespace

bool IsTokenizerFile(std::string_view name) {
  return std::find(std::begin(kFileNames), std::end(kFileNames), name) != std::end(kFileNames);
}

std::string HashOf(const std::vector<TokenizerFile>& files) {
  std::vector<std::string> parts;
  for (const TokenizerFile& file : files) parts.push_back(Sha256Hex(file.bytes) + " " + file.name + "\n");
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.substr(65) < b.substr(65); });
  std::string all;
  for (const std::string& part : parts) all += part;
  return Sha256Hex(all);
}

absl::StatusOr<TokenizerSettings> ReadSettings(const std::vector<TokenizerFile>& files) {
  TokenizerSettings settings;
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const TokenizerFile* const file = FindFile(files, name);
    if (file == nullptr) continue;
    BDH_ASSIGN_OR_RETURN(const Json json, ParseJson(name, file->bytes));
    const JsonPlace root(json, absl::StrFormat("%s: ", name));
    BDH_RETURN_IF_ERROR(ReadTokenText(root.At("eos_token"), settings.end_of_text));
    BDH_RETURN_IF_ERROR(ReadTokenText(root.At("bos_token"), settings.begin_of_text));
    BDH_RETURN_IF_ERROR(ReadChatTemplate(root.At("chat_template"), settings.chat_template));
    BDH_ASSIGN_OR_RETURN(settings.add_bos, root.At("add_bos_token").Bool(settings.add_bos));
    BDH_ASSIGN_OR_RETURN(settings.add_eos, root.At("add_eos_token").Bool(settings.add_eos));
  }
  if (const TokenizerFile* const file = FindFile(files, "chat_template.jinja"); file != nullptr) {
    settings.chat_template = file->bytes;
  }
  if (!IsUtf8(settings.chat_template)) {
    return absl::InvalidArgumentError("chat_template.jinja: is not valid UTF-8");
  }
  return settings;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(std::string name,
                                                               std::vector<TokenizerFile> files) {
  BDH_RETURN_IF_ERROR(CheckFiles(files));
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  BDH_ASSIGN_OR_RETURN(TokenizerSettings settings, ReadSettings(files));
  if (const TokenizerFile* const json = FindFile(files, "tokenizer.json"); json != nullptr) {
    const std::string text = json->bytes;
    auto tokenizer = std::make_shared<HfTokenizer>(std::move(name), std::move(files), std::move(settings));
    BDH_RETURN_IF_ERROR(tokenizer->Read(text));
    return tokenizer;
  }
  for (const char* model : {"tokenizer.model", "spiece.model"}) {
    if (const TokenizerFile* const file = FindFile(files, model); file != nullptr) {
      const TokenizerFile copy = *file;
      return LoadSentencePiece(std::move(name), std::move(files), copy, std::move(settings));
    }
  }
  return absl::InvalidArgumentError(
      "there is neither tokenizer.json nor tokenizer.model nor spiece.model; give one of them");
}

absl::StatusOr<std::vector<TokenizerFile>> ReadTokenizerFiles(const std::string& folder) {
  std::vector<TokenizerFile> files;
  for (const char* name : kFileNames) {
    const std::string path = folder + "/" + name;
    std::error_code error;
    const uint64_t bytes = fs::file_size(path, error);
    if (error == std::errc::no_such_file_or_directory) continue;
    if (error) return ErrnoStatus(error.value(), absl::StrFormat("read %s", path));
    if (bytes > kMaxTokenizerBytes) {
      return absl::InvalidArgumentError(absl::StrFormat("%s holds %s; want at most %s", path,
                                                        FormatBytes(bytes), FormatBytes(kMaxTokenizerBytes)));
    }
    BDH_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
    files.push_back({name, std::move(text)});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

}  // namespace bdh::tokenizer
