// out = (v - mean(v)) / sqrt(variance(v) + epsilon) * scale + shift, v = (x + bias) + residual: the end of every sublayer in one
// call. Sums run in 16 stripes that are folded in a fixed order. The variance is the mean of (v - mean)^2, not E[v^2] - mean^2,
// which cancels.
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
