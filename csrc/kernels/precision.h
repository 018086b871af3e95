#pragma once

#include <cstdint>

namespace albert {

// The type in which a GEMM multiplies. Sums always have 32 bits: floats, or for int8 exact integers.
enum class Precision { fp32, bf16, int8 };
constexpr int kPrecisions = 3;

// A GEMM reads both of its matrices in words: one float, two bfloat16 or four int8, consecutive along the inner dimension.
// may_alias, because they are stored in memory of other types.
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

// The number of words that hold `values` values; the last word is padded with zeros.
constexpr int words_of(Precision precision, int values) {
  return (values + values_per_word(precision) - 1) / values_per_word(precision);
}

// The dot product of longer int8 rows, at most 127 * 255 * their length, could overflow 31 bits.
constexpr int kMaxInt8InnerDim = 1 << 16;

}  // namespace albert
