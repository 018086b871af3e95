// The weights as the kernels read them: packed once per layer group, however deep the model is.
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

// Masked LM: LayerNorm(activation(x dense)) decoder. The decoder is the word embedding table, transposed, or a table of its own.
struct VocabularyHead {
  PackedMatrix dense;    // [H, E]
  NormWeights norm;      // [E]
  PackedMatrix decoder;  // [E, V]
};

// Where weights that are packed already may be found or kept.
struct PackedCache {
  CacheFile file;
  // Called before anything is packed from the weight file: whoever made sure of the file's contents when the cache was written need
  // not do so again. What it throws goes to the caller.
  std::function<void()> before_packing;
};

struct Weights {
  // Finds or packs every tensor. std::invalid_argument names a tensor that is missing or whose shape does not fit.
  // `precision` is that of the layers' matrices: nearly all of the work and of the memory. What runs once, or for a row only, stays
  // in floats.
  Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
          int panel_columns, Precision precision, const PackedCache& cache);

  void read_word_embedding(int id, float* to) const {
    word_embeddings.read(static_cast<size_t>(id), 0, to, word_embeddings.columns);
  }

  MappedFile file;                     // the word embeddings are looked up here: a batch touches few of them
  FileMatrix word_embeddings;          // [V, E]
  Precision precision;                 // of the layers
  std::unique_ptr<Arena> arena;        // all that follows lies here
  bool found;                          // in the cache, packed
  const float* position_embeddings;    // [P, E]
  const float* token_type_embeddings;  // [T, E]
  NormWeights embedding_norm;
  PackedMatrix mapping_in;                        // [E, H]
  std::vector<std::vector<LayerWeights>> groups;  // [group][inner]
  PackedMatrix pooler;                            // [H, H], empty without a pooler, as are the heads that are not there
  PackedMatrix token_classifier;                  // [H, n]
  PackedMatrix pooled_classifier;                 // [H, n]
  VocabularyHead vocabulary;
  size_t packed_bytes;  // of the packed matrices
};

}  // namespace albert
