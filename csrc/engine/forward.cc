// ALBERT over packed tokens: embeddings, the layer in a loop, the heads. Every thread of the team runs the same steps; a step is a
// set of tasks and ends when all of them are done.
#include "engine/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/heads.h"
#include "engine/linear.h"

namespace albert {
namespace {

class Forward {
 public:
  explicit Forward(const ForwardContext& context) : f_(context) {}

  // To be called by every thread of the team; `thread` is its number.
  void operator()(int thread) const {
    f_.end_step(Step::other, thread);
    embed();
    f_.end_step(Step::embeddings, thread, weights_.mapping_in, f_.chunk.count);
    write_states(f_, 0, thread);
    for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const std::deque<LayerWeights>& group = weights_.groups[static_cast<size_t>(config_.group_of(layer))];
      for (const LayerWeights& w : group) {
        const bool last = layer + 1 == config_.num_hidden_layers && &w == &group.back();
        transformer_layer(w, last && !f_.outputs.for_tokens(), thread);
      }
      write_states(f_, layer + 1, thread);
    }
    run_heads(f_, thread);
  }

 private:
  // LayerNorm((word + token type) + position), then the linear map from E to H.
  void embed() const {
    const auto e = static_cast<size_t>(config_.embedding_size);
    team_.for_rows(f_.chunk.count, [&](int token) {
      const int at = f_.chunk.first_token + token;
      float* out = b_.embedded + static_cast<size_t>(token) * b_.stride.embedding;
      if (const int id = tokens_.input_ids[at]; id == config_.padding_idx)
        std::fill_n(out, e, 0.0f);
      else
        weights_.read_word_embedding(id, out);
      kernels_.layer_norm({.x = out,
                           .x_stride = 0,
                           .bias = weights_.token_type_embeddings + static_cast<size_t>(tokens_.token_type_ids[at]) * e,
                           .residual = weights_.position_embeddings + static_cast<size_t>(tokens_.positions[at]) * e,
                           .residual_stride = 0,
                           .scale = weights_.embedding_norm.scale,
                           .shift = weights_.embedding_norm.shift,
                           .epsilon = config_.layer_norm_eps,
                           .out = out,
                           .out_stride = 0,
                           .rows = 1,
                           .columns = config_.embedding_size});
    });
    linear(team_, kernels_, weights_.mapping_in, floats(b_.embedded, b_.stride.embedding), f_.chunk.count,
           {.c = b_.hidden, .stride = b_.stride.hidden}, true);
    quantize(b_.hidden, b_.stride.hidden, config_.hidden_size, f_.chunk.count);
  }

  // b_.hidden to the next b_.hidden. Where the pooler alone reads the last layer, all but its keys and values is computed for the
  // first token of each row only.
  void transformer_layer(const LayerWeights& w, bool first_tokens_only, int thread) const {
    const int count = first_tokens_only ? f_.chunk.rows : f_.chunk.count;
    attention(w, first_tokens_only, thread);
    add_and_norm(b_.attention_output, w.dense.bias(0), b_.hidden, w.attention_norm, b_.attended, count, thread);
    feed_forward(w, count, thread);
    add_and_norm(b_.ffn_output, w.ffn_output.bias(0), b_.attended, w.full_norm, b_.hidden, count, thread);
  }

  // b_.hidden to b_.attention_output, without its bias.
  void attention(const LayerWeights& w, bool first_tokens_only, int thread) const {
    if (first_tokens_only)
      attend_from_first_tokens(w, thread);
    else
      attend_from_all_tokens(w, thread);
    const int count = first_tokens_only ? f_.chunk.rows : f_.chunk.count;
    const Activations context =
        to_activations(b_.context, b_.stride.hidden, b_.stride.hidden_bf16, config_.hidden_size, count, thread);
    linear(team_, kernels_, w.dense, context, count, as_floats(b_.attention_output, thread), false);
    f_.end_step(Step::attention_output, thread, w.dense, count);
  }

  void attend_from_all_tokens(const LayerWeights& w, int thread) const {
    linear(team_, kernels_, w.qkv, activations(b_.hidden, b_.stride.hidden), f_.chunk.count,
           as_floats_or_bf16(b_.qkv, b_.stride.qkv, thread), true);
    f_.end_step(Step::qkv, thread, w.qkv, f_.chunk.count);
    attend(b_.qkv, b_.stride.qkv, false, thread);
  }

  // Keys and values of all tokens, then queries of the first ones, whose hidden states are all that is kept.
  void attend_from_first_tokens(const LayerWeights& w, int thread) const {
    const int h = config_.hidden_size, columns = w.qkv.panel_columns();
    const size_t query_stride = b_.stride.reduced() ? b_.stride.hidden_bf16 : b_.stride.hidden;
    linear(team_, kernels_, w.qkv, activations(b_.hidden, b_.stride.hidden), f_.chunk.count,
           as_floats_or_bf16(b_.qkv, b_.stride.qkv, thread), true, Activation::none, {h / columns, w.qkv.panels()});
    f_.end_step(Step::qkv, thread, w.qkv, f_.chunk.count, 2 * h);
    keep_first_tokens();
    quantize(b_.hidden, b_.stride.hidden, h, f_.chunk.rows);
    linear(team_, kernels_, w.qkv, activations(b_.hidden, b_.stride.hidden), f_.chunk.rows,
           as_floats_or_bf16(b_.first_queries, query_stride, thread), true, Activation::none, {0, (h + columns - 1) / columns});
    f_.end_step(Step::qkv, thread, w.qkv, f_.chunk.rows, h);
    attend(b_.first_queries, query_stride, true, thread);
  }

  // H floats.
  LinearOutput as_floats(float* to, int thread) const {
    return {.c = to, .stride = b_.stride.hidden, .scratch = b_.stride.reduced() ? b_.scratch_of(thread) : nullptr};
  }

  // Floats, in reduced precision bfloat16, a row every `stride` values.
  LinearOutput as_floats_or_bf16(float* to, size_t stride, int thread) const {
    if (!b_.stride.reduced()) return {.c = to, .stride = stride};
    return {.out_bf16 = as_bf16(to), .out_bf16_stride = stride, .scratch = b_.scratch_of(thread)};
  }

  static Bf16* as_bf16(float* x) { return reinterpret_cast<Bf16*>(x); }

  // softmax(Q K^T / sqrt(head size)) V by head, from `queries` and the K|V of b_.qkv to b_.context, a row for each query. The mask
  // is applied here: a row's keys begin behind its masked first token.
  void attend(const float* queries, size_t query_stride, bool first_tokens_only, int thread) const {
    const int heads = config_.num_attention_heads, size = config_.head_size();
    const auto h = static_cast<size_t>(config_.hidden_size);
    const size_t value_size = b_.stride.reduced() ? sizeof(Bf16) : sizeof(float);
    const auto value_at = [&](const float* rows, int row, size_t stride, size_t column) {
      return reinterpret_cast<const std::byte*>(rows) + (static_cast<size_t>(row) * stride + column) * value_size;
    };
    team_.for_each(f_.chunk.rows * heads, [&](int task) {
      const int row = task / heads, head = task % heads;
      const int first = tokens_.row_starts[f_.chunk.first_row + row] - f_.chunk.first_token;
      const int end = tokens_.row_starts[f_.chunk.first_row + row + 1] - f_.chunk.first_token;
      const int first_key = first + tokens_.masked_first[f_.chunk.first_row + row];
      const int first_query = first_tokens_only ? row : first;
      const auto column = static_cast<size_t>(head) * static_cast<size_t>(size), first_out = static_cast<size_t>(first_query);
      kernels_.attention_head(
          {.precision = b_.stride.reduced() ? Precision::bf16 : Precision::fp32,
           .q = value_at(queries, first_query, query_stride, column),
           .q_stride = query_stride,
           .k = value_at(b_.qkv, first_key, b_.stride.qkv, h + column),
           .v = value_at(b_.qkv, first_key, b_.stride.qkv, 2 * h + column),
           .kv_stride = b_.stride.qkv,
           .out = b_.stride.reduced() ? nullptr : b_.context + first_out * b_.stride.hidden + column,
           .out_stride = b_.stride.hidden,
           .out_bf16 = b_.stride.reduced() ? as_bf16(b_.context) + first_out * b_.stride.hidden_bf16 + column : nullptr,
           .out_bf16_stride = b_.stride.hidden_bf16,
           .queries = first_tokens_only ? 1 : end - first,
           .keys = end - first_key,
           .head_size = size,
           .scale = 1.0f / std::sqrt(static_cast<float>(size)),
           .scratch = b_.scratch_of(thread)});
      if (b_.stride.reduced() && h % 2 != 0 && head + 1 == heads)  // the rest of a row's last word
        for (size_t query = 0; query < (first_tokens_only ? 1 : static_cast<size_t>(end - first)); ++query)
          as_bf16(b_.context)[(first_out + query) * b_.stride.hidden_bf16 + h] = 0;
    });
    if (f_.profile != nullptr && thread == 0)
      f_.profile->end_step(Step::attention, attention_operations(first_tokens_only),
                           b_.stride.reduced() ? Precision::bf16 : Precision::fp32);
  }

  // Of Q K^T and of the weights by V, both [queries, keys] by H for all heads together.
  double attention_operations(bool first_tokens_only) const {
    double scores = 0;
    for (int row = f_.chunk.first_row; row < f_.chunk.first_row + f_.chunk.rows; ++row) {
      const int length = tokens_.row_starts[row + 1] - tokens_.row_starts[row];
      scores += static_cast<double>(first_tokens_only ? 1 : length) * (length - tokens_.masked_first[row]);
    }
    return 2 * 2.0 * scores * config_.hidden_size;
  }

  // FFN(b_.attended), quantized by now where that is needed, to b_.ffn_output, without the last bias.
  void feed_forward(const LayerWeights& w, int count, int thread) const {
    linear(team_, kernels_, w.ffn, activations(b_.attended, b_.stride.hidden), count,
           as_floats_or_bf16(b_.ffn_inner, b_.stride.ffn, thread), true, config_.hidden_act);
    f_.end_step(Step::ffn, thread, w.ffn, count);
    const Activations inner = to_activations(b_.ffn_inner, b_.stride.ffn, b_.stride.ffn, config_.intermediate_size, count, thread);
    linear(team_, kernels_, w.ffn_output, inner, count, as_floats(b_.ffn_output, thread), false);
    f_.end_step(Step::ffn_output, thread, w.ffn_output, count);
  }

  // x [count, columns] as the activations of the next product. In reduced precision x holds bfloat16, a row every `bf16_stride`:
  // bf16 multiplies them as they are, int8 quantizes them.
  Activations to_activations(float* x, size_t stride, size_t bf16_stride, int columns, int count, int thread) const {
    if (b_.stride.precision == Precision::bf16) return {reinterpret_cast<Word*>(x), bf16_stride / 2, nullptr, nullptr};
    if (b_.stride.precision == Precision::int8) {
      team_.for_ranges(count, [&](int first, int end) {
        QuantizeRows rows = quantize_arguments(columns, first, end);
        rows.x_bf16 = as_bf16(x) + static_cast<size_t>(first) * bf16_stride;
        rows.x_bf16_stride = bf16_stride;
        kernels_.quantize_rows(rows);
      });
      f_.end_step(Step::quantize, thread);
    }
    return activations(x, stride);
  }

  // The activations of the next product: in fp32 the floats x themselves, else what was quantized last.
  Activations activations(const float* x, size_t stride) const {
    if (!b_.stride.reduced()) return floats(x, stride);
    return {b_.words, b_.stride.words, b_.scale, b_.sum};
  }

  // In reduced precision: x [count, columns] to b_.words.
  void quantize(const float* x, size_t stride, int columns, int count) const {
    if (!b_.stride.reduced()) return;
    team_.for_ranges(count, [&](int first, int end) { quantize_range(x, stride, columns, first, end); });
  }

  void quantize_range(const float* x, size_t stride, int columns, int first, int end) const {
    QuantizeRows rows = quantize_arguments(columns, first, end);
    rows.x = x + static_cast<size_t>(first) * stride;
    rows.x_stride = stride;
    kernels_.quantize_rows(rows);
  }

  // The arguments of quantize_rows for these rows of b_.words, but for the rows to read.
  QuantizeRows quantize_arguments(int columns, int first, int end) const {
    return {.precision = b_.stride.precision,
            .words = b_.words + static_cast<size_t>(first) * b_.stride.words,
            .stride = b_.stride.words,
            .scale = b_.scale + first,
            .sum = b_.sum + first,
            .rows = end - first,
            .columns = columns};
  }

  // out = LayerNorm((x + bias) + residual), all [count, H], and quantized for the product that follows.
  void add_and_norm(const float* x, const float* bias, const float* residual, const NormWeights& norm, float* out, int count,
                    int thread) const {
    team_.for_ranges(count, [&](int first, int end) {
      const size_t at = static_cast<size_t>(first) * b_.stride.hidden;
      kernels_.layer_norm({.x = x + at,
                           .x_stride = b_.stride.hidden,
                           .bias = bias,
                           .residual = residual + at,
                           .residual_stride = b_.stride.hidden,
                           .scale = norm.scale,
                           .shift = norm.shift,
                           .epsilon = config_.layer_norm_eps,
                           .out = out + at,
                           .out_stride = b_.stride.hidden,
                           .rows = end - first,
                           .columns = config_.hidden_size});
      if (b_.stride.reduced()) quantize_range(out, b_.stride.hidden, config_.hidden_size, first, end);
    });
    f_.end_step(Step::add_and_norm, thread);
  }

  // Row r of b_.hidden = the first token of row r. In ascending order, in place: a row never moves past one not yet moved.
  void keep_first_tokens() const {
    team_.for_each(1, [&](int) {
      for (int row = 1; row < f_.chunk.rows; ++row)
        std::memmove(
            b_.hidden + static_cast<size_t>(row) * b_.stride.hidden,
            b_.hidden + static_cast<size_t>(tokens_.row_starts[f_.chunk.first_row + row] - f_.chunk.first_token) * b_.stride.hidden,
            static_cast<size_t>(config_.hidden_size) * sizeof(float));
    });
  }

  const ForwardContext& f_;
  ThreadTeam& team_ = f_.team;
  const Kernels& kernels_ = f_.kernels;
  const ModelConfig& config_ = f_.config;
  const Weights& weights_ = f_.weights;
  const PackedTokens& tokens_ = f_.tokens;
  const Buffers& b_ = f_.buffers;
};

}  // namespace

size_t forward_bytes_per_token(const ModelConfig& config, Precision precision) {
  return BufferStrides(config, precision).floats_per_token() * sizeof(float);
}

void run_forward(ThreadTeam& team, const Kernels& kernels, const ModelConfig& config, const HeadConfig& heads,
                 const Weights& weights, const PackedTokens& tokens, int first_row, int end_row, const Outputs& outputs,
                 RunProfile* profile) {
  const Chunk chunk(tokens, first_row, end_row);
  const ForwardContext context{
      .team = team,
      .kernels = kernels,
      .config = config,
      .heads = heads,
      .weights = weights,
      .tokens = tokens,
      .outputs = outputs,
      .chunk = chunk,
      .buffers = Buffers(config, weights.precision, team.workspace, chunk, team.size(), logit_floats(weights, chunk.count)),
      .profile = profile};
  const Forward forward(context);
  team.run([&forward](int thread) { forward(thread); });
}

}  // namespace albert
