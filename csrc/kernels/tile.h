// The register tile: C[rows, 16 * vectors] (+)= A[rows, depth] * W[depth, 16 * vectors], all of C in registers.
// Rows and columns are as many as the registers hold beside one row of W: few rows and many columns, because rows of A that lie a
// power of two apart fall into the same cache sets.
#pragma once

#include "kernels/gemm.h"
#include "kernels/multiply.h"

namespace albert::ALBERT_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 accumulators of 32 registers
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kTileRows = 6, kTileVectors = 1;  // 12 accumulators of 16 registers; 24 of 32
#else
constexpr int kTileRows = 2, kTileVectors = 1;  // 8 accumulators of 16 registers
#endif
constexpr int kPanelColumns = kTileVectors * kLanes;
static_assert(kTileRows <= kMostTileRows && kMostPanelColumns % kPanelColumns == 0);

struct Tile {
  const Word* a;
  size_t a_stride;
  const Word* w;
  size_t w_stride;
  Word* c;  // the sums, floats or for int8 integers
  size_t c_stride;
  int depth;        // words
  bool accumulate;  // add to what C holds
};

// Written in registers rather than in F32x16: compilers keep an array of them in registers, but not one of structs of several.
template <typename Step, int Rows, int Vectors>
inline void run_tile(const Tile& t) {
  using Sum = typename Step::Sum;
  constexpr int kRegisters = Vectors * kParts;
  Sum sum[Rows][kRegisters];
  ALBERT_UNROLL
  for (int r = 0; r < Rows; ++r) {
    ALBERT_UNROLL
    for (int v = 0; v < kRegisters; ++v) sum[r][v] = Sum{};
  }
  const Word* a = t.a;
  const Word* w = t.w;
  for (int k = 0; k < t.depth; ++k, ++a, w += t.w_stride) {
    typename Step::Weights row[kRegisters];
    ALBERT_UNROLL
    for (int v = 0; v < kRegisters; ++v) row[v] = Step::weights(w + v * kNativeLanes);
    ALBERT_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const typename Step::Value x = Step::value(a + static_cast<size_t>(r) * t.a_stride);
      ALBERT_UNROLL
      for (int v = 0; v < kRegisters; ++v) sum[r][v] = Step::add(sum[r][v], row[v], x);
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

// tile of `rows` (1..kTileRows) by `vectors` (1..kTileVectors)
template <typename Step, int Rows = kTileRows, int Vectors = kTileVectors>
inline void run_tile(int rows, int vectors, const Tile& t) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return run_tile<Step, Rows, Vectors - 1>(rows, vectors, t);
  }
  if constexpr (Rows > 1) {
    if (rows < Rows) return run_tile<Step, Rows - 1, Vectors>(rows, vectors, t);
  }
  run_tile<Step, Rows, Vectors>(t);
}

}  // namespace albert::ALBERT_ISA
