#include "kernels/attention.h"

#include "kernels/format.h"
#include "kernels/math.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

constexpr int round_up(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

// A matrix in panels as in gemm.h, with inner_words rows of words: the panel whose first column is `column` begins column *
// inner_words words from the start.
struct Panels {
  int inner_words;
  int columns;  // a multiple of 16

  int width(int column) const { return columns - column < kPanelColumns ? columns - column : kPanelColumns; }
  size_t size() const { return static_cast<size_t>(inner_words) * static_cast<size_t>(columns); }
  size_t offset(int row, int column) const {
    const int first = column / kPanelColumns * kPanelColumns;
    return static_cast<size_t>(first) * static_cast<size_t>(inner_words) +
           static_cast<size_t>(row) * static_cast<size_t>(width(first)) + static_cast<size_t>(column - first);
  }
};

// The number of words that hold `values` values as the tile reads them.
template <typename Format>
constexpr int tile_words(int values) {
  return (values + Format::kGroup - 1) / Format::kGroup * Format::kGroupWords;
}

// C[rows, columns] = A[rows, inner_words] W
template <typename Format>
void multiply(const Word* a, size_t a_stride, int rows, const Word* w, Panels panels, float* c) {
  [[maybe_unused]] const typename Format::Sums sums;
  for (int column = 0; column < panels.columns; column += kPanelColumns) {
    const int width = panels.width(column);
    run_tile<typename Format::Step>(rows, width / kLanes,
                                    {.a = a,
                                     .a_stride = a_stride,
                                     .c = reinterpret_cast<Word*>(c + column),
                                     .c_stride = static_cast<size_t>(panels.columns),
                                     .inner_words = panels.inner_words,
                                     .accumulate = false},
                                    PlainRows{w + panels.offset(0, column), static_cast<size_t>(width)});
  }
}

// Rows of Q, K and V lie kilobytes apart, too far for hardware prefetching, so software prefetches this many rows ahead.
// Prefetching an address past the end is harmless.
constexpr size_t kPrefetchRows = 8;

// Sixteen values of a row from `column` on, zeros past head_size; prefetches those `ahead` values further, in a later row.
template <typename Element>
ALBERT_INLINE void read_lanes(const Element* row, int column, int head_size, size_t ahead, Element* to) {
  __builtin_prefetch(row + column + ahead);
  if (head_size - column >= kLanes) {
    std::memcpy(to, row + column, kLanes * sizeof(Element));
    return;
  }
  std::memset(to, 0, kLanes * sizeof(Element));
  std::memcpy(to, row + column, static_cast<size_t>(head_size - column) * sizeof(Element));
}

// Writes the transpose of K [keys, head_size], its words along the head.
template <typename Format>
void transpose_keys(const AttentionHead& h, Panels panels, Word* to) {
  using Element = typename Format::Element;
  constexpr int kWords = tile_words<Format>(kLanes);
  for (int key = 0; key < panels.columns; ++key) {
    const auto* row = static_cast<const Element*>(h.k) + static_cast<size_t>(key < h.keys ? key : h.keys - 1) * h.kv_stride;
    Word* column = to + panels.offset(0, key);
    const auto stride = static_cast<size_t>(panels.width(key / kPanelColumns * kPanelColumns));
    for (int i = 0, first = 0; i < h.head_size; i += kLanes, first += kWords) {
      Element lanes[kLanes];
      read_lanes(row, i, h.head_size, kPrefetchRows * h.kv_stride, lanes);
      Word words[kWords];
      Format::row_words(lanes, words);
      const int count = panels.inner_words - first < kWords ? panels.inner_words - first : kWords;
      for (int j = 0; j < count; ++j) column[static_cast<size_t>(first + j) * stride] = words[j];
    }
  }
}

// Writes V [keys, head_size], its words along the keys.
template <typename Format>
void pack_values(const AttentionHead& h, Panels panels, Word* to) {
  using Element = typename Format::Element;
  const auto* v = static_cast<const Element*>(h.v);
  for (int key = 0, word = 0; key < h.keys; key += Format::kGroup, word += Format::kGroupWords)
    for (int i = 0; i < h.head_size; i += kLanes) {
      Element row[Format::kGroup][kLanes];
      for (int j = 0; j < Format::kGroup; ++j) {
        if (key + j < h.keys)
          read_lanes(v + static_cast<size_t>(key + j) * h.kv_stride, i, h.head_size, kPrefetchRows * h.kv_stride, row[j]);
        else
          std::memset(row[j], 0, sizeof row[j]);
      }
      const int first = i / kPanelColumns * kPanelColumns;
      Format::interleave(row, to + panels.offset(word, i), static_cast<size_t>(panels.width(first)));
    }
}

// Writes e^(scale * (score - greatest)) of scores[keys], zeros past the keys, as words for the tile. Returns their sum.
template <typename Format>
float exponentials(float* scores, int keys, int padded_keys, float scale, Word* words) {
  for (int j = keys; j < padded_keys; ++j) scores[j] = scores[0];  // does not change the maximum
  F32x16 greatest = load(scores);
  for (int j = kLanes; j < padded_keys; j += kLanes) greatest = max(greatest, load(scores + j));
  const F32x16 peak = splat(max_lane(greatest));
  const F32x16 factor = splat(scale * 1.44269504f), shift = splat(0.0f) - peak * factor;  // for 2^x
  F32x16 sum = splat(0.0f);
  for (int j = 0; j < padded_keys; j += kLanes) {
    const F32x16 score = load(scores + j);
    F32x16 e = Format::kPrecision == Precision::fp32 ? exp((score - peak) * splat(scale)) : coarse_exp2(fma(score, factor, shift));
    if (const int count = keys - j; count < kLanes) {
      store(scores + j, e);
      e = load_first(scores + j, count);
    }
    sum = sum + Format::round_words(e, words + tile_words<Format>(j));
  }
  return sum_lanes(sum);
}

template <typename Format>
void attention_head(const AttentionHead& h) {
  using Element = typename Format::Element;
  const int padded_keys = round_up(h.keys), padded_head = round_up(h.head_size);
  const Panels k_panels{.inner_words = tile_words<Format>(h.head_size), .columns = padded_keys};
  const Panels v_panels{.inner_words = tile_words<Format>(h.keys), .columns = padded_head};
  const auto keys_stride = static_cast<size_t>(padded_keys), head_stride = static_cast<size_t>(padded_head);
  float* next = h.scratch;
  const auto take = [&next](size_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  auto* k = reinterpret_cast<Word*>(take(k_panels.size()));
  auto* v = reinterpret_cast<Word*>(take(v_panels.size()));
  auto* queries = reinterpret_cast<Word*>(take(kTileRows * head_stride));
  auto* weights = reinterpret_cast<Word*>(take(kTileRows * keys_stride));
  float* scores = take(kTileRows * keys_stride);
  float* result = take(kTileRows * head_stride);
  // Once for all queries: pack K^T and V into panels.
  transpose_keys<Format>(h, k_panels, k);
  pack_values<Format>(h, v_panels, v);

  for (int query = 0; query < h.queries; query += kTileRows) {
    const int rows = h.queries - query < kTileRows ? h.queries - query : kTileRows;
    // Step 1: convert the rows of Q to the tile's words.
    for (int r = 0; r < rows; ++r) {
      const auto* q = static_cast<const Element*>(h.q) + static_cast<size_t>(query + r) * h.q_stride;
      Word* to = queries + static_cast<size_t>(r) * head_stride;
      for (int i = 0; i < h.head_size; i += kLanes) {
        Element lanes[kLanes];
        read_lanes(q, i, h.head_size, kTileRows * h.q_stride, lanes);
        Format::row_words(lanes, to + tile_words<Format>(i));
      }
    }
    // Step 2: scores = Q K^T.
    multiply<Format>(queries, head_stride, rows, k, k_panels, scores);
    // Step 3: weights = e^(scale * (scores - their maximum)); softmax's division by their sum is left to step 5.
    float factor[kTileRows];
    for (int r = 0; r < rows; ++r) {
      const size_t at = static_cast<size_t>(r) * keys_stride;
      factor[r] = 1.0f / exponentials<Format>(scores + at, h.keys, padded_keys, h.scale, weights + at);
    }
    // Step 4: result = weights V.
    multiply<Format>(weights, keys_stride, rows, v, v_panels, result);
    // Step 5: out = result / the sum of the weights.
    for (int r = 0; r < rows; ++r) {
      const float* from = result + static_cast<size_t>(r) * head_stride;
      const auto row = static_cast<size_t>(query + r);
      for (int i = 0; i < h.head_size; i += kLanes) {
        const int count = h.head_size - i < kLanes ? h.head_size - i : kLanes;
        const F32x16 x = load(from + i) * splat(factor[r]);
        if (h.out_bf16 != nullptr)
          store_first(h.out_bf16 + row * h.out_bf16_stride + i, to_bf16(x), count);
        else
          store_first(h.out + row * h.out_stride + i, x, count);
      }
    }
  }
}

}  // namespace

void attention_head(const AttentionHead& h) {
  if (h.precision == Precision::fp32)
    attention_head<Fp32Format>(h);
  else
    attention_head<Bf16Format>(h);
}

}  // namespace albert::ALBERT_ISA
