// out = (v - mean(v)) / sqrt(variance(v) + epsilon) * scale + shift, v = (x + bias) + residual: the end of every sublayer in one
// pass over the rows. Sums run in 16 stripes, folded in a fixed order; the variance is that of the differences (two passes), not
// E[v^2] - mean^2.
#pragma once

#include <cstddef>

namespace albert {

struct LayerNorm {
  const float* x;  // [rows, columns], a row every x_stride floats
  size_t x_stride;
  const float* bias;      // [columns], or null
  const float* residual;  // [rows, columns], or null
  size_t residual_stride;
  const float* scale;  // [columns]
  const float* shift;  // [columns]
  float epsilon;
  float* out;  // [rows, columns]; may be x or residual
  size_t out_stride;
  int rows;
  int columns;
};

}  // namespace albert
