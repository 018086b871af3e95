#include "engine/dtype.h"

#include <bit>
#include <cstring>

namespace albert {
namespace {

float from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float from_fp16(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu, sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  // The exponent biases differ by 112; infinity and NaN have the largest exponent in both types.
  const uint32_t normal = (magnitude << 13) + (magnitude < 0x7c00u ? 112u << 23 : 224u << 23);
  // A subnormal is a multiple of 2^-24. Starting from an integer keeps this exact even under flush-to-zero.
  const uint32_t small = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  return std::bit_cast<float>(sign | (magnitude < 0x0400u ? small : normal));
}

template <typename Widen>
void read_halves(const std::byte* from, float* to, size_t count, Widen widen) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    to[i] = widen(bits);
  }
}

}  // namespace

void FileValues::read(float* to) const {
  switch (type) {
    case DType::float32:
      std::memcpy(to, first, count * sizeof(float));
      return;
    case DType::float16:
      return read_halves(first, to, count, from_fp16);
    case DType::bfloat16:
      return read_halves(first, to, count, from_bf16);
    case DType::int8:
      for (size_t i = 0; i < count; ++i) to[i] = static_cast<float>(static_cast<int8_t>(first[i]));
      return;
  }
}

void FileMatrix::read(size_t row, size_t column, float* to, size_t count) const {
  values.slice(row * columns + column, count).read(to);
  if (scale == nullptr) return;
  if (scale_per_row) {
    float factor;
    read_scale(row, &factor, 1);
    for (size_t i = 0; i < count; ++i) to[i] *= factor;
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    float factor;
    read_scale(column + i, &factor, 1);
    to[i] *= factor;
  }
}

void FileMatrix::read_scale(size_t index, float* to, size_t count) const {
  std::memcpy(to, scale + index * sizeof(float), count * sizeof(float));
}

}  // namespace albert
