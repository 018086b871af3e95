// C = activation(A W + bias) for one panel of W.
//
// A packed weight matrix [depth, columns] is cut into panels of kernels.panel_columns columns, the last one narrower (a multiple of
// 16, zero-filled). A panel is stored row after row, so that the tile walks it forward: panel[k * width + column].
//
// Each element of C is the sum, in order, of one chain of fma for every kDepthBlock consecutive k, whatever the tile or the thread:
// this is what makes a row's result independent of its neighbours. One chain over all of k would repeat as well, but over the 16384
// of ALBERT-xxlarge it rounds away seven times as much.
#pragma once

#include <cstddef>

#include "kernels/activation.h"

namespace albert {

// Part of the result's definition, so the same on every ISA. A block of a panel (256 x 64 floats: 64 KB) stays in the second-level
// cache while the rows of A pass it, a tile's rows of A over one block (6 KB) in the first.
constexpr int kDepthBlock = 256;

// What callers may rely on for every ISA's tile; kernels/tile.h asserts it.
constexpr int kMostTileRows = 6;       // rows that a tile computes together
constexpr int kMostPanelColumns = 64;  // a panel is this wide or a divisor of it

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
