// C = activation(A W + bias) for one panel of W.
//
// A packed weight matrix [depth, columns] is cut into panels of kernels.panel_columns columns, the last one narrower (a multiple of
// 16, zero-filled). A panel is stored row after row, so that the tile walks it forward: panel[k * width + column].
//
// Each element of C is ONE chain of fma over k = 0, 1, ..., depth - 1, starting from zero, whatever the tile, the block or the
// thread: this is what makes a row's result independent of its neighbours.
#pragma once

#include <cstddef>

#include "kernels/activation.h"

namespace albert {

struct GemmPanel {
  const float* a;  // [rows, depth], a row every a_stride floats
  size_t a_stride;
  const float* panel;  // [depth, width]
  int width;           // 16, 32, ... panel_columns
  const float* bias;   // [width], or null for zero
  float* c;            // [rows, width], a row every c_stride floats
  size_t c_stride;
  int rows;
  int depth;
  Activation activation;
};

}  // namespace albert
