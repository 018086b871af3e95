// The register tile: C[rows, 16 * vectors] (+)= A[rows, inner_words] * W[inner_words, 16 * vectors], all of C in registers.
// The tile is as large as the registers allow beside one row of W. It has few rows and many columns, because rows of A that lie a
// power of two apart map to the same cache sets.
#pragma once

#include "kernels/format.h"
#include "kernels/gemm.h"

namespace albert::ALBERT_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 accumulators of 32 registers
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kTileRows = 6, kTileVectors = 1;  // 12 accumulators of 16 registers; 24 of 32
#else
constexpr int kTileRows = 2, kTileVectors = 1;  // 8 accumulators of 16 registers
#endif
constexpr int kPanelColumns = kTileVectors * kLanes;
static_assert(kTileRows <= kMaxTileRows && kMaxPanelColumns % kPanelColumns == 0);

struct Tile {
  const Word* a;
  size_t a_stride;
  Word* c;  // the sums, floats or for int8 integers
  size_t c_stride;
  int inner_words;  // K in words
  bool accumulate;  // add to C instead of overwriting it
};

// Sources of the rows of W: each row in memory, one every `stride` words, makes kRowsPerStep rows for the tile.
//
// The rows as they are.
struct PlainRows {
  static constexpr int kRowsPerStep = 1;
  const Word* w;
  size_t stride;

  template <typename Step, int Registers>
  ALBERT_INLINE typename Step::Weights read(int, int v) const {
    return Step::weights(w + v * kNativeLanes);
  }
  template <int Registers>
  ALBERT_INLINE void advance() {
    w += stride;
  }
};

// Each row widened to two.
template <typename Format>
struct WidenedRows {
  static constexpr int kRowsPerStep = 2;
  const Word* w;
  size_t stride;

  template <typename Step, int Registers>
  ALBERT_INLINE typename Step::Weights read(int half, int v) const {
    return (typename Step::Weights)Format::widen_weights(load_words(w + v * kNativeLanes), half);
  }
  template <int Registers>
  ALBERT_INLINE void advance() {
    w += stride;
  }
};

// Each row widened to two, which are also stored one after the other for the tiles that follow.
template <typename Format>
struct WidenedAndStoredRows {
  static constexpr int kRowsPerStep = 2;
  const Word* w;
  size_t stride;
  Word* wide;

  template <typename Step, int Registers>
  ALBERT_INLINE typename Step::Weights read(int half, int v) const {
    const NativeWords words = Format::widen_weights(load_words(w + v * kNativeLanes), half);
    store_words(wide + (half * Registers + v) * kNativeLanes, words);
    return (typename Step::Weights)words;
  }
  template <int Registers>
  ALBERT_INLINE void advance() {
    w += stride;
    wide += kRowsPerStep * Registers * kNativeLanes;
  }
};

// Uses native registers rather than F32x16: compilers keep an array of vectors in registers, but not an array of structs of them.
// Not inlined: beside other code GCC 12 spills some of the sums to the stack.
template <typename Step, int Rows, int Vectors, typename Source>
__attribute__((noinline)) void run_tile(const Tile& t, Source source) {
  using Sum = typename Step::Sum;
  constexpr int kRegisters = Vectors * kParts;
  Sum sum[Rows][kRegisters];
  ALBERT_UNROLL
  for (int r = 0; r < Rows; ++r) {
    ALBERT_UNROLL
    for (int v = 0; v < kRegisters; ++v) sum[r][v] = Sum{};
  }
  const Word* a = t.a;
  for (int k = 0; k < t.inner_words; k += Source::kRowsPerStep, source.template advance<kRegisters>()) {
    ALBERT_UNROLL
    for (int i = 0; i < Source::kRowsPerStep; ++i, ++a) {
      typename Step::Weights row[kRegisters];
      ALBERT_UNROLL
      for (int v = 0; v < kRegisters; ++v) row[v] = source.template read<Step, kRegisters>(i, v);
      ALBERT_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const typename Step::Value x = Step::value(a + static_cast<size_t>(r) * t.a_stride);
        ALBERT_UNROLL
        for (int v = 0; v < kRegisters; ++v) sum[r][v] = Step::add(sum[r][v], row[v], x);
      }
    }
  }
  ALBERT_UNROLL
  for (int r = 0; r < Rows; ++r) {
    ALBERT_UNROLL
    for (int v = 0; v < kRegisters; ++v) {
      Word* c = t.c + static_cast<size_t>(r) * t.c_stride + v * kNativeLanes;
      if (t.accumulate) {
        Sum before;
        std::memcpy(&before, c, sizeof before);
        sum[r][v] = Step::plus(before, sum[r][v]);
      }
      std::memcpy(c, &sum[r][v], sizeof(Sum));
    }
  }
}

// Chooses the tile of `rows` (1..kTileRows) by `vectors` (1..kTileVectors).
template <typename Step, int Rows = kTileRows, int Vectors = kTileVectors, typename Source>
inline void run_tile(int rows, int vectors, const Tile& t, const Source& source) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return run_tile<Step, Rows, Vectors - 1>(rows, vectors, t, source);
  }
  if constexpr (Rows > 1) {
    if (rows < Rows) return run_tile<Step, Rows - 1, Vectors>(rows, vectors, t, source);
  }
  run_tile<Step, Rows, Vectors>(t, source);
}

}  // namespace albert::ALBERT_ISA
