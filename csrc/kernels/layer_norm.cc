#include "kernels/layer_norm.h"

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {
namespace {

// Calls body(i, count) for the lanes [i, i + count) of a row; count is 16 except at the end.
template <typename Body>
ALBERT_INLINE void for_lanes(int columns, Body&& body) {
  int i = 0;
  for (; i + kLanes <= columns; i += kLanes) body(i, kLanes);
  if (i < columns) body(i, columns - i);
}

ALBERT_INLINE F32x16 load_lanes(const float* p, int count) { return count == kLanes ? load(p) : load_first(p, count); }

}  // namespace

void layer_norm(const LayerNorm& n) {
  const auto width = static_cast<float>(n.columns);
  for (int row = 0; row < n.rows; ++row) {
    const float* x = n.x + static_cast<size_t>(row) * n.x_stride;
    const float* residual = n.residual != nullptr ? n.residual + static_cast<size_t>(row) * n.residual_stride : nullptr;
    float* out = n.out + static_cast<size_t>(row) * n.out_stride;

    F32x16 sum = splat(0.0f);
    for_lanes(n.columns, [&](int i, int count) {
      F32x16 v = load_lanes(x + i, count);
      if (n.bias != nullptr) v = v + load_lanes(n.bias + i, count);
      if (residual != nullptr) v = v + load_lanes(residual + i, count);
      store_first(out + i, v, count);
      sum = sum + v;  // lanes past the row are zero
    });
    const F32x16 mean = splat(sum_lanes(sum) / width);

    F32x16 squares = splat(0.0f);
    for_lanes(n.columns, [&](int i, int count) {
      const F32x16 d = load_lanes(out + i, count) - mean;
      const F32x16 square = d * d;
      F32x16 kept = square;
      if (count < kLanes) {  // the lanes past the row hold the mean's square
        float lane[kLanes];
        store(lane, square);
        kept = load_first(lane, count);
      }
      squares = squares + kept;
    });
    const F32x16 factor = splat(1.0f / __builtin_sqrtf(sum_lanes(squares) / width + n.epsilon));

    for_lanes(n.columns, [&](int i, int count) {
      const F32x16 d = load_lanes(out + i, count) - mean;
      store_first(out + i, fma(d * factor, load_lanes(n.scale + i, count), load_lanes(n.shift + i, count)), count);
    });
  }
}

}  // namespace albert::ALBERT_ISA
