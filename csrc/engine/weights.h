// The weights as the kernels read them, packed once for each layer group, not for each layer.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/arena.h"
#include "engine/config.h"
#include "engine/mapped_file.h"
#include "engine/packed_matrix.h"

namespace albert {

struct NormWeights {
  const float *scale, *shift;  // [columns]
};

// One ALBERT layer. The biases of `dense` and `ffn_output` are added by the LayerNorm that follows.
struct LayerWeights {
  PackedMatrix qkv;    // [H, 3H]: query, key, value side by side, one GEMM
  PackedMatrix dense;  // [H, H]
  NormWeights attention_norm;
  PackedMatrix ffn;         // [H, I]
  PackedMatrix ffn_output;  // [I, H]
  NormWeights full_norm;
};

// Masked LM: LayerNorm(activation(x dense)) decoder. The decoder is the transposed word embedding table (tied) or has its own.
struct VocabularyHead {
  PackedMatrix dense;    // [H, E]
  NormWeights norm;      // [E]
  PackedMatrix decoder;  // [E, V]
};

// Where to look for packed weights, and to keep them.
struct PackedCache {
  CacheFile file;
  // Called before packing from the weight file, to verify it; not called when packed weights are found. May throw.
  std::function<void()> before_packing;
};

struct Weights {
  // Finds all tensors in the cache or packs them. Throws std::invalid_argument, which names the tensor, if one is missing or has
  // the wrong shape or type. `precision` applies to the layers' matrices, nearly all of the work and the memory; all else is fp32.
  Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
          int panel_columns, Precision precision, const PackedCache& cache);

  void read_word_embedding(int id, float* to) const {
    word_embeddings.read(static_cast<size_t>(id), 0, to, word_embeddings.columns);
  }

  MappedFile file;                     // word embeddings are read from here: a batch needs few of them
  FileMatrix word_embeddings;          // [V, E]
  Precision precision;                 // of the layers
  std::unique_ptr<Arena> arena;        // holds all weights below
  bool found;                          // in the cache
  const float* position_embeddings;    // [P, E]
  const float* token_type_embeddings;  // [T, E]
  NormWeights embedding_norm;
  PackedMatrix mapping_in;                        // [E, H]
  std::vector<std::vector<LayerWeights>> groups;  // [group][inner]
  PackedMatrix pooler;                            // [H, H]; matrices that the model lacks are empty
  PackedMatrix token_classifier;                  // [H, n]
  PackedMatrix pooled_classifier;                 // [H, n]
  VocabularyHead vocabulary;
  size_t packed_bytes;  // of all packed matrices
};

}  // namespace albert
