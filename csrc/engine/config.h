// What the engine has to know of a model: its sizes, and where each tensor lies in the weight file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/dtype.h"
#include "kernels/activation.h"

namespace albert {

// The largest of any size: keeps every product of two of them far from overflow.
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
  int padding_idx;  // the token id that is looked up as zeros, or -1
  bool add_pooling_layer;

  int head_size() const { return hidden_size / num_attention_heads; }
  // The group whose weights `layer` runs with: consecutive layers share a group, the same number in each.
  int group_of(int layer) const { return layer / (num_hidden_layers / num_hidden_groups); }
};

// The heads on top of the encoder, by the names of their tensors; an empty name is no head.
struct HeadConfig {
  std::string token_classifier;   // [H, n], a linear map of every token
  std::string pooled_classifier;  // [H, n], a linear map of the pooled output
  bool vocabulary = false;        // masked LM: dense, activation, LayerNorm, scores of the whole vocabulary
  float decoder_norm_eps = 1e-5f;
};

struct TensorEntry {
  DType type;
  uint64_t offset;  // of its first byte in the file; any alignment
  std::vector<uint64_t> shape;
};
using TensorTable = std::map<std::string, TensorEntry>;

}  // namespace albert
