// Matrices in the layout that the GEMM reads, and their packing.
#pragma once

#include <cstddef>

#include "engine/arena.h"
#include "engine/dtype.h"
#include "engine/thread_team.h"
#include "kernels/gemm.h"

namespace albert {

// A matrix [inner_dim, columns] in the panels of kernels/gemm.h, with its bias. Does not own its memory.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Has no memory until it is placed. Throws std::invalid_argument if int8 sums could overflow.
  PackedMatrix(int inner_dim, int columns, int panel_columns, Precision precision = Precision::fp32);

  // Uses placed_bytes() bytes at `memory`, which is cache-line aligned, for panels, bias and scales.
  void place(std::byte* memory);
  size_t placed_bytes() const;  // whole cache lines

  // Zeroes what pack() may not write: the bias, and the last panel's padding. To be called before pack().
  void clear();
  // Packs w [inner_dim, w.columns] into the columns starting at first_column. bf16 rounds to nearest. int8 copies stored integers
  // and their column scales; other types are quantized per column: round(w * 127 / max|column|). The team shares the work.
  void pack(ThreadTeam& team, const FileMatrix& w, int first_column);
  // Packs the transpose of w [columns, inner_dim]. fp32 only.
  void pack_transposed(const FileMatrix& w);

  Precision precision() const { return precision_; }
  int inner_dim() const { return inner_dim_; }
  int inner_words() const { return words_of(precision_, inner_dim_); }
  int columns() const { return columns_; }
  int panels() const { return (columns_ + panel_columns_ - 1) / panel_columns_; }
  int panel_columns() const { return panel_columns_; }
  int width(int panel) const;  // of one panel: panel_columns, or the remainder rounded up to 16
  int width(int first, int end) const { return (end - 1 - first) * panel_columns_ + width(end - 1); }  // of adjacent panels
  const Word* panel(int index) const { return data_ + offset(index); }
  const float* scale(int panel) const {  // int8: the panel's column scales; else null
    return scale_ != nullptr ? scale_ + static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_) : nullptr;
  }
  const float* bias(int panel) const { return bias_ + static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_); }
  float* bias() { return bias_; }  // [columns]
  size_t bytes() const;

 private:
  size_t offset(int panel) const;
  size_t padded_columns() const { return static_cast<size_t>(panels()) * static_cast<size_t>(panel_columns_); }

  Precision precision_ = Precision::fp32;
  int inner_dim_ = 0, columns_ = 0, panel_columns_ = 1;
  Word* data_ = nullptr;
  float *scale_ = nullptr, *bias_ = nullptr;
};

}  // namespace albert
