#include "kernels/attention.h"

#include "kernels/math.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

// W [depth, columns] in panels as in gemm.h: the panel that begins at `column` lies column * depth floats in.
struct Panels {
  int depth;
  int columns;  // a multiple of 16

  int width(int column) const { return columns - column < kPanelColumns ? columns - column : kPanelColumns; }
  size_t offset(int row, int column) const {
    const int first = column / kPanelColumns * kPanelColumns;
    return static_cast<size_t>(first) * static_cast<size_t>(depth) + static_cast<size_t>(row) * static_cast<size_t>(width(first)) +
           static_cast<size_t>(column - first);
  }
};

// C[rows, columns] = A[rows, depth] W
void multiply(const float* a, size_t a_stride, int rows, const float* w, Panels panels, float* c) {
  for (int column = 0; column < panels.columns; column += kPanelColumns) {
    const int width = panels.width(column);
    run_tile<MultiplyFp32>(rows, width / kLanes,
                           {.a = reinterpret_cast<const Word*>(a),
                            .a_stride = a_stride,
                            .w = reinterpret_cast<const Word*>(w + panels.offset(0, column)),
                            .w_stride = static_cast<size_t>(width),
                            .c = reinterpret_cast<Word*>(c + column),
                            .c_stride = static_cast<size_t>(panels.columns),
                            .depth = panels.depth,
                            .accumulate = false});
  }
}

// scores[keys] -> e^(scale * (score - greatest)) in place, the sum of them returned. The lanes up to padded_keys hold zero
// afterwards.
float exponentials(float* scores, int keys, int padded_keys, float scale) {
  for (int j = keys; j < padded_keys; ++j) scores[j] = scores[0];  // does not change the maximum
  F32x16 greatest = load(scores);
  for (int j = kLanes; j < padded_keys; j += kLanes) greatest = max(greatest, load(scores + j));
  const F32x16 peak = splat(max_lane(greatest));
  F32x16 sum = splat(0.0f);
  for (int j = 0; j < padded_keys; j += kLanes) {
    F32x16 e = exp((load(scores + j) - peak) * splat(scale));
    store(scores + j, e);
    if (const int count = keys - j; count < kLanes) {
      e = load_first(scores + j, count);
      store(scores + j, e);
    }
    sum = sum + e;
  }
  return sum_lanes(sum);
}

}  // namespace

void attention_head(const AttentionHead& h) {
  const int padded_keys = (h.keys + kLanes - 1) / kLanes * kLanes;
  const int padded_head = (h.head_size + kLanes - 1) / kLanes * kLanes;
  float* k_transposed = h.scratch;                                                                // [head_size, padded_keys]
  float* v = k_transposed + static_cast<size_t>(h.head_size) * static_cast<size_t>(padded_keys);  // [keys, padded_head]
  float* scores = v + static_cast<size_t>(h.keys) * static_cast<size_t>(padded_head);             // [kTileRows, padded_keys]
  float* result = scores + static_cast<size_t>(kTileRows) * static_cast<size_t>(padded_keys);     // [kTileRows, padded_head]

  const Panels k_panels{.depth = h.head_size, .columns = padded_keys};
  for (int key = 0; key < padded_keys; ++key) {
    const float* row = h.k + static_cast<size_t>(key < h.keys ? key : h.keys - 1) * h.kv_stride;
    float* column = k_transposed + k_panels.offset(0, key);
    const auto stride = static_cast<size_t>(k_panels.width(key / kPanelColumns * kPanelColumns));
    for (int i = 0; i < h.head_size; ++i) column[static_cast<size_t>(i) * stride] = row[i];
  }
  const Panels v_panels{.depth = h.keys, .columns = padded_head};
  for (int key = 0; key < h.keys; ++key) {
    const float* row = h.v + static_cast<size_t>(key) * h.kv_stride;
    for (int i = 0; i < h.head_size; i += kLanes) {
      const int count = h.head_size - i < kLanes ? h.head_size - i : kLanes;
      store(v + v_panels.offset(key, i), count == kLanes ? load(row + i) : load_first(row + i, count));
    }
  }

  for (int query = 0; query < h.queries; query += kTileRows) {
    const int rows = h.queries - query < kTileRows ? h.queries - query : kTileRows;
    multiply(h.q + static_cast<size_t>(query) * h.q_stride, h.q_stride, rows, k_transposed, k_panels, scores);
    float factor[kTileRows];
    for (int r = 0; r < rows; ++r)
      factor[r] =
          1.0f / exponentials(scores + static_cast<size_t>(r) * static_cast<size_t>(padded_keys), h.keys, padded_keys, h.scale);
    multiply(scores, static_cast<size_t>(padded_keys), rows, v, v_panels, result);
    for (int r = 0; r < rows; ++r) {
      const float* from = result + static_cast<size_t>(r) * static_cast<size_t>(padded_head);
      float* to = h.out + static_cast<size_t>(query + r) * h.out_stride;
      for (int i = 0; i < h.head_size; i += kLanes) {
        const int count = h.head_size - i < kLanes ? h.head_size - i : kLanes;
        const F32x16 x = load(from + i) * splat(factor[r]);
        if (count == kLanes)
          store(to + i, x);
        else
          store_first(to + i, x, count);
      }
    }
  }
}

}  // namespace albert::ALBERT_ISA
