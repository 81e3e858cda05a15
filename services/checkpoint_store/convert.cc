#include "services/checkpoint_store/convert.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "absl/strings/str_format.h"

namespace bdh::checkpoint_store {
namespace {

// The same bytes for the same message: they go into the checkpoint's digest.
std::string Serialize(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t micros = absl::ToUnixMicros(time);
  out.set_seconds(micros / 1'000'000);
  out.set_nanos(static_cast<int32_t>(micros % 1'000'000) * 1000);
  return out;
}

store::Tensor FromProto(const v1::TensorInfo& info) {
  return {.name = info.name(),
          .dtype = static_cast<store::DType>(info.dtype()),
          .shape = {info.shape().begin(), info.shape().end()},
          .size_bytes = info.size_bytes()};
}

void FillTensor(const store::Tensor& tensor, v1::TensorInfo& info) {
  info.set_name(tensor.name);
  info.set_dtype(static_cast<v1::DType>(tensor.dtype));
  info.mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
  info.set_size_bytes(tensor.size_bytes);
}

}  // namespace

store::Checkpoint FromProto(v1::Checkpoint checkpoint) {
  store::Checkpoint out;
  out.name = checkpoint.name();
  out.tensors.reserve(checkpoint.tensors_size());
  for (const v1::TensorInfo& info : checkpoint.tensors()) out.tensors.push_back(FromProto(info));

  out.parent = checkpoint.parent();
  if (checkpoint.has_validation_loss()) out.loss = checkpoint.validation_loss();

  v1::Checkpoint provenance;
  provenance.set_host(checkpoint.host());
  provenance.set_software_version(checkpoint.software_version());
  out.provenance = Serialize(provenance);

  // What is left are the facts.
  checkpoint.clear_name();
  checkpoint.clear_tensors();
  checkpoint.clear_host();
  checkpoint.clear_software_version();
  checkpoint.clear_create_time();
  checkpoint.clear_size_bytes();
  checkpoint.clear_tags();
  checkpoint.clear_digest();
  out.facts = Serialize(checkpoint);
  return out;
}

absl::StatusOr<v1::Checkpoint> ToProto(const store::Checkpoint& checkpoint) {
  v1::Checkpoint out;
  if (!out.ParseFromString(checkpoint.facts) || !out.MergeFromString(checkpoint.provenance)) {
    return absl::DataLossError(absl::StrFormat("the facts of %s are damaged", checkpoint.name));
  }
  out.set_name(checkpoint.name);
  for (const store::Tensor& tensor : checkpoint.tensors) FillTensor(tensor, *out.add_tensors());
  *out.mutable_create_time() = ToProto(checkpoint.create_time);
  out.set_size_bytes(checkpoint.size_bytes);
  out.mutable_tags()->Assign(checkpoint.tags.begin(), checkpoint.tags.end());
  out.set_digest(checkpoint.digest);
  return out;
}

v1::Tag ToProto(const store::Tag& tag) {
  v1::Tag out;
  out.set_name(tag.name);
  out.set_checkpoint(tag.checkpoint);
  *out.mutable_update_time() = ToProto(tag.update_time);
  return out;
}

}  // namespace bdh::checkpoint_store
