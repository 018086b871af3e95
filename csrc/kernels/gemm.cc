#include "kernels/gemm.h"

#include "kernels/activate.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

template <typename Function>
void finish(float* c, size_t stride, int rows, int vectors, const float* bias, Function function) {
  for (int v = 0; v < vectors; ++v) {
    const F32x16 b = bias != nullptr ? load(bias + v * kLanes) : splat(0.0f);
    for (int r = 0; r < rows; ++r) {
      float* x = c + static_cast<size_t>(r) * stride + v * kLanes;
      store(x, function(load(x) + b));
    }
  }
}

}  // namespace

void gemm_panel(const GemmPanel& g) {
  const int vectors = g.width / kLanes;
  for (int k = 0; k < g.depth; k += kDepthBlock) {
    const int depth = g.depth - k < kDepthBlock ? g.depth - k : kDepthBlock;
    const bool last = k + depth == g.depth;
    for (int row = 0; row < g.rows; row += kTileRows) {
      const int rows = g.rows - row < kTileRows ? g.rows - row : kTileRows;
      float* c = g.c + static_cast<size_t>(row) * g.c_stride;
      run_tile(rows, vectors,
               {.a = g.a + static_cast<size_t>(row) * g.a_stride + k,
                .a_stride = g.a_stride,
                .w = g.panel + static_cast<size_t>(k) * static_cast<size_t>(g.width),
                .w_stride = static_cast<size_t>(g.width),
                .c = c,
                .c_stride = g.c_stride,
                .depth = depth,
                .accumulate = k > 0});
      if (!last || (g.bias == nullptr && g.activation == Activation::none)) continue;
      // The tile is still in the first-level cache.
      with_activation(g.activation, [&](auto function) { finish(c, g.c_stride, rows, vectors, g.bias, function); });
    }
  }
}

}  // namespace albert::ALBERT_ISA
