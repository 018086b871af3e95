// The weights as the kernels read them: packed once per layer group, however deep the model is.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/mapped_file.h"
#include "engine/model.h"
#include "engine/team.h"
#include "engine/workspace.h"

namespace albert {

// A matrix [depth, columns] in the panels of kernels/gemm.h, with its bias.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(int depth, int columns, int panel_columns, Precision precision = Precision::fp32);

  // Converts w [depth, w.columns] to the columns from first_column on. bf16 rounds to nearest; int8 takes stored integers with the
  // scales of their columns as they are, else the nearest integers of w * 127 / max|column|, each column by itself. The team shares
  // the work.
  void place(Team& team, const StoredMatrix& w, int first_column);
  // Takes the transpose of w [columns, depth]. fp32 only.
  void place_transposed(const StoredMatrix& w);

  Precision precision() const { return precision_; }
  int depth() const { return depth_; }
  int depth_words() const { return words_of(precision_, depth_); }
  int columns() const { return columns_; }
  int panels() const { return (columns_ + panel_columns_ - 1) / panel_columns_; }
  int panel_columns() const { return panel_columns_; }
  int width(int panel) const;  // of one panel: panel_columns, or what is left, in sixteens
  const Word* panel(int index) const { return data_.get() + offset(index); }
  const float* scale(int panel) const {  // int8: of the panel's columns; else null
    return scale_ != nullptr ? scale_.get() + static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_) : nullptr;
  }
  const float* bias(int panel) const { return bias_.get() + static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_); }
  float* bias() { return bias_.get(); }  // [columns]
  size_t bytes() const;

 private:
  size_t offset(int panel) const;

  Precision precision_ = Precision::fp32;
  int depth_ = 0, columns_ = 0, panel_columns_ = 1;
  WordBlock data_;
  FloatBlock scale_, bias_;
};

struct NormWeights {
  FloatBlock scale, shift;  // [columns]
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

struct Weights {
  // Reads and packs every tensor. std::invalid_argument names a tensor that is missing or whose shape does not fit.
  // `precision` is that of the layers' matrices: nearly all of the work and of the memory. What runs once, or for a row only, stays
  // in floats.
  Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
          int panel_columns, Precision precision);

  void read_word_embedding(int id, float* to) const {
    word_embeddings.read(static_cast<size_t>(id), 0, to, word_embeddings.columns);
  }

  MappedFile file;                   // the word embeddings are looked up here: a batch touches few of them
  StoredMatrix word_embeddings;      // [V, E]
  FloatBlock position_embeddings;    // [P, E]
  FloatBlock token_type_embeddings;  // [T, E]
  NormWeights embedding_norm;
  Precision precision;                            // of the layers
  PackedMatrix mapping_in;                        // [E, H]
  std::vector<std::vector<LayerWeights>> groups;  // [group][inner]
  PackedMatrix pooler;                            // [H, H], empty without a pooler, as are the heads that are not there
  PackedMatrix token_classifier;                  // [H, n]
  PackedMatrix pooled_classifier;                 // [H, n]
  VocabularyHead vocabulary;
  size_t packed_bytes = 0;  // of the packed matrices
};

}  // namespace albert
