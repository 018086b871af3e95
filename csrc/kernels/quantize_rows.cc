#include "kernels/quantize_rows.h"

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {
namespace {

ALBERT_INLINE F32x16 read(const float* p) { return load(p); }
ALBERT_INLINE F32x16 read(const float* p, int count) { return load_first(p, count); }
ALBERT_INLINE F32x16 read(const Bf16* p) {
  Bits16x16 halves;
  std::memcpy(&halves, p, sizeof halves);
  return from_bf16(halves);
}
ALBERT_INLINE F32x16 read(const Bf16* p, int count) { return from_bf16(load_first(p, count)); }

// Calls body(i, x, count) along a row: x holds its `count` values from i on, then zeros; count is 16 except at the end.
template <typename Value, typename Body>
ALBERT_INLINE void for_vectors(const Value* row, int columns, Body&& body) {
  int i = 0;
  for (; i + kLanes <= columns; i += kLanes) body(i, read(row + i), kLanes);
  if (i < columns) body(i, read(row + i, columns - i), columns - i);
}

// Writes the words that hold the first `count` of sixteen narrow values.
template <Precision precision, typename Narrow>
ALBERT_INLINE void store_words(Word* words, int i, Narrow values, int count) {
  Word* to = words + i / values_per_word(precision);
  if (count == kLanes)
    std::memcpy(to, &values, sizeof values);
  else
    std::memcpy(to, &values, static_cast<size_t>(words_of(precision, count)) * sizeof(Word));
}

void row_to_bf16(const float* row, int columns, Word* words) {
  for_vectors(row, columns, [&](int i, F32x16 x, int count) { store_words<Precision::bf16>(words, i, to_bf16(x), count); });
}

template <typename Value>
void row_to_int8(const Value* row, int columns, Word* words, float* scale, int32_t* sum) {
  F32x16 greatest = splat(0.0f), zero = splat(0.0f);
  for_vectors(row, columns, [&](int, F32x16 x, int) {
    greatest = max(greatest, abs(x));
    zero = fma(x, splat(0.0f), zero);  // NaN if a value is infinite or NaN
  });
  const float peak = max_lane(greatest), nothing = sum_lanes(zero);
  if (!(peak >= 1e-30f) || nothing != 0.0f) {  // 127 / peak might overflow
    std::memset(words, 0, static_cast<size_t>(words_of(Precision::int8, columns)) * sizeof(Word));
    *scale = nothing;  // the whole row becomes zero or NaN
    *sum = 0;
    return;
  }
  const F32x16 factor = splat(127.0f / peak);
  I32x16 total{};
  for_vectors(row, columns, [&](int i, F32x16 x, int count) {
    const I32x16 q = nearest_integers(x * factor);
    total = total + q;
    store_words<Precision::int8>(words, i, to_bytes(q), count);
  });
  *scale = peak / 127.0f;
  *sum = sum_lanes(total);
}

}  // namespace

void quantize_rows(const QuantizeRows& o) {
  for (int row = 0; row < o.rows; ++row) {
    const float* x = o.x + static_cast<size_t>(row) * o.x_stride;
    Word* words = o.words + static_cast<size_t>(row) * o.stride;
    if (o.x_bf16 != nullptr)
      row_to_int8(o.x_bf16 + static_cast<size_t>(row) * o.x_bf16_stride, o.columns, words, o.scale + row, o.sum + row);
    else if (o.precision == Precision::int8)
      row_to_int8(x, o.columns, words, o.scale + row, o.sum + row);
    else
      row_to_bf16(x, o.columns, words);
  }
}

}  // namespace albert::ALBERT_ISA
