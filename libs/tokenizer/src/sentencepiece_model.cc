#include "sentencepiece_model.h"

#include <sentencepiece_processor.h>

namespace bdh::tokenizer {
namespace {

class Model : public SentencePieceModel {
 public:
  bool Load(std::string_view bytes, std::string& error) {
    const auto status = processor_.LoadFromSerializedProto(bytes);
    if (!status.ok()) error = status.error_message();
    return status.ok();
  }
  int size() const override { return processor_.GetPieceSize(); }
  const std::string& Piece(int id) const override { return processor_.IdToPiece(id); }
  int Id(std::string_view piece) const override { return processor_.PieceToId(piece); }
  bool IsControl(int id) const override { return processor_.IsControl(id); }
  bool IsUnknown(int id) const override { return processor_.IsUnknown(id); }
  bool IsByte(int id) const override { return processor_.IsByte(id); }
  int begin_id() const override { return processor_.bos_id(); }
  int end_id() const override { return processor_.eos_id(); }
  bool Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    std::vector<int> made;
    if (!processor_.Encode(text, &made).ok()) return false;
    ids.insert(ids.end(), made.begin(), made.end());
    return true;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<SentencePieceModel> SentencePieceModel::Load(std::string_view bytes, std::string& error) {
  auto model = std::make_unique<Model>();
  if (!model->Load(bytes, error)) return nullptr;
  return model;
}

}  // namespace bdh::tokenizer
