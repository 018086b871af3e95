#include "kernels/gemm.h"

#include "kernels/activate.h"
#include "kernels/format.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

// The last step of a tile, while its sums are in the L1 cache: writes activation(A W + bias) to `out_bf16` if it is given, else
// over the sums in c.
template <typename Format, typename Function>
void finish(const GemmPanel& g, const Activations& a, float* c, Bf16* out_bf16, int rows, Function function) {
  for (int r = 0; r < rows; ++r) {
    float* row = c + static_cast<size_t>(r) * g.c_stride;
    for (int i = 0; i < g.width; i += kLanes) {
      F32x16 x;
      if constexpr (Format::kPrecision == Precision::int8) {
        const F32x16 sum = integers_to_floats(row + i, -128 * a.sum[r]), scale = splat(a.scale[r]) * load(g.scale + i);
        x = g.bias != nullptr ? fma(sum, scale, load(g.bias + i)) : sum * scale;
      } else {
        x = load(row + i);
        if (g.bias != nullptr) x = x + load(g.bias + i);
      }
      x = function(x);
      if (out_bf16 != nullptr)
        store_bf16(out_bf16 + static_cast<size_t>(r) * g.out_bf16_stride + i, x);
      else
        store(row + i, x);
    }
  }
}

// c [rows, width] (+)= words [k, k + words) of A times those of the panels. The `first` tile of a block may store the panels'
// widened words in the scratch for the others.
template <typename Format>
void multiply_block(const GemmPanel& g, int k, int words, const Activations& a, int rows, float* c, [[maybe_unused]] bool first) {
  using Step = typename Format::Step;
  Tile tile{.a = a.words + k,
            .a_stride = a.stride,
            .c = reinterpret_cast<Word*>(c),
            .c_stride = g.c_stride,
            .inner_words = words,
            .accumulate = k > 0};
  if constexpr (!Format::kWide) {
    [[maybe_unused]] const typename Format::Sums sums;
    const auto width = static_cast<size_t>(g.width);
    run_tile<Step>(rows, g.width / kLanes, tile, PlainRows{g.panel + static_cast<size_t>(k) * width, width});
  } else {
    Word* const wide = g.scratch + kWidePanelWords;
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < words; i += kNativeLanes / 2)
        store_words(wide + static_cast<size_t>(r) * kWideRowWords + 2 * i,
                    Format::widen_row(tile.a + static_cast<size_t>(r) * a.stride + i));
    tile.a = wide;
    tile.a_stride = kWideRowWords;
    tile.inner_words = 2 * words;
    [[maybe_unused]] const typename Format::Sums sums;
    const Word* panel = g.panel;
    Word* stored = g.scratch;
    for (int column = 0; column < g.width; column += kPanelColumns) {
      const int columns = g.width - column < kPanelColumns ? g.width - column : kPanelColumns;
      const auto width = static_cast<size_t>(columns);
      const Word* const w = panel + static_cast<size_t>(k) * width;
      if (g.rows < Format::kMinRowsToStore)
        run_tile<Step>(rows, columns / kLanes, tile, WidenedRows<Format>{w, width});
      else if (first)
        run_tile<Step>(rows, columns / kLanes, tile, WidenedAndStoredRows<Format>{w, width, stored});
      else
        run_tile<Step>(rows, columns / kLanes, tile, PlainRows{stored, width});
      panel += static_cast<size_t>(g.inner_words) * width;
      stored += static_cast<size_t>(tile.inner_words) * width;
      tile.c += columns;
    }
  }
}

template <typename Format>
void gemm_panel(const GemmPanel& g) {
  const bool plain =
      g.bias == nullptr && g.activation == Activation::none && g.out_bf16 == nullptr && Format::kPrecision != Precision::int8;
  for (int k = 0; k < g.inner_words; k += kInnerBlock) {
    const int words = g.inner_words - k < kInnerBlock ? g.inner_words - k : kInnerBlock;
    const bool last = k + words == g.inner_words;
    for (int row = 0; row < g.rows; row += kTileRows) {
      const int rows = g.rows - row < kTileRows ? g.rows - row : kTileRows;
      float* c = g.c + static_cast<size_t>(row) * g.c_stride;
      const Activations a = g.a.from(row);
      multiply_block<Format>(g, k, words, a, rows, c, row == 0);
      if (!last || plain) continue;
      Bf16* out_bf16 = g.out_bf16 != nullptr ? g.out_bf16 + static_cast<size_t>(row) * g.out_bf16_stride : nullptr;
      with_activation<Format::kPrecision>(g.activation, [&](auto function) { finish<Format>(g, a, c, out_bf16, rows, function); });
    }
  }
}

}  // namespace

void gemm_panel_fp32(const GemmPanel& g) { gemm_panel<Fp32Format>(g); }
void gemm_panel_int8(const GemmPanel& g) { gemm_panel<Int8Format>(g); }
void gemm_panel_bf16(const GemmPanel& g) { gemm_panel<Bf16Format>(g); }

}  // namespace albert::ALBERT_ISA
