#include "bdh/config/model_config.h"

namespace bdh::config {

v1::ModelConfig ToProto(const spec::ModelConfig& config) {
  v1::ModelConfig model;
  model.set_architecture("bdh");
  model.set_n_layer(config.n_layer);
  model.set_n_embd(config.n_embd);
  model.set_n_head(config.n_head);
  model.set_mlp_internal_dim_multiplier(config.mlp_internal_dim_multiplier);
  model.set_vocab_size(config.vocab_size);
  model.set_dropout(config.dropout);
  return model;
}

spec::ModelConfig ToSpec(const v1::ModelConfig& model) {
  return {.n_layer = model.n_layer(),
          .n_embd = model.n_embd(),
          .n_head = model.n_head(),
          .mlp_internal_dim_multiplier = model.mlp_internal_dim_multiplier(),
          .vocab_size = model.vocab_size(),
          .dropout = model.dropout()};
}

}  // namespace bdh::config
