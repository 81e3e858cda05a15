#include "pickle.h"

#include <bit>
#include <limits>
#include <unordered_map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "little_endian.h"

namespace bdh::tensorfile {
namespace {

// The opcodes, by Python's names (pickletools.py).
enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

// Values may be recalled any number of times, so what is copied on use must be small.
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxAxes = 32;

constexpr std::pair<std::string_view, std::string_view> kStorageTypes[] = {
    {"torch FloatStorage", "F32"},  {"torch HalfStorage", "F16"}, {"torch BFloat16Storage", "BF16"},
    {"torch DoubleStorage", "F64"}, {"torch LongStorage", "I64"}, {"torch IntStorage", "I32"},
    {"torch ShortStorage", "I16"},  {"torch CharStorage", "I8"},  {"torch ByteStorage", "U8"},
    {"torch BoolStorage", "BOOL"}};

// What may be called besides, and what it stands for is written in Unpickler::Call.
constexpr std::string_view kCallable[] = {"collections OrderedDict",
                                          "torch._utils _rebuild_tensor",
                                          "torch._utils _rebuild_tensor_v2",
                                          "torch._utils _rebuild_parameter",
                                          "torch Size",
                                          "torch device"};

std::string_view StorageDType(std::string_view global) {
  for (const auto& [name, dtype] : kStorageTypes) {
    if (name == global) return dtype;
  }
  return {};
}

bool IsKnown(std::string_view global) {
  for (const std::string_view name : kCallable) {
    if (name == global) return true;
  }
  return !StorageDType(global).empty();
}

std::string Printable(std::string_view text) {
  const std::string_view beginning = text.substr(0, 100);
  return absl::CHexEscape(absl::string_view(beginning.data(), beginning.size()));
}

absl::Status Wrong(std::string_view complaint) {
  return absl::InvalidArgumentError(std::string(complaint));
}

class Unpickler {
 public:
  Unpickler(std::string_view pickle, std::deque<TorchValue>& values) : pickle_(pickle), values_(values) {}

  absl::StatusOr<const TorchValue*> Run() {
    while (true) {
      const size_t at = position_;
      const absl::Status status = Step();
      if (!status.ok()) return Annotate(status, absl::StrFormat("pickle, byte %d", at));
      if (root_ != nullptr) return root_;
    }
  }

 private:
  absl::Status Step();
  absl::Status StepNumber(unsigned char opcode);
  absl::Status StepStack(unsigned char opcode);

  // What follows the opcode.
  absl::StatusOr<std::string_view> Take(size_t size) {
    if (size > pickle_.size() - position_) return Wrong("ends in the middle of an instruction");
    position_ += size;
    return pickle_.substr(position_ - size, size);
  }
  absl::StatusOr<uint64_t> TakeNumber(size_t size) {
    BDH_ASSIGN_OR_RETURN(const std::string_view bytes, Take(size));
    return LittleEndian(bytes);
  }
  absl::StatusOr<std::string_view> TakeLine() {
    const size_t end = pickle_.find('\n', position_);
    if (end == std::string_view::npos) return Wrong("ends in the middle of a name");
    const std::string_view line = pickle_.substr(position_, end - position_);
    position_ = end + 1;
    return line;
  }

  absl::Status Push(TorchValue value) {
    if (values_.size() >= kMaxPickleValues) {
      return Wrong(absl::StrFormat("has more than %d values", kMaxPickleValues));
    }
    stack_.push_back(&values_.emplace_back(std::move(value)));
    return absl::OkStatus();
  }
  // No deeper than the last mark: what is below belongs to what is not finished yet.
  absl::StatusOr<TorchValue*> Pop() {
    if (stack_.size() <= floor()) return Wrong("takes more from its stack than is on it");
    TorchValue* value = stack_.back();
    stack_.pop_back();
    return value;
  }
  // All above the last mark, and the mark.
  absl::StatusOr<TorchList> PopMarked() {
    if (marks_.empty()) return Wrong("has no mark where it needs one");
    TorchList items(stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  absl::StatusOr<TorchValue*> Top() const {
    if (stack_.size() <= floor()) return Wrong("looks at its stack where it is empty");
    return stack_.back();
  }

  absl::Status PushTuple(size_t size);
  absl::Status PushText(absl::StatusOr<uint64_t> size);
  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status PushRemembered(absl::StatusOr<uint64_t> index);
  absl::Status Remember(absl::StatusOr<uint64_t> index);
  absl::Status Append(const TorchList& items);
  absl::Status SetItems(const TorchList& items);
  absl::Status PushStorage();
  absl::Status Call();
  absl::Status RebuildTensor(const TorchList& arguments);

  const std::string_view pickle_;
  std::deque<TorchValue>& values_;
  size_t position_ = 0;
  std::vector<TorchValue*> stack_;
  std::vector<size_t> marks_;  // Sizes of the stack.
  std::unordered_map<uint64_t, TorchValue*> memo_;
  const TorchValue* root_ = nullptr;
};

absl::Status Unpickler::Step() {
  BDH_ASSIGN_OR_RETURN(const uint64_t code, TakeNumber(1));
  const auto opcode = static_cast<unsigned char>(code);
  switch (opcode) {
    case kProto: {
      BDH_ASSIGN_OR_RETURN(const uint64_t protocol, TakeNumber(1));
      if (protocol >= 2 && protocol <= 5) return absl::OkStatus();
      return Wrong(absl::StrFormat("is of protocol %d; want 2 to 5", protocol));
    }
    case kFrame:
      return Take(8).status();
    case kStop: {
      BDH_ASSIGN_OR_RETURN(root_, Pop());
      return absl::OkStatus();
    }
    case kBinUnicode:
      return PushText(TakeNumber(4));
    case kShortBinUnicode:
      return PushText(TakeNumber(1));
    case kGlobal: {
      BDH_ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
      BDH_ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
      return PushGlobal(module, name);
    }
    case kStackGlobal: {
      BDH_ASSIGN_OR_RETURN(const TorchValue* name, Pop());
      BDH_ASSIGN_OR_RETURN(const TorchValue* module, Pop());
      const auto *name_text = name->As<std::string>(), *module_text = module->As<std::string>();
      if (name_text == nullptr || module_text == nullptr) return Wrong("names a global by no text");
      return PushGlobal(*module_text, *name_text);
    }
    case kBinGet:
      return PushRemembered(TakeNumber(1));
    case kLongBinGet:
      return PushRemembered(TakeNumber(4));
    case kBinPut:
      return Remember(TakeNumber(1));
    case kLongBinPut:
      return Remember(TakeNumber(4));
    case kMemoize:
      return Remember(memo_.size());
    default:
      return StepNumber(opcode);
  }
}

absl::Status Unpickler::StepNumber(unsigned char opcode) {
  switch (opcode) {
    case kNone:
      return Push({TorchOther{"None"}});
    case kNewTrue:
      return Push({true});
    case kNewFalse:
      return Push({false});
    case kBinInt: {
      BDH_ASSIGN_OR_RETURN(const uint64_t bits, TakeNumber(4));
      return Push({int64_t{static_cast<int32_t>(bits)}});
    }
    case kBinInt1:
    case kBinInt2: {
      BDH_ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(opcode == kBinInt1 ? 1 : 2));
      return Push({static_cast<int64_t>(number)});
    }
    case kLong1: {
      BDH_ASSIGN_OR_RETURN(const uint64_t size, TakeNumber(1));
      if (size > 8) return Wrong("holds a whole number of more than 64 bits");
      BDH_ASSIGN_OR_RETURN(const uint64_t bits, TakeNumber(size));
      const int spare = static_cast<int>(64 - 8 * size);  // The sign is in the highest bit that is there.
      return Push({size == 0 ? int64_t{0} : static_cast<int64_t>(bits << spare) >> spare});
    }
    case kBinFloat: {
      BDH_ASSIGN_OR_RETURN(const uint64_t swapped, TakeNumber(8));
      return Push({std::bit_cast<double>(__builtin_bswap64(swapped))});
    }
    default:
      return StepStack(opcode);
  }
}

absl::Status Unpickler::StepStack(unsigned char opcode) {
  switch (opcode) {
    case kMark:
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case kPop:
      return Pop().status();
    case kEmptyTuple:
    case kEmptyList:
      return Push({TorchList()});
    case kEmptyDict:
      return Push({TorchDict()});
    case kTuple1:
    case kTuple2:
    case kTuple3:
      return PushTuple(opcode - kTuple1 + 1);
    case kTuple: {
      BDH_ASSIGN_OR_RETURN(TorchList items, PopMarked());
      return Push({std::move(items)});
    }
    case kAppend: {
      BDH_ASSIGN_OR_RETURN(const TorchValue* item, Pop());
      return Append({item});
    }
    case kAppends: {
      BDH_ASSIGN_OR_RETURN(const TorchList items, PopMarked());
      return Append(items);
    }
    case kSetItem: {
      BDH_ASSIGN_OR_RETURN(const TorchValue* value, Pop());
      BDH_ASSIGN_OR_RETURN(const TorchValue* key, Pop());
      return SetItems({key, value});
    }
    case kSetItems: {
      BDH_ASSIGN_OR_RETURN(const TorchList items, PopMarked());
      return SetItems(items);
    }
    case kBinPersId:
      return PushStorage();
    case kReduce:
      return Call();
    case kBuild: {
      // state_dict() hangs the versions of its modules onto its OrderedDict; they say nothing to us.
      BDH_RETURN_IF_ERROR(Pop().status());
      BDH_ASSIGN_OR_RETURN(const TorchValue* object, Top());
      return object->As<TorchDict>() != nullptr ? absl::OkStatus() : Wrong("sets attributes of an object");
    }
    default:
      return Wrong(absl::StrFormat(
          "has opcode 0x%02x, which builds something other than tensors, dicts, lists and plain values; save "
          "the model's state_dict() alone",
          opcode));
  }
}

absl::Status Unpickler::PushTuple(size_t size) {
  TorchList items(size);
  for (size_t i = size; i-- > 0;) {
    BDH_ASSIGN_OR_RETURN(items[i], Pop());
  }
  return Push({std::move(items)});
}

absl::Status Unpickler::PushText(absl::StatusOr<uint64_t> size) {
  BDH_RETURN_IF_ERROR(size.status());
  BDH_ASSIGN_OR_RETURN(const std::string_view text, Take(*size));
  if (!IsUtf8(text)) return Wrong("holds a text that is not UTF-8");
  return Push({std::string(text)});
}

absl::Status Unpickler::PushGlobal(std::string_view module, std::string_view name) {
  std::string global = absl::StrFormat("%s %s", module, name);
  if (IsKnown(global)) return Push({TorchOther{std::move(global)}});
  return Wrong(
      absl::StrFormat("asks for the Python object %s.%s, which no tensor needs and which is not called here; "
                      "save the model's "
                      "state_dict() alone, without objects: torch.save(model.state_dict(), path)",
                      Printable(module), Printable(name)));
}

absl::Status Unpickler::PushRemembered(absl::StatusOr<uint64_t> index) {
  BDH_RETURN_IF_ERROR(index.status());
  const auto found = memo_.find(*index);
  if (found == memo_.end()) return Wrong(absl::StrFormat("recalls value %d, which it never stored", *index));
  stack_.push_back(found->second);
  return absl::OkStatus();
}

absl::Status Unpickler::Remember(absl::StatusOr<uint64_t> index) {
  BDH_RETURN_IF_ERROR(index.status());
  BDH_ASSIGN_OR_RETURN(memo_[*index], Top());
  return absl::OkStatus();
}

absl::Status Unpickler::Append(const TorchList& items) {
  BDH_ASSIGN_OR_RETURN(TorchValue* const top, Top());
  auto* list = std::get_if<TorchList>(&top->value);
  if (list == nullptr) return Wrong("appends to what is no list");
  list->insert(list->end(), items.begin(), items.end());
  return absl::OkStatus();
}

absl::Status Unpickler::SetItems(const TorchList& items) {
  if (items.size() % 2 != 0) return Wrong("sets a key without a value");
  BDH_ASSIGN_OR_RETURN(TorchValue* const top, Top());
  auto* dict = std::get_if<TorchDict>(&top->value);
  if (dict == nullptr) return Wrong("sets a key of what is no dict");
  for (size_t i = 0; i < items.size(); i += 2) {
    const auto* text = items[i]->As<std::string>();
    const auto* number = items[i]->As<int64_t>();
    if (text == nullptr && number == nullptr) return Wrong("has a key that is no text and no whole number");
    const std::string key = text != nullptr ? text->substr(0, kMaxKeyBytes + 1) : std::to_string(*number);
    if (key.size() > kMaxKeyBytes) return Wrong(absl::StrFormat("has a key of over %d bytes", kMaxKeyBytes));
    if (!dict->emplace(key, items[i + 1]).second) {
      return Wrong(absl::StrFormat("sets the key %s twice", Printable(key)));
    }
  }
  return absl::OkStatus();
}

// ("storage", type, key, location, elements)
absl::Status Unpickler::PushStorage() {
  BDH_ASSIGN_OR_RETURN(const TorchValue* id, Pop());
  const auto* fields = id->As<TorchList>();
  if (fields == nullptr || fields->size() != 5) return Wrong("refers to something that is no storage");
  const auto* type = (*fields)[1]->As<TorchOther>();
  const auto* key = (*fields)[2]->As<std::string>();
  const auto* elements = (*fields)[4]->As<int64_t>();
  if (type == nullptr || key == nullptr || elements == nullptr || *elements < 0) {
    return Wrong("describes a storage without type, key or size");
  }
  const std::string_view dtype = StorageDType(type->what);
  if (dtype.empty()) return Wrong(absl::StrFormat("has a storage of type %s", type->what));
  if (key->size() > kMaxKeyBytes) return Wrong(absl::StrFormat("has a key of over %d bytes", kMaxKeyBytes));
  return Push({TorchStorage{std::string(dtype), *key, *elements}});
}

absl::Status Unpickler::Call() {
  BDH_ASSIGN_OR_RETURN(const TorchValue* packed, Pop());
  BDH_ASSIGN_OR_RETURN(const TorchValue* callee, Pop());
  const auto* global = callee->As<TorchOther>();
  const auto* arguments = packed->As<TorchList>();
  if (global == nullptr || arguments == nullptr) return Wrong("calls what cannot be called");
  const std::string_view name = global->what;
  if (name == "collections OrderedDict" && arguments->empty()) return Push({TorchDict()});
  if (name.starts_with("torch._utils _rebuild_tensor")) return RebuildTensor(*arguments);
  if (arguments->empty()) return Wrong(absl::StrFormat("calls %s with nothing", name));
  const TorchValue& first = *(*arguments)[0];
  if (name == "torch._utils _rebuild_parameter" && first.As<TorchTensor>() != nullptr) return Push(first);
  if (name == "torch Size" || name == "torch device") return Push({TorchOther{std::string(name)}});
  return Wrong(absl::StrFormat("calls %s with what it does not take", name));
}

// Whether all of `value` are whole numbers, which are put into `numbers`.
bool ReadNumbers(const TorchValue& value, std::vector<int64_t>& numbers) {
  const auto* list = value.As<TorchList>();
  if (list == nullptr || list->size() > kMaxAxes) return false;
  for (const TorchValue* item : *list) {
    const auto* number = item->As<int64_t>();
    if (number == nullptr || *number < 0) return false;
    numbers.push_back(*number);
  }
  return true;
}

// (storage, offset, size, stride, ...)
absl::Status Unpickler::RebuildTensor(const TorchList& arguments) {
  TorchTensor tensor;
  const auto* storage = arguments.size() < 4 ? nullptr : arguments[0]->As<TorchStorage>();
  const auto* offset = storage == nullptr ? nullptr : arguments[1]->As<int64_t>();
  if (offset == nullptr || *offset < 0 || !ReadNumbers(*arguments[2], tensor.shape) ||
      !ReadNumbers(*arguments[3], tensor.strides) || tensor.shape.size() != tensor.strides.size()) {
    return Wrong("makes a tensor without a storage, a shape and strides");
  }
  tensor.storage = *storage;
  tensor.offset = *offset;
  return Push({std::move(tensor)});
}

}  // namespace

absl::StatusOr<const TorchValue*> ReadPickle(std::string_view pickle, std::deque<TorchValue>& values) {
  if (pickle.size() > kMaxPickleBytes) {
    return Wrong(absl::StrFormat("pickle: has %d bytes; want at most %d", pickle.size(), kMaxPickleBytes));
  }
  return Unpickler(pickle, values).Run();
}

}  // namespace bdh::tensorfile
