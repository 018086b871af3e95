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
void project(const ForwardContext& f, const PackedMatrix& w, const float* from, size_t stride, int rows, Address to) {
  const size_t logit_stride = row_stride(w.columns());
  const int chunk = rows_per_chunk(w.columns(), rows);
  for (int first = 0; first < rows; first += chunk) {
    const int count = std::min(chunk, rows - first);
    linear(f.team, f.kernels, w, floats(from + static_cast<size_t>(first) * stride, stride), count,
           {.c = f.buffers.logits, .stride = logit_stride}, true);
    f.team.for_rows(count, [&](int row) {
      std::memcpy(to(first + row), f.buffers.logits + static_cast<size_t>(row) * logit_stride,
                  static_cast<size_t>(w.columns()) * sizeof(float));
    });
  }
}

// work(token, place): for every token but a masked first one, its index within the chunk and its place in [rows, width].
template <typename Work>
void for_outputs(const ForwardContext& f, Work&& work) {
  f.team.for_each(f.chunk.rows, [&](int row) {
    const int* starts = f.tokens.row_starts + f.chunk.first_row + row;
    for (int token = starts[0] + f.tokens.masked_first[f.chunk.first_row + row]; token < starts[1]; ++token)
      work(token - f.chunk.first_token, static_cast<size_t>(f.chunk.first_row + row) * static_cast<size_t>(f.outputs.width) +
                                            static_cast<size_t>(f.tokens.positions[token]));
  });
}

// The hidden state of each token to `to`, where a token has H of every `stride` floats.
void write_hidden(const ForwardContext& f, float* to, size_t stride) {
  const auto h = static_cast<size_t>(f.config.hidden_size);
  for_outputs(f, [&](int token, size_t place) {
    std::memcpy(to + place * stride, f.buffers.hidden + static_cast<size_t>(token) * f.buffers.stride.hidden, h * sizeof(float));
  });
}

void classify_tokens(const ForwardContext& f) {
  const PackedMatrix& w = f.weights.token_classifier;
  const auto labels = static_cast<size_t>(w.columns());
  const size_t stride = row_stride(w.columns());
  const int chunk = rows_per_chunk(w.columns(), f.chunk.count);
  for (int first = 0; first < f.chunk.count; first += chunk) {
    const int count = std::min(chunk, f.chunk.count - first);
    linear(f.team, f.kernels, w,
           floats(f.buffers.hidden + static_cast<size_t>(first) * f.buffers.stride.hidden, f.buffers.stride.hidden), count,
           {.c = f.buffers.logits, .stride = stride}, true);
    for_outputs(f, [&](int token, size_t place) {
      if (token < first || token >= first + count) return;
      std::memcpy(f.outputs.token_logits + place * labels, f.buffers.logits + static_cast<size_t>(token - first) * stride,
                  labels * sizeof(float));
    });
  }
}

// The tokens of outputs.score_tokens that lie in this chunk: gathered, dense, activation, LayerNorm, decoder.
void score_vocabulary(const ForwardContext& f, int thread) {
  const Outputs& out = f.outputs;
  const int* end_of_all = out.score_tokens + out.score_count;
  const int* first = std::lower_bound(out.score_tokens, end_of_all, f.chunk.first_token);
  const int* end = std::lower_bound(first, end_of_all, f.chunk.first_token + f.chunk.count);
  const auto h = static_cast<size_t>(f.config.hidden_size), v = static_cast<size_t>(f.config.vocab_size);
  // A token may be asked for more often than the buffers are long.
  for (; first < end; first += std::min<std::ptrdiff_t>(end - first, f.chunk.count)) {
    const auto count = static_cast<int>(std::min<std::ptrdiff_t>(end - first, f.chunk.count));
    f.team.for_rows(count, [&](int i) {
      std::memcpy(f.buffers.gathered + static_cast<size_t>(i) * f.buffers.stride.hidden,
                  f.buffers.hidden + static_cast<size_t>(first[i] - f.chunk.first_token) * f.buffers.stride.hidden,
                  h * sizeof(float));
    });
    const VocabularyHead& head = f.weights.vocabulary;
    linear(f.team, f.kernels, head.dense, floats(f.buffers.gathered, f.buffers.stride.hidden), count,
           {.c = f.buffers.embedded, .stride = f.buffers.stride.embedding}, true, f.config.hidden_act);
    f.end_step(Step::vocabulary_head, thread, head.dense, count);
    f.team.for_ranges(count, [&](int from, int to) {
      float* x = f.buffers.embedded + static_cast<size_t>(from) * f.buffers.stride.embedding;
      f.kernels.layer_norm({.x = x,
                            .x_stride = f.buffers.stride.embedding,
                            .bias = nullptr,
                            .residual = nullptr,
                            .residual_stride = 0,
                            .scale = head.norm.scale,
                            .shift = head.norm.shift,
                            .epsilon = f.heads.decoder_norm_eps,
                            .out = x,
                            .out_stride = f.buffers.stride.embedding,
                            .rows = to - from,
                            .columns = f.config.embedding_size});
    });
    const int* slots = out.score_slots + (first - out.score_tokens);
    project(f, head.decoder, f.buffers.embedded, f.buffers.stride.embedding, count,
            [&](int i) { return out.scores + static_cast<size_t>(slots[i]) * v; });
    f.end_step(Step::vocabulary_head, thread, head.decoder, count);
  }
}

// tanh(first token W + b) of each row, and what is classified by it.
void pool(const ForwardContext& f, int thread) {
  const auto h = static_cast<size_t>(f.config.hidden_size);
  const float* first_tokens = f.buffers.hidden;
  if (f.outputs.for_tokens()) {
    f.team.for_rows(f.chunk.rows, [&](int row) {
      const int token = f.tokens.row_starts[f.chunk.first_row + row] - f.chunk.first_token;
      std::memcpy(f.buffers.gathered + static_cast<size_t>(row) * f.buffers.stride.hidden,
                  f.buffers.hidden + static_cast<size_t>(token) * f.buffers.stride.hidden, h * sizeof(float));
    });
    first_tokens = f.buffers.gathered;
  }
  float* pooled = f.buffers.pooled;
  linear(f.team, f.kernels, f.weights.pooler, floats(first_tokens, f.buffers.stride.hidden), f.chunk.rows,
         {.c = pooled, .stride = f.buffers.stride.hidden}, true, Activation::tanh);
  f.end_step(Step::pooler, thread, f.weights.pooler, f.chunk.rows);
  if (f.outputs.pooled != nullptr) {
    f.team.for_rows(f.chunk.rows, [&](int row) {
      std::memcpy(f.outputs.pooled + static_cast<size_t>(f.chunk.first_row + row) * h,
                  pooled + static_cast<size_t>(row) * f.buffers.stride.hidden, h * sizeof(float));
    });
    f.end_step(Step::copies, thread);
  }
  if (f.outputs.pooled_logits != nullptr) {
    const auto labels = static_cast<size_t>(f.weights.pooled_classifier.columns());
    project(f, f.weights.pooled_classifier, pooled, f.buffers.stride.hidden, f.chunk.rows,
            [&](int row) { return f.outputs.pooled_logits + static_cast<size_t>(f.chunk.first_row + row) * labels; });
    f.end_step(Step::pooled_classifier, thread, f.weights.pooled_classifier, f.chunk.rows);
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

void write_states(const ForwardContext& f, int layer, int thread) {
  const auto h = static_cast<size_t>(f.config.hidden_size), states = static_cast<size_t>(f.config.num_hidden_layers) + 1;
  if (f.outputs.states == nullptr) return;
  write_hidden(f, f.outputs.states + static_cast<size_t>(layer) * h, states * h);
  f.end_step(Step::copies, thread);
}

void run_heads(const ForwardContext& f, int thread) {
  if (f.outputs.hidden != nullptr) {
    write_hidden(f, f.outputs.hidden, static_cast<size_t>(f.config.hidden_size));
    f.end_step(Step::copies, thread);
  }
  if (f.outputs.token_logits != nullptr) {
    classify_tokens(f);
    f.end_step(Step::token_classifier, thread, f.weights.token_classifier, f.chunk.count);
  }
  if (f.outputs.scores != nullptr) score_vocabulary(f, thread);
  if (f.outputs.for_rows()) pool(f, thread);
}

}  // namespace albert
