// Matrices as the GEMM reads them, and how they become so.
#pragma once

#include <cstddef>

#include "engine/arena.h"
#include "engine/dtype.h"
#include "engine/thread_team.h"
#include "kernels/gemm.h"

namespace albert {

// A matrix [inner_dim, columns] in the panels of kernels/gemm.h, with its bias. The memory is somebody else's.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Has no memory until it is placed.
  PackedMatrix(int inner_dim, int columns, int panel_columns, Precision precision = Precision::fp32);

  // Puts it at `memory`: placed_bytes() bytes from a cache line on, for the panels, the bias and the scales.
  void place(std::byte* memory);
  size_t placed_bytes() const;  // whole cache lines

  // Zeros for what pack leaves out: the bias, and the columns up to the last panel's width. Comes before it.
  void clear();
  // Converts w [inner_dim, w.columns] to the columns from first_column on. bf16 rounds to nearest; int8 takes stored integers with
  // the scales of their columns as they are, else the nearest integers of w * 127 / max|column|, each column by itself. The team
  // shares the work.
  void pack(ThreadTeam& team, const FileMatrix& w, int first_column);
  // Takes the transpose of w [columns, inner_dim]. fp32 only.
  void pack_transposed(const FileMatrix& w);

  Precision precision() const { return precision_; }
  int inner_dim() const { return inner_dim_; }
  int inner_words() const { return words_of(precision_, inner_dim_); }
  int columns() const { return columns_; }
  int panels() const { return (columns_ + panel_columns_ - 1) / panel_columns_; }
  int panel_columns() const { return panel_columns_; }
  int width(int panel) const;  // of one panel: panel_columns, or what is left, in sixteens
  int width(int first, int end) const { return (end - 1 - first) * panel_columns_ + width(end - 1); }  // of panels together
  const Word* panel(int index) const { return data_ + offset(index); }
  const float* scale(int panel) const {  // int8: of the panel's columns; else null
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
