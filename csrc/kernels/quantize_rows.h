// Converts rows of activations to the words that a GEMM in reduced precision multiplies.
//
// bf16: rounded to nearest, ties to even. int8: each x to the integer nearest to x * 127 / max|row|, so that a row's result depends
// on no other row and on no calibration.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/precision.h"

namespace albert {

struct QuantizeRows {
  Precision precision;  // bf16 or int8
  const float* x;       // [rows, columns], a row every x_stride floats
  size_t x_stride;
  const Bf16* x_bf16;  // [rows, columns], or null; int8 only: if given, these rows are quantized instead of x
  size_t x_bf16_stride;
  Word* words;  // [rows, words_of(precision, columns)], a row every `stride` words
  size_t stride;
  float* scale;  // int8: [rows]
  int32_t* sum;  // int8: [rows]
  int rows;
  int columns;
};

}  // namespace albert
