#pragma once

#include <cstdint>

namespace albert {

// The type in which a GEMM multiplies. Whatever it is, sums are 32 bits wide: floats, or for int8 integers that are exact.
enum class Precision { fp32, bf16, int8 };
constexpr int kPrecisions = 3;

// A GEMM reads both of its matrices in words: one float, two bfloat16 or four int8, consecutive along the inner dimension.
// may_alias: they lie in memory of any type.
using Word = uint32_t __attribute__((may_alias));

// A bfloat16: the upper half of a float.
using Bf16 = uint16_t __attribute__((may_alias));

constexpr const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::bf16:
      return "bf16";
    case Precision::int8:
      return "int8";
  }
  return "";
}

constexpr int values_per_word(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return 1;
    case Precision::bf16:
      return 2;
    case Precision::int8:
      return 4;
  }
  return 1;
}

// Words that hold `values` values; the last is filled with zeros.
constexpr int words_of(Precision precision, int values) {
  return (values + values_per_word(precision) - 1) / values_per_word(precision);
}

// A product of int8 rows longer than this could exceed 31 bits: 127 * 255 * its length.
constexpr int kMaxInt8InnerDim = 1 << 16;

}  // namespace albert
