// Floats to the left operand of a product in reduced precision.
//
// bf16: rounded to nearest, ties to even. int8: each row by itself, x to the nearest integer of x * 127 / max|row|; what a row
// becomes depends on no other row and on no calibration.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/precision.h"

namespace albert {

struct OperandRows {
  Precision precision;  // bf16 or int8
  const float* x;       // [rows, columns], a row every x_stride floats
  size_t x_stride;
  const Bf16* rounded;  // or null; int8: the rows are these instead, one every rounded_stride values
  size_t rounded_stride;
  Word* words;  // [rows, words_of(precision, columns)], a row every `stride` words
  size_t stride;
  float* scale;  // int8: [rows]
  int32_t* sum;  // int8: [rows]
  int rows;
  int columns;
};

}  // namespace albert
