// What the engine needs to know about a model: its sizes, and where each tensor is in the weight file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/dtype.h"
#include "kernels/activation.h"

namespace albert {

// The upper bound of every size: the product of any two is far from overflow.
constexpr int kMaxSize = 1 << 24;

struct ModelConfig {
  int vocab_size;
  int embedding_size;
  int hidden_size;
  int num_hidden_layers;
  int num_hidden_groups;
  int inner_group_num;
  int num_attention_heads;
  int intermediate_size;
  Activation hidden_act;
  int max_position_embeddings;
  int type_vocab_size;
  float layer_norm_eps;
  int padding_idx;  // the token id whose embedding is zeros, or -1
  bool add_pooling_layer;

  int head_size() const { return hidden_size / num_attention_heads; }
  // The group whose weights `layer` uses, as transformers counts: where the layers are no multiple of the groups, in its
  // float64 expression, rounding included.
  int group_of(int layer) const { return static_cast<int>(layer / (static_cast<double>(num_hidden_layers) / num_hidden_groups)); }
};

// The heads on top of the encoder. Classifiers are given by the name of their tensors; empty means no such head.
struct HeadConfig {
  std::string token_classifier;   // [H, n], a linear map of every token's hidden state
  std::string pooled_classifier;  // [H, n], a linear map of the pooled output
  bool vocabulary = false;        // masked LM: dense, activation, LayerNorm, decoder
  float decoder_norm_eps = 1e-5f;
};

struct TensorEntry {
  DType type;
  uint64_t offset;  // in the file, in bytes; any alignment
  std::vector<uint64_t> shape;
};
using TensorTable = std::map<std::string, TensorEntry>;

}  // namespace albert
