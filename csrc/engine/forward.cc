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

// Sizes of the activations in the workspace, of a token each. Strides count values: floats, words of an operand, bfloat16.
struct Layout {
  Precision precision;
  size_t embedding, hidden;  // E; H
  size_t qkv;                // 3H: floats, in reduced precision bfloat16
  size_t ffn;                // I: floats, in reduced precision bfloat16
  size_t operand;            // words: in reduced precision H, in int8 also I; none in fp32, which multiplies what is there
  size_t scales;             // int8: scale and sum of a token's operand
  Layout(const ModelConfig& c, Precision type)
      : precision(type),
        embedding(row_stride(c.embedding_size)),
        hidden(row_stride(c.hidden_size)),
        qkv(row_stride(3 * c.hidden_size)),
        ffn(row_stride(c.intermediate_size)),
        operand(precision == Precision::fp32   ? 0
                : precision == Precision::bf16 ? row_stride(words_of(precision, c.hidden_size))
                                               : row_stride(words_of(precision, std::max(c.hidden_size, c.intermediate_size)))),
        scales(precision == Precision::int8 ? 2 : 0) {}
  bool reduced() const { return precision != Precision::fp32; }
  // Q|K|V and the FFN's results share a buffer: they never meet.
  size_t wide_floats() const { return reduced() ? std::max(qkv, ffn) / 2 : std::max(qkv, ffn); }
  size_t floats_per_token() const { return embedding + 3 * hidden + wide_floats() + operand + scales; }
};

class Forward {
 public:
  Forward(ThreadTeam& team, const Kernels& kernels, const ModelConfig& config, const HeadConfig& heads, const Weights& weights,
          const PackedTokens& tokens, int first_row, int end_row, const Outputs& outputs)
      : team_(team),
        kernels_(kernels),
        config_(config),
        heads_(heads),
        weights_(weights),
        tokens_(tokens),
        outputs_(outputs),
        first_row_(first_row),
        rows_(end_row - first_row),
        first_token_(tokens.row_starts[first_row]),
        count_(tokens.row_starts[end_row] - first_token_),
        layout_(config, weights.precision) {
    for (int row = first_row; row < end_row; ++row)
      longest_ = std::max(longest_, tokens.row_starts[row + 1] - tokens.row_starts[row]);
    scratch_size_ = attention_scratch(longest_, config.head_size());
    if (layout_.reduced()) scratch_size_ = std::max(scratch_size_, kLinearScratch);
    scratch_size_ = (scratch_size_ + 15) / 16 * 16;  // whole cache lines
    Pieces sizes;
    lay_out(sizes);
    Pieces pieces(reinterpret_cast<std::byte*>(team.workspace.reserve(sizes.bytes() / sizeof(float))));
    lay_out(pieces);
  }

  // Thread `thread` of the team.
  void operator()(int thread) {
    const PassView view{.team = team_,
                        .kernels = kernels_,
                        .config = config_,
                        .heads = heads_,
                        .weights = weights_,
                        .tokens = tokens_,
                        .outputs = outputs_,
                        .first_row = first_row_,
                        .rows = rows_,
                        .first_token = first_token_,
                        .count = count_,
                        .embedding_stride = layout_.embedding,
                        .hidden_stride = layout_.hidden,
                        .embedded = embedded_,
                        .hidden = hidden_,
                        .spare = spare_,
                        .other = attended_,
                        .logits = logits_};
    embed();
    write_states(view, 0);
    for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const std::vector<LayerWeights>& group = weights_.groups[static_cast<size_t>(config_.group_of(layer))];
      for (const LayerWeights& w : group) {
        const bool last = layer + 1 == config_.num_hidden_layers && &w == &group.back();
        if (last && !outputs_.for_tokens())
          transformer_layer_for_first_tokens(w, thread);
        else
          transformer_layer(w, thread);
      }
      write_states(view, layer + 1);
    }
    run_heads(view);
  }

 private:
  void lay_out(Pieces& pieces) {
    const auto n = static_cast<size_t>(count_);
    embedded_ = pieces.take<float>(n * layout_.embedding);
    hidden_ = pieces.take<float>(n * layout_.hidden);
    attended_ = pieces.take<float>(n * layout_.hidden);
    spare_ = pieces.take<float>(n * layout_.hidden);
    wide_ = pieces.take<float>(n * layout_.wide_floats());
    operand_ = pieces.take<Word>(n * layout_.operand);
    operand_scale_ = pieces.take<float>(n * layout_.scales / 2);
    operand_sum_ = pieces.take<int32_t>(n * layout_.scales / 2);
    logits_ = pieces.take<float>(logit_floats(weights_, count_));
    scratch_ = pieces.take<float>(static_cast<size_t>(team_.size()) * scratch_size_);
  }

  // LayerNorm((word + token type) + position), then the linear map from E to H.
  void embed() {
    const auto e = static_cast<size_t>(config_.embedding_size);
    team_.for_rows(count_, [&](int token) {
      const int at = first_token_ + token;
      float* out = embedded_ + static_cast<size_t>(token) * layout_.embedding;
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
    linear(team_, kernels_, weights_.mapping_in, floats(embedded_, layout_.embedding), count_,
           {.c = hidden_, .stride = layout_.hidden}, true);
    convert(hidden_, layout_.hidden, config_.hidden_size, count_);
  }

  void transformer_layer(const LayerWeights& w, int thread) {
    linear(team_, kernels_, w.qkv, operand(hidden_, layout_.hidden), count_, rounded_result(wide_, layout_.qkv, thread), true);
    attention(wide_, layout_.qkv, false, thread);
    finish_layer(w, count_, thread);
  }

  // The last layer where only the pooler reads it: keys and values of all tokens, all else for the first token of each row alone.
  void transformer_layer_for_first_tokens(const LayerWeights& w, int thread) {
    const int h = config_.hidden_size, columns = w.qkv.panel_columns();
    const size_t query_stride = layout_.reduced() ? bf16_stride() : layout_.hidden;
    linear(team_, kernels_, w.qkv, operand(hidden_, layout_.hidden), count_, rounded_result(wide_, layout_.qkv, thread), true,
           Activation::none, {h / columns, w.qkv.panels()});
    keep_first_tokens();
    convert(hidden_, layout_.hidden, h, rows_);
    linear(team_, kernels_, w.qkv, operand(hidden_, layout_.hidden), rows_, rounded_result(spare_, query_stride, thread), true,
           Activation::none, {0, (h + columns - 1) / columns});
    attention(spare_, query_stride, true, thread);
    finish_layer(w, rows_, thread);
  }

  // H floats.
  LinearOutput result(float* to, int thread) const {
    return {.c = to, .stride = layout_.hidden, .scratch = layout_.reduced() ? scratch(thread) : nullptr};
  }

  // Floats, in reduced precision bfloat16, a row every `stride` values.
  LinearOutput rounded_result(float* to, size_t stride, int thread) const {
    if (!layout_.reduced()) return {.c = to, .stride = stride};
    return {.out_bf16 = as_bf16(to), .out_bf16_stride = stride, .scratch = scratch(thread)};
  }

  static Bf16* as_bf16(float* x) { return reinterpret_cast<Bf16*>(x); }

  float* scratch(int thread) const { return scratch_ + static_cast<size_t>(thread) * scratch_size_; }

  // Values between the rows of bfloat16 in a buffer for H floats: a float has room for two.
  size_t bf16_stride() const { return 2 * layout_.hidden; }

  // From the queries and the K|V of wide_ to attended_, which gets a row for each query: floats, in reduced precision bfloat16.
  void attention(const float* queries, size_t query_stride, bool first_tokens_only, int thread) {
    const int heads = config_.num_attention_heads, size = config_.head_size();
    const auto h = static_cast<size_t>(config_.hidden_size);
    const size_t value_size = layout_.reduced() ? sizeof(Bf16) : sizeof(float);
    const auto value_at = [&](const float* rows, int row, size_t stride, size_t column) {
      return reinterpret_cast<const std::byte*>(rows) + (static_cast<size_t>(row) * stride + column) * value_size;
    };
    team_.for_each(rows_ * heads, [&](int task) {
      const int row = task / heads, head = task % heads;
      const int first = tokens_.row_starts[first_row_ + row] - first_token_;
      const int end = tokens_.row_starts[first_row_ + row + 1] - first_token_;
      const int masked_first = first + tokens_.masked_first[first_row_ + row];
      const int first_query = first_tokens_only ? row : first;
      const auto column = static_cast<size_t>(head) * static_cast<size_t>(size), first_out = static_cast<size_t>(first_query);
      kernels_.attention_head({.precision = layout_.reduced() ? Precision::bf16 : Precision::fp32,
                               .q = value_at(queries, first_query, query_stride, column),
                               .q_stride = query_stride,
                               .k = value_at(wide_, masked_first, layout_.qkv, h + column),
                               .v = value_at(wide_, masked_first, layout_.qkv, 2 * h + column),
                               .kv_stride = layout_.qkv,
                               .out = layout_.reduced() ? nullptr : attended_ + first_out * layout_.hidden + column,
                               .out_stride = layout_.hidden,
                               .out_bf16 = layout_.reduced() ? as_bf16(attended_) + first_out * bf16_stride() + column : nullptr,
                               .out_bf16_stride = bf16_stride(),
                               .queries = first_tokens_only ? 1 : end - first,
                               .keys = end - masked_first,
                               .head_size = size,
                               .scale = 1.0f / std::sqrt(static_cast<float>(size)),
                               .scratch = scratch(thread)});
      if (layout_.reduced() && h % 2 != 0 && head + 1 == heads)  // the rest of a row's last word
        for (size_t query = 0; query < (first_tokens_only ? 1 : static_cast<size_t>(end - first)); ++query)
          as_bf16(attended_)[(first_out + query) * bf16_stride() + h] = 0;
    });
  }

  // The rest of a layer for `count` tokens: attended_ and the residual hidden_ to the next hidden_.
  void finish_layer(const LayerWeights& w, int count, int thread) {
    const Activations attended = activations(attended_, layout_.hidden, bf16_stride(), config_.hidden_size, count);
    linear(team_, kernels_, w.dense, attended, count, result(spare_, thread), false);
    add_and_normalize(spare_, w.dense.bias(0), hidden_, w.attention_norm, spare_, count);
    feed_forward(w, count, thread);
    add_and_normalize(attended_, w.ffn_output.bias(0), spare_, w.full_norm, hidden_, count);
  }

  // spare_, which is also the operand, to attended_.
  void feed_forward(const LayerWeights& w, int count, int thread) {
    linear(team_, kernels_, w.ffn, operand(spare_, layout_.hidden), count, rounded_result(wide_, layout_.ffn, thread), true,
           config_.hidden_act);
    const Activations inner = activations(wide_, layout_.ffn, layout_.ffn, config_.intermediate_size, count);
    linear(team_, kernels_, w.ffn_output, inner, count, result(attended_, thread), false);
  }

  // As the operand of the next product x [count, columns]: floats; in reduced precision bfloat16, a row every `rounded_stride`,
  // which in bf16 are the operand as they are.
  Activations activations(float* x, size_t stride, size_t rounded_stride, int columns, int count) {
    if (layout_.precision == Precision::bf16) return {reinterpret_cast<Word*>(x), rounded_stride / 2, nullptr, nullptr};
    if (layout_.precision == Precision::int8)
      team_.for_ranges(count, [&](int first, int end) {
        QuantizeRows rows = quantize_arguments(columns, first, end);
        rows.x_bf16 = as_bf16(x) + static_cast<size_t>(first) * rounded_stride;
        rows.x_bf16_stride = rounded_stride;
        kernels_.quantize_rows(rows);
      });
    return operand(x, stride);
  }

  // The operand of the next product: in fp32 the floats x themselves, else what they were last converted to.
  Activations operand(const float* x, size_t stride) const {
    if (!layout_.reduced()) return floats(x, stride);
    return {operand_, layout_.operand, operand_scale_, operand_sum_};
  }

  // In reduced precision: x [count, columns] to operand_.
  void convert(const float* x, size_t stride, int columns, int count) {
    if (!layout_.reduced()) return;
    team_.for_ranges(count, [&](int first, int end) { convert_rows(x, stride, columns, first, end); });
  }

  void convert_rows(const float* x, size_t stride, int columns, int first, int end) {
    QuantizeRows rows = quantize_arguments(columns, first, end);
    rows.x = x + static_cast<size_t>(first) * stride;
    rows.x_stride = stride;
    kernels_.quantize_rows(rows);
  }

  // Rows of operand_, from nowhere yet.
  QuantizeRows quantize_arguments(int columns, int first, int end) {
    return {.precision = layout_.precision,
            .words = operand_ + static_cast<size_t>(first) * layout_.operand,
            .stride = layout_.operand,
            .scale = operand_scale_ + first,
            .sum = operand_sum_ + first,
            .rows = end - first,
            .columns = columns};
  }

  // out = LayerNorm((x + bias) + residual), all [count, H], and the operand of the product that follows.
  void add_and_normalize(const float* x, const float* bias, const float* residual, const NormWeights& norm, float* out, int count) {
    team_.for_ranges(count, [&](int first, int end) {
      const size_t at = static_cast<size_t>(first) * layout_.hidden;
      kernels_.layer_norm({.x = x + at,
                           .x_stride = layout_.hidden,
                           .bias = bias,
                           .residual = residual + at,
                           .residual_stride = layout_.hidden,
                           .scale = norm.scale,
                           .shift = norm.shift,
                           .epsilon = config_.layer_norm_eps,
                           .out = out + at,
                           .out_stride = layout_.hidden,
                           .rows = end - first,
                           .columns = config_.hidden_size});
      if (layout_.reduced()) convert_rows(out, layout_.hidden, config_.hidden_size, first, end);
    });
  }

  // Row r of hidden_ = the first token of row r. In ascending order, in place: a row never moves past one not yet moved.
  void keep_first_tokens() {
    team_.for_each(1, [&](int) {
      for (int row = 1; row < rows_; ++row)
        std::memmove(hidden_ + static_cast<size_t>(row) * layout_.hidden,
                     hidden_ + static_cast<size_t>(tokens_.row_starts[first_row_ + row] - first_token_) * layout_.hidden,
                     static_cast<size_t>(config_.hidden_size) * sizeof(float));
    });
  }

  ThreadTeam& team_;
  const Kernels& kernels_;
  const ModelConfig& config_;
  const HeadConfig& heads_;
  const Weights& weights_;
  const PackedTokens& tokens_;
  const Outputs& outputs_;
  const int first_row_, rows_, first_token_, count_;
  const Layout layout_;
  int longest_ = 0;
  size_t scratch_size_ = 0;  // floats for each thread
  float *embedded_, *hidden_, *attended_, *spare_, *wide_, *operand_scale_, *logits_, *scratch_;
  Word* operand_;
  int32_t* operand_sum_;
};

}  // namespace

size_t forward_bytes_per_token(const ModelConfig& config, Precision precision) {
  return Layout(config, precision).floats_per_token() * sizeof(float);
}

void run_forward(ThreadTeam& team, const Kernels& kernels, const ModelConfig& config, const HeadConfig& heads,
                 const Weights& weights, const PackedTokens& tokens, int first_row, int end_row, const Outputs& outputs) {
  Forward forward(team, kernels, config, heads, weights, tokens, first_row, end_row, outputs);
  team.run([&forward](int thread) { forward(thread); });
}

}  // namespace albert
