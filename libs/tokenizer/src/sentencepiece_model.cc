#include "sentencepiece_model.h"

#include <dlfcn.h>
#include <sentencepiece_processor.h>

#include <cstddef>
#include <new>

// libsentencepiece carries a protobuf of its own and shows it to everybody: in a process with libprotobuf,
// the one that comes first in the order of linking would be taken for both, and the process would crash
// before main. So it is not linked, but loaded where only this file sees it (RTLD_LOCAL) and where it sees
// itself first (RTLD_DEEPBIND).

namespace bdh::tokenizer {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

struct Library {
  void (*construct)(Processor*) = nullptr;
  void (*destroy)(Processor*) = nullptr;
  void (*destroy_status)(void*) = nullptr;
  const char* (*error_message)(const void*) = nullptr;
  void* load = nullptr;
  void* encode = nullptr;
  int (*size)(const Processor*) = nullptr;
  const std::string& (*piece)(const Processor*, int) = nullptr;
  int (*id)(const Processor*, std::string_view) = nullptr;
  bool (*is_control)(const Processor*, int) = nullptr;
  bool (*is_unknown)(const Processor*, int) = nullptr;
  bool (*is_byte)(const Processor*, int) = nullptr;
  int (*begin_id)(const Processor*) = nullptr;
  int (*end_id)(const Processor*) = nullptr;
  std::string error;
};

// What sentencepiece::util::Status is in memory: returned like it, destroyed by it.
struct Status {
  void* rep = nullptr;
  Status() = default;
  Status(const Status&) = delete;
  ~Status();
};

Library Open() {
  Library library;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kFlags = RTLD_NOW | RTLD_LOCAL;  // Their allocators must be seen first.
#else
  constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif
  void* const handle = dlopen("libsentencepiece.so.0", kFlags);
  if (handle == nullptr) {
    library.error = std::string("libsentencepiece cannot be loaded: ") + dlerror();
    return library;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    if (function == nullptr) library.error = std::string("libsentencepiece has no ") + name;
  };
  find(library.construct, "_ZN13sentencepiece22SentencePieceProcessorC1Ev");
  find(library.destroy, "_ZN13sentencepiece22SentencePieceProcessorD1Ev");
  find(library.destroy_status, "_ZN13sentencepiece4util6StatusD1Ev");
  find(library.error_message, "_ZNK13sentencepiece4util6Status13error_messageEv");
  find(library.load,
       "_ZN13sentencepiece22SentencePieceProcessor23LoadFromSerializedProtoESt17basic_string_viewIcSt11char_"
       "traitsIcEE");
  find(library.encode,
       "_ZNK13sentencepiece22SentencePieceProcessor6EncodeESt17basic_string_viewIcSt11char_"
       "traitsIcEEPSt6vectorIiS"
       "aIiEE");
  find(library.size, "_ZNK13sentencepiece22SentencePieceProcessor12GetPieceSizeEv");
  find(library.piece, "_ZNK13sentencepiece22SentencePieceProcessor9IdToPieceB5cxx11Ei");
  find(library.id,
       "_ZNK13sentencepiece22SentencePieceProcessor9PieceToIdESt17basic_string_viewIcSt11char_traitsIcEE");
  find(library.is_control, "_ZNK13sentencepiece22SentencePieceProcessor9IsControlEi");
  find(library.is_unknown, "_ZNK13sentencepiece22SentencePieceProcessor9IsUnknownEi");
  find(library.is_byte, "_ZNK13sentencepiece22SentencePieceProcessor6IsByteEi");
  find(library.begin_id, "_ZNK13sentencepiece22SentencePieceProcessor6bos_idEv");
  find(library.end_id, "_ZNK13sentencepiece22SentencePieceProcessor6eos_idEv");
  return library;
}

const Library& Loaded() {
  static const auto* const library = new Library(Open());  // Never unloaded: models may outlive statics.
  return *library;
}

Status::~Status() {
  Loaded().destroy_status(this);
}

class Model : public SentencePieceModel {
 public:
  Model() { Loaded().construct(processor()); }
  ~Model() override { Loaded().destroy(processor()); }

  bool Load(std::string_view bytes, std::string& error) {
    const auto load = reinterpret_cast<Status (*)(Processor*, std::string_view)>(Loaded().load);
    const Status status = load(processor(), bytes);
    if (status.rep != nullptr) error = Loaded().error_message(&status);
    return status.rep == nullptr;
  }
  int size() const override { return Loaded().size(processor()); }
  const std::string& Piece(int id) const override { return Loaded().piece(processor(), id); }
  int Id(std::string_view piece) const override { return Loaded().id(processor(), piece); }
  bool IsControl(int id) const override { return Loaded().is_control(processor(), id); }
  bool IsUnknown(int id) const override { return Loaded().is_unknown(processor(), id); }
  bool IsByte(int id) const override { return Loaded().is_byte(processor(), id); }
  int begin_id() const override { return Loaded().begin_id(processor()); }
  int end_id() const override { return Loaded().end_id(processor()); }
  bool Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const auto encode =
        reinterpret_cast<Status (*)(const Processor*, std::string_view, std::vector<int>*)>(Loaded().encode);
    std::vector<int> made;
    if (const Status status = encode(processor(), text, &made); status.rep != nullptr) return false;
    ids.insert(ids.end(), made.begin(), made.end());
    return true;
  }

 private:
  Processor* processor() { return std::launder(reinterpret_cast<Processor*>(storage_)); }
  const Processor* processor() const { return std::launder(reinterpret_cast<const Processor*>(storage_)); }

  alignas(Processor) std::byte storage_[sizeof(Processor)];
};

}  // namespace

std::unique_ptr<SentencePieceModel> SentencePieceModel::Load(std::string_view bytes, std::string& error) {
  if (error = Loaded().error; !error.empty()) return nullptr;
  auto model = std::make_unique<Model>();
  if (!model->Load(bytes, error)) return nullptr;
  return model;
}

}  // namespace bdh::tokenizer
