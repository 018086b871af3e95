// out = softmax(scale * Q K^T) V for one head of one sequence, a few queries at a time: the scores of a tile of queries stay in the
// L1 cache, and the [queries, keys] matrix is never stored. A query's result does not depend on the other queries.
//
// In bf16, Q, K and V are bfloat16, and the softmax weights are rounded before they are summed, so that they still add up to 1.
#pragma once

#include <cstddef>

#include "kernels/gemm.h"

namespace albert {

struct AttentionHead {
  Precision precision;  // of the two products: fp32, and q, k, v are floats; or bf16, and they are Bf16
  const void* q;        // [queries, head_size], a row every q_stride values
  size_t q_stride;
  const void* k;  // [keys, head_size]
  const void* v;  // [keys, head_size]
  size_t kv_stride;
  float* out;  // [queries, head_size]
  size_t out_stride;
  Bf16* out_bf16;  // [queries, head_size], or null; if given, the result is written here instead of to `out`
  size_t out_bf16_stride;
  int queries;
  int keys;  // at least one
  int head_size;
  float scale;
  float* scratch;  // attention_scratch(keys, head_size) floats
};

// The floats of scratch: K transposed, V packed, and for one tile of queries Q, the scores, the weights and the result.
constexpr size_t attention_scratch(int keys, int head_size) {
  const size_t padded_keys = static_cast<size_t>((keys + 15) / 16) * 16;
  const size_t padded_head = static_cast<size_t>((head_size + 15) / 16) * 16;
  const auto even = [](int values) { return static_cast<size_t>(values + values % 2); };  // bf16 is stored in pairs
  return padded_keys * even(head_size) + even(keys) * padded_head + kMaxTileRows * 2 * (padded_keys + padded_head);
}

}  // namespace albert
