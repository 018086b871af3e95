// C = activation(A W + bias) for one panel of W, or several consecutive ones, multiplied in one of the precisions.
//
// A packed weight matrix [inner_words, columns] is cut into panels of kernels.panel_columns columns, the last one narrower (a
// multiple of 16, zero-filled). A panel is stored in words (precision.h) row after row, so that the tile reads it sequentially:
// panel[k * width + column], k counting words.
//
// Each element of C is the sum, in order, of one chain of multiply-adds for every kInnerBlock consecutive words, whatever the tile
// or the thread: this is what makes a row's result independent of its neighbours. A single chain over all of k would be as
// reproducible, but its rounding error is seven times as large over the 16384 values of ALBERT-xxlarge.
//
// int8: weights are stored with 128 added, as unsigned bytes, because the instruction multiplies unsigned by signed; the kernel
// subtracts 128 times the row's sum of activations again. Every sum is exact. C = activation(sum * a.scale[row] * scale[column] +
// bias).
#pragma once

#include <cstddef>

#include "kernels/activation.h"
#include "kernels/precision.h"

namespace albert {

// In words. It decides how sums are rounded, so it is the same on every ISA. A block of a panel (256 x 64 words: 64 KB) stays in
// the L2 cache while it is multiplied by the rows of A, and a tile's rows of A over one block (6 KB) stay in L1.
constexpr int kInnerBlock = 256;

// Upper bounds for every ISA's tile; kernels/tile.h asserts them.
constexpr int kMaxTileRows = 6;       // rows that a tile computes together
constexpr int kMaxPanelColumns = 64;  // panel_columns divides this

// Words of scratch for a GEMM in reduced precision. Where words are widened (kernels/format.h), it holds a block of a panel and the
// rows of a tile, each word as two. The extra cache line after each row keeps the rows in different cache sets.
constexpr size_t kWidePanelWords = size_t{2} * kInnerBlock * kMaxPanelColumns;
constexpr size_t kWideRowWords = 2 * kInnerBlock + 16;
constexpr size_t kGemmScratch = kWidePanelWords + kMaxTileRows * kWideRowWords;

// A, the left matrix of a GEMM: its rows in words (precision.h), and for int8 each row's scale and sum.
struct Activations {
  const Word* words;  // [rows, inner_words], a row every `stride` words
  size_t stride;
  const float* scale;  // int8: a value is `scale` times its integer; [rows]
  const int32_t* sum;  // int8: the sum of the row's integers; [rows]

  Activations from(int row) const {
    return {words + static_cast<size_t>(row) * stride, stride, scale != nullptr ? scale + row : nullptr,
            sum != nullptr ? sum + row : nullptr};
  }
};

struct GemmPanel {
  Activations a;
  const Word* panel;   // [inner_words, width]; several panels lie one after another
  int width;           // of all panels together: 16, 32, ... max_columns of the precision
  const float* scale;  // int8: of each column, [width]
  const float* bias;   // [width], or null for zero
  float* c;            // [rows, width], a row every c_stride floats
  size_t c_stride;
  Bf16* out_bf16;  // [rows, width], or null; if given, the result is written here and c only holds intermediate sums
  size_t out_bf16_stride;
  int rows;
  int inner_words;  // K in words
  Activation activation;
  Word* scratch;  // kGemmScratch words, aligned like a vector; not used in fp32
};

}  // namespace albert
