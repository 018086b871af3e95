#include "kernels/gemm.h"

#include "kernels/activate.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

// The last step of a tile, while it is in the first-level cache: c holds the sums; it, or `rounded`, gets activation(A W +
// bias).
template <typename Multiply, typename Function>
void finish(const GemmPanel& g, const Operand& a, float* c, Bf16* rounded, int rows, int vectors, Function function) {
  for (int r = 0; r < rows; ++r) {
    float* row = c + static_cast<size_t>(r) * g.c_stride;
    for (int i = 0; i < vectors * kLanes; i += kLanes) {
      F32x16 x;
      if constexpr (Multiply::kPrecision == Precision::int8) {
        const F32x16 sum = integers_to_floats(row + i, -128 * a.sum[r]), scale = splat(a.scale[r]) * load(g.scale + i);
        x = g.bias != nullptr ? fma(sum, scale, load(g.bias + i)) : sum * scale;
      } else {
        x = load(row + i);
        if (g.bias != nullptr) x = x + load(g.bias + i);
      }
      x = function(x);
      if (rounded != nullptr)
        store_bf16(rounded + static_cast<size_t>(r) * g.rounded_stride + i, x);
      else
        store(row + i, x);
    }
  }
}

template <typename Multiply>
void gemm_panel(const GemmPanel& g) {
  const int vectors = g.width / kLanes;
  const bool plain =
      g.bias == nullptr && g.activation == Activation::none && g.rounded == nullptr && Multiply::kPrecision != Precision::int8;
  for (int k = 0; k < g.depth; k += kDepthBlock) {
    const int depth = g.depth - k < kDepthBlock ? g.depth - k : kDepthBlock;
    const bool last = k + depth == g.depth;
    for (int row = 0; row < g.rows; row += kTileRows) {
      const int rows = g.rows - row < kTileRows ? g.rows - row : kTileRows;
      float* c = g.c + static_cast<size_t>(row) * g.c_stride;
      const Operand a = g.a.from(row);
      run_tile<Multiply>(rows, vectors,
                         {.a = a.words + k,
                          .a_stride = a.stride,
                          .w = g.panel + static_cast<size_t>(k) * static_cast<size_t>(g.width),
                          .w_stride = static_cast<size_t>(g.width),
                          .c = reinterpret_cast<Word*>(c),
                          .c_stride = g.c_stride,
                          .depth = depth,
                          .accumulate = k > 0});
      if (!last || plain) continue;
      Bf16* rounded = g.rounded != nullptr ? g.rounded + static_cast<size_t>(row) * g.rounded_stride : nullptr;
      with_activation<Multiply::kPrecision>(g.activation,
                                            [&](auto function) { finish<Multiply>(g, a, c, rounded, rows, vectors, function); });
    }
  }
}

}  // namespace

void gemm_panel_fp32(const GemmPanel& g) { gemm_panel<MultiplyFp32>(g); }
void gemm_panel_bf16(const GemmPanel& g) { gemm_panel<MultiplyBf16>(g); }
void gemm_panel_int8(const GemmPanel& g) { gemm_panel<MultiplyInt8>(g); }

}  // namespace albert::ALBERT_ISA
