#include "safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::tensorfile {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kDeepest = 2;  // A tensor's shape: an array in an object in the header.

absl::Status HeaderError(std::string_view complaint) {
  return absl::InvalidArgumentError(absl::StrFormat("header %s", complaint));
}

// Watches the parser for what its result no longer shows: keys given twice, and nesting that no header has.
class ParseWatch {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        return Shallow(depth);
      case Json::parse_event_t::array_start:
        return Shallow(depth);
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        return true;
      case Json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get<std::string>()).second) duplicate_ = parsed.get<std::string>();
        return true;
      default:
        return true;
    }
  }

  absl::Status Verdict() const {
    if (too_deep_) return HeaderError("nests deeper than a tensor's shape");
    if (!duplicate_.empty()) return TensorError(duplicate_, "is in the header twice");
    return absl::OkStatus();
  }

 private:
  bool Shallow(int depth) {
    too_deep_ = too_deep_ || depth > kDeepest;
    return depth <= kDeepest;
  }

  std::vector<std::set<std::string>> keys_;  // Of the objects that are open.
  std::string duplicate_;
  bool too_deep_ = false;
};

absl::StatusOr<Json> ParseJson(std::string_view text) {
  if (text.empty() || text[0] != '{') return HeaderError("does not begin with '{': not a safetensors file");
  ParseWatch watch;
  Json json;
  try {
    json = Json::parse(text, std::ref(watch));
  } catch (const Json::exception& error) {  // Also for bytes that are not UTF-8.
    return HeaderError(absl::StrFormat("is not JSON: %s", absl::CHexEscape(error.what())));
  }
  BDH_RETURN_IF_ERROR(watch.Verdict());
  if (!json.is_object()) return HeaderError("is not a JSON object");
  return json;
}

absl::Status ReadMetadata(const Json& object, std::map<std::string, std::string>& metadata) {
  if (!object.is_object()) return HeaderError("has a __metadata__ that is not an object of strings");
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      return HeaderError(
          absl::StrFormat("has a __metadata__ entry %s that is not a string", absl::CHexEscape(key)));
    }
    metadata[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

// Whole numbers from 0 to what int64 holds; nothing else is a size or an offset.
absl::StatusOr<std::vector<int64_t>> ReadNumbers(const Json& tensor, const char* field,
                                                 std::string_view name) {
  const auto found = tensor.find(field);
  if (found == tensor.end() || !found->is_array()) {
    return TensorError(name, absl::StrFormat("has no %s; want an array of whole numbers", field));
  }
  std::vector<int64_t> numbers;
  for (const Json& number : *found) {
    if (!number.is_number_unsigned() || number.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
      return TensorError(name, absl::StrFormat("has %s %s; want whole numbers from 0", field, found->dump()));
    }
    numbers.push_back(number.get<int64_t>());
  }
  return numbers;
}

absl::StatusOr<TensorInfo> ReadTensor(const std::string& name, const Json& json, uint64_t data_bytes) {
  if (!json.is_object()) return TensorError(name, "is not described by an object");
  const auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string())
    return TensorError(name, "has no dtype; want a name such as F32");
  TensorInfo tensor{.name = name, .dtype = dtype->get<std::string>(), .shape = {}};
  BDH_ASSIGN_OR_RETURN(tensor.shape, ReadNumbers(json, "shape", name));
  BDH_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, ReadNumbers(json, "data_offsets", name));
  if (json.size() != 3) return TensorError(name, "has a field besides dtype, shape and data_offsets");
  if (offsets.size() != 2) {
    return TensorError(name, absl::StrFormat("has %d data_offsets; want a begin and an end", offsets.size()));
  }
  const uint64_t begin = offsets[0], end = offsets[1];
  if (begin > end || end > data_bytes) {
    return TensorError(
        name, absl::StrFormat("lies at bytes %d to %d of %d: outside the file, which is cut short or "
                              "lies about it",
                              begin, end, data_bytes));
  }
  BDH_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(name, tensor.dtype, tensor.shape));
  if (size != end - begin) {
    return TensorError(name, absl::StrFormat("takes %d bytes by its shape, but has %d", size, end - begin));
  }
  tensor.offset = begin;
  tensor.size_bytes = size;
  return tensor;
}

// The tensors cover the data: each begins where the one before it ends, and the last ends with the file.
absl::Status CheckCover(const std::vector<TensorInfo>& tensors, uint64_t data_bytes) {
  uint64_t end = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset < end) {
      return TensorError(tensor.name,
                         absl::StrFormat("begins at byte %d, inside another tensor", tensor.offset));
    }
    if (tensor.offset > end) {
      return TensorError(tensor.name,
                         absl::StrFormat("begins at byte %d after a gap of %d that no tensor owns",
                                         tensor.offset, tensor.offset - end));
    }
    end += tensor.size_bytes;
  }
  if (end == data_bytes) return absl::OkStatus();
  return HeaderError(absl::StrFormat("describes %d bytes, but %d follow it", end, data_bytes));
}

}  // namespace

absl::Status TensorError(std::string_view name, std::string_view complaint) {
  const absl::string_view bytes(name.data(), name.size());
  return absl::InvalidArgumentError(absl::StrFormat("tensor %s %s", absl::CHexEscape(bytes), complaint));
}

absl::StatusOr<uint64_t> SizeOf(std::string_view name, std::string_view dtype,
                                const std::vector<int64_t>& shape) {
  const int64_t element = ElementSize(dtype);
  if (element == 0) {
    const absl::string_view bytes(dtype.data(), dtype.size());
    return TensorError(
        name, absl::StrFormat("has dtype %s, which the format does not know", absl::CHexEscape(bytes)));
  }
  int64_t size = element;
  for (int64_t dimension : shape) {
    if (dimension < 0) return TensorError(name, absl::StrFormat("has a dimension of %d", dimension));
    if (__builtin_mul_overflow(size, dimension, &size))
      return TensorError(name, "has a shape too large for any file");
  }
  return static_cast<uint64_t>(size);
}

absl::StatusOr<Header> ParseHeader(std::string_view json, uint64_t data_bytes) {
  BDH_ASSIGN_OR_RETURN(const Json root, ParseJson(json));
  Header header;
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadataKey) {
      BDH_RETURN_IF_ERROR(ReadMetadata(value, header.metadata));
      continue;
    }
    BDH_ASSIGN_OR_RETURN(TensorInfo tensor, ReadTensor(name, value, data_bytes));
    header.tensors.push_back(std::move(tensor));
  }
  // By size where the offset is the same, so that a tensor without bytes does not seem to overlap.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
  });
  BDH_RETURN_IF_ERROR(CheckCover(header.tensors, data_bytes));
  return header;
}

std::string FormatHeader(const Header& header) {
  Json root = Json::object();
  if (!header.metadata.empty()) root[kMetadataKey] = header.metadata;
  for (const TensorInfo& tensor : header.tensors) {
    root[tensor.name] = {{"dtype", tensor.dtype},
                         {"shape", tensor.shape},
                         {"data_offsets", {tensor.offset, tensor.offset + tensor.size_bytes}}};
  }
  std::string text = root.dump();
  text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');
  return text;
}

}  // namespace bdh::tensorfile
