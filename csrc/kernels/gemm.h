// C = activation(A W + bias) for one panel of W, or some that follow each other, multiplied in one of the precisions.
//
// A packed weight matrix [inner_words, columns] is cut into panels of kernels.panel_columns columns, the last one narrower (a
// multiple of 16, zero-filled). A panel is stored in words (precision.h) row after row, so that the tile walks it forward: panel[k
// * width + column], k counting words.
//
// Each element of C is the sum, in order, of one chain of multiply-adds for every kInnerBlock consecutive words, whatever the tile
// or the thread: this is what makes a row's result independent of its neighbours. One chain over all of k would repeat as well,
// but over the 16384 of ALBERT-xxlarge it rounds away seven times as much.
//
// int8: weights are stored unsigned, 128 more than they are, because the instruction multiplies unsigned by signed; the kernel
// takes 128 times the row's sum of activations off again. Every sum is exact. C = activation(sum * a.scale[row] * scale[column] +
// bias).
#pragma once

#include <cstddef>

#include "kernels/activation.h"
#include "kernels/precision.h"

namespace albert {

// Words, part of the result's definition, so the same on every ISA. A block of a panel (256 x 64 words: 64 KB) stays in the
// second-level cache while the rows of A pass it, a tile's rows of A over one block (6 KB) in the first.
constexpr int kInnerBlock = 256;

// What callers may rely on for every ISA's tile; kernels/tile.h asserts it.
constexpr int kMaxTileRows = 6;       // rows that a tile computes together
constexpr int kMaxPanelColumns = 64;  // a panel is this wide or a divisor of it

// Words of scratch for a GEMM in reduced precision: where its words are widened (kernels/format.h), a block of a panel and the rows
// of a tile, each word as two. The odd line behind a row keeps rows out of each other's cache sets.
constexpr size_t kWidePanelWords = size_t{2} * kInnerBlock * kMaxPanelColumns;
constexpr size_t kWideRowWords = 2 * kInnerBlock + 16;
constexpr size_t kGemmScratch = kWidePanelWords + kMaxTileRows * kWideRowWords;

// A, the matrix that a GEMM multiplies by the weights: its rows in words (precision.h), and for int8 each row's scale and sum.
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
  const Word* panel;   // [inner_words, width]; of several panels, one after the other, the first
  int width;           // of all together: 16, 32, ... max_columns of the precision
  const float* scale;  // int8: of the columns, [width]
  const float* bias;   // [width], or null for zero
  float* c;            // [rows, width], a row every c_stride floats
  size_t c_stride;
  Bf16* out_bf16;  // [rows, width], or null; if given, the result goes here, and c only holds the sums on the way
  size_t out_bf16_stride;
  int rows;
  int inner_words;  // K in words
  Activation activation;
  Word* scratch;  // kGemmScratch words, aligned as a vector; not read in fp32
};

}  // namespace albert
