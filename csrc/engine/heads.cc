#include "engine/heads.h"

#include <algorithm>
#include <cstring>

#include "engine/linear.h"

namespace albert {
namespace {

// Logits go through a buffer of this size: a vocabulary is 40 times as wide as a hidden state.
constexpr size_t kLogitFloats = size_t{2} << 20;

int rows_per_chunk(int columns, int rows) {
  const auto fitting = static_cast<int>(std::min<size_t>(kLogitFloats / row_stride(columns), static_cast<size_t>(rows)));
  return std::max(fitting, 1);
}

// to(row) = from[row] W + b for `rows` rows, a few at a time.
template <typename Address>
void project(const PassView& p, const PackedMatrix& w, const float* from, size_t stride, int rows, Address to) {
  const size_t logit_stride = row_stride(w.columns());
  const int chunk = rows_per_chunk(w.columns(), rows);
  for (int first = 0; first < rows; first += chunk) {
    const int count = std::min(chunk, rows - first);
    linear(p.team, p.kernels, w, floats(from + static_cast<size_t>(first) * stride, stride), count,
           {.c = p.logits, .stride = logit_stride}, true);
    p.team.for_rows(count, [&](int row) {
      std::memcpy(to(first + row), p.logits + static_cast<size_t>(row) * logit_stride,
                  static_cast<size_t>(w.columns()) * sizeof(float));
    });
  }
}

// work(token, place): for every token but a masked first one, its index within the pass and its row of [rows, width].
template <typename Work>
void for_outputs(const PassView& p, Work&& work) {
  p.team.for_each(p.rows, [&](int row) {
    const int* starts = p.tokens.row_starts + p.first_row + row;
    for (int token = starts[0] + p.tokens.masked_first[p.first_row + row]; token < starts[1]; ++token)
      work(token - p.first_token, static_cast<size_t>(p.first_row + row) * static_cast<size_t>(p.outputs.width) +
                                      static_cast<size_t>(p.tokens.positions[token]));
  });
}

// The hidden state of each token to `to`, where a token has H of every `stride` floats.
void write_hidden(const PassView& p, float* to, size_t stride) {
  const auto h = static_cast<size_t>(p.config.hidden_size);
  for_outputs(p, [&](int token, size_t place) {
    std::memcpy(to + place * stride, p.hidden + static_cast<size_t>(token) * p.hidden_stride, h * sizeof(float));
  });
}

void classify_tokens(const PassView& p) {
  const PackedMatrix& w = p.weights.token_classifier;
  const auto labels = static_cast<size_t>(w.columns());
  const size_t stride = row_stride(w.columns());
  const int chunk = rows_per_chunk(w.columns(), p.count);
  for (int first = 0; first < p.count; first += chunk) {
    const int count = std::min(chunk, p.count - first);
    linear(p.team, p.kernels, w, floats(p.hidden + static_cast<size_t>(first) * p.hidden_stride, p.hidden_stride), count,
           {.c = p.logits, .stride = stride}, true);
    for_outputs(p, [&](int token, size_t place) {
      if (token < first || token >= first + count) return;
      std::memcpy(p.outputs.token_logits + place * labels, p.logits + static_cast<size_t>(token - first) * stride,
                  labels * sizeof(float));
    });
  }
}

// The tokens of outputs.score_tokens that lie in this pass: gathered, dense, activation, LayerNorm, decoder.
void score_vocabulary(const PassView& p) {
  const Outputs& out = p.outputs;
  const int* end_of_all = out.score_tokens + out.score_count;
  const int* first = std::lower_bound(out.score_tokens, end_of_all, p.first_token);
  const int* end = std::lower_bound(first, end_of_all, p.first_token + p.count);
  const auto h = static_cast<size_t>(p.config.hidden_size), v = static_cast<size_t>(p.config.vocab_size);
  // A token may be asked for more often than the buffers are long.
  for (; first < end; first += std::min<std::ptrdiff_t>(end - first, p.count)) {
    const auto count = static_cast<int>(std::min<std::ptrdiff_t>(end - first, p.count));
    p.team.for_rows(count, [&](int i) {
      std::memcpy(p.spare + static_cast<size_t>(i) * p.hidden_stride,
                  p.hidden + static_cast<size_t>(first[i] - p.first_token) * p.hidden_stride, h * sizeof(float));
    });
    const VocabularyHead& head = p.weights.vocabulary;
    linear(p.team, p.kernels, head.dense, floats(p.spare, p.hidden_stride), count, {.c = p.embedded, .stride = p.embedding_stride},
           true, p.config.hidden_act);
    p.team.for_ranges(count, [&](int from, int to) {
      float* x = p.embedded + static_cast<size_t>(from) * p.embedding_stride;
      p.kernels.layer_norm({.x = x,
                            .x_stride = p.embedding_stride,
                            .bias = nullptr,
                            .residual = nullptr,
                            .residual_stride = 0,
                            .scale = head.norm.scale,
                            .shift = head.norm.shift,
                            .epsilon = p.heads.decoder_norm_eps,
                            .out = x,
                            .out_stride = p.embedding_stride,
                            .rows = to - from,
                            .columns = p.config.embedding_size});
    });
    const int* slots = out.score_slots + (first - out.score_tokens);
    project(p, head.decoder, p.embedded, p.embedding_stride, count,
            [&](int i) { return out.scores + static_cast<size_t>(slots[i]) * v; });
  }
}

// tanh(first token W + b) of each row, and what is classified by it.
void pool(const PassView& p) {
  const auto h = static_cast<size_t>(p.config.hidden_size);
  const float* first_tokens = p.hidden;
  if (p.outputs.for_tokens()) {
    p.team.for_rows(p.rows, [&](int row) {
      const int token = p.tokens.row_starts[p.first_row + row] - p.first_token;
      std::memcpy(p.spare + static_cast<size_t>(row) * p.hidden_stride, p.hidden + static_cast<size_t>(token) * p.hidden_stride,
                  h * sizeof(float));
    });
    first_tokens = p.spare;
  }
  float* pooled = p.other;
  linear(p.team, p.kernels, p.weights.pooler, floats(first_tokens, p.hidden_stride), p.rows,
         {.c = pooled, .stride = p.hidden_stride}, true, Activation::tanh);
  if (p.outputs.pooled != nullptr)
    p.team.for_rows(p.rows, [&](int row) {
      std::memcpy(p.outputs.pooled + static_cast<size_t>(p.first_row + row) * h,
                  pooled + static_cast<size_t>(row) * p.hidden_stride, h * sizeof(float));
    });
  if (p.outputs.pooled_logits != nullptr) {
    const auto labels = static_cast<size_t>(p.weights.pooled_classifier.columns());
    project(p, p.weights.pooled_classifier, pooled, p.hidden_stride, p.rows,
            [&](int row) { return p.outputs.pooled_logits + static_cast<size_t>(p.first_row + row) * labels; });
  }
}

}  // namespace

size_t logit_floats(const Weights& weights, int count) {
  size_t floats = 0;
  for (const PackedMatrix* w : {&weights.token_classifier, &weights.pooled_classifier, &weights.vocabulary.decoder})
    if (w->columns() > 0)
      floats = std::max(floats, static_cast<size_t>(rows_per_chunk(w->columns(), count)) * row_stride(w->columns()));
  return floats;
}

void write_states(const PassView& p, int layer) {
  const auto h = static_cast<size_t>(p.config.hidden_size), states = static_cast<size_t>(p.config.num_hidden_layers) + 1;
  if (p.outputs.states != nullptr) write_hidden(p, p.outputs.states + static_cast<size_t>(layer) * h, states * h);
}

void run_heads(const PassView& p) {
  if (p.outputs.hidden != nullptr) write_hidden(p, p.outputs.hidden, static_cast<size_t>(p.config.hidden_size));
  if (p.outputs.token_logits != nullptr) classify_tokens(p);
  if (p.outputs.scores != nullptr) score_vocabulary(p);
  if (p.outputs.for_rows()) pool(p);
}

}  // namespace albert
