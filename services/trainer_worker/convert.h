// Between the mesh's messages and the structs of libs/training and libs/spec.
#pragma once

#include "absl/status/status.h"
#include "bdh/spec/model_config.h"
#include "bdh/training/exchange.h"
#include "bdh/training/options.h"
#include "bdh/v1/common.pb.h"
#include "bdh/v1/config.pb.h"
#include "bdh/v1/data_loader.pb.h"
#include "bdh/v1/trainer.pb.h"

namespace bdh::trainer_worker {

// Tensors of a checkpoint that hold the files of its tokenizer: no part of what a trainer restores.
inline constexpr char kTokenizerPrefix[] = "tokenizer/";

training::Options ToOptions(const v1::TrainConfig& train, int threads);
v1::Progress ToProto(const training::Progress& progress);
v1::TensorInfo ToProto(const training::Tensor& tensor);
// Name, type and shape; no bytes. InvalidArgumentError: a type that trainers do not write.
absl::StatusOr<training::Tensor> FromProto(const v1::TensorInfo& info);

// Fills defaults in and checks every field; the error begins with "model." or "train.".
absl::Status Complete(v1::ModelConfig& model, v1::TrainConfig& train);

// Whether the data has what `train` asks for, and the vocabulary covers it; takes the data's vocabulary
// where the model names none.
absl::Status FitToDataset(const v1::Dataset& dataset, const v1::TrainConfig& train, v1::ModelConfig& model);

// Whether the machine has the memory. ResourceExhaustedError says what the parts need.
absl::Status CheckMemory(const v1::ModelConfig& model, const v1::TrainConfig& train, int64_t max_model_bytes);

}  // namespace bdh::trainer_worker
