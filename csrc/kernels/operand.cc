#include "kernels/operand.h"

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {
namespace {

// body(i, x): x holds the floats [i, i + 16) of a row, zeros past its end.
template <typename Body>
ALBERT_INLINE void for_vectors(const float* row, int columns, Body&& body) {
  int i = 0;
  for (; i + kLanes <= columns; i += kLanes) body(i, load(row + i));
  if (i < columns) body(i, load_first(row + i, columns - i));
}

// The first `count` bytes of a vector's worth.
ALBERT_INLINE void store_bytes(std::byte* to, const void* from, size_t size, size_t room) {
  std::memcpy(to, from, size < room ? size : room);
}

void row_to_bf16(const float* row, int columns, Word* words) {
  auto* to = reinterpret_cast<std::byte*>(words);
  const size_t bytes = static_cast<size_t>(words_of(Precision::bf16, columns)) * sizeof(Word);
  for_vectors(row, columns, [&](int i, F32x16 x) {
    const Bits16x16 rounded = to_bf16(x);
    const size_t at = static_cast<size_t>(i) * sizeof(uint16_t);
    store_bytes(to + at, &rounded, sizeof rounded, bytes - at);
  });
}

void row_to_int8(const float* row, int columns, Word* words, float* scale, int32_t* sum) {
  F32x16 greatest = splat(0.0f);
  for_vectors(row, columns, [&](int, F32x16 x) { greatest = max(greatest, abs(x)); });
  const float peak = max_lane(greatest);
  // A row of zeros, or of numbers so small that their inverse is none, is a row of zeros.
  const bool usable = peak >= 1e-30f;
  const F32x16 factor = splat(usable ? 127.0f / peak : 0.0f);
  auto* to = reinterpret_cast<std::byte*>(words);
  const auto bytes = static_cast<size_t>(words_of(Precision::int8, columns)) * sizeof(Word);
  I32x16 total{};
  for_vectors(row, columns, [&](int i, F32x16 x) {
    const I32x16 q = nearest_integers(x * factor);
    total = total + q;
    const Bytes16 narrow = low_bytes(q);
    store_bytes(to + i, &narrow, sizeof narrow, bytes - static_cast<size_t>(i));
  });
  *scale = usable ? peak / 127.0f : 0.0f;
  *sum = sum_lanes(total);
}

}  // namespace

void to_operand(const OperandRows& o) {
  for (int row = 0; row < o.rows; ++row) {
    const float* x = o.x + static_cast<size_t>(row) * o.x_stride;
    Word* words = o.words + static_cast<size_t>(row) * o.stride;
    if (o.precision == Precision::int8)
      row_to_int8(x, o.columns, words, o.scale + row, o.sum + row);
    else
      row_to_bf16(x, o.columns, words);
  }
}

}  // namespace albert::ALBERT_ISA
