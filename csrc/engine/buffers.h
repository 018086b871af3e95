// Where the activations of a forward pass lie: one block of memory, cut into named buffers. Layers and heads share them.
#pragma once

#include <algorithm>

#include "engine/batch.h"
#include "engine/config.h"
#include "engine/linear.h"
#include "engine/memory.h"
#include "engine/profile.h"
#include "kernels/attention.h"

namespace albert {

// Values between the rows of each buffer. In reduced precision (bf16 and int8) Q|K|V, what attention gives and what the FFN holds
// inside are bfloat16, and a product's activations are converted to words of their own.
struct BufferStrides {
  Precision precision;
  size_t embedding;    // E floats
  size_t hidden;       // H floats
  size_t hidden_bf16;  // H bfloat16 in a row of H floats: two fit where one float does
  size_t qkv;          // 3H floats or bfloat16
  size_t ffn;          // I floats or bfloat16
  size_t words;        // of quantized activations: H, in int8 also I of them; fp32 multiplies the floats themselves
  size_t scales;       // int8: 2, the scale and the sum of a row

  BufferStrides(const ModelConfig& c, Precision type)
      : precision(type),
        embedding(row_stride(c.embedding_size)),
        hidden(row_stride(c.hidden_size)),
        hidden_bf16(2 * hidden),
        qkv(row_stride(3 * c.hidden_size)),
        ffn(row_stride(c.intermediate_size)),
        words(precision == Precision::fp32   ? 0
              : precision == Precision::bf16 ? row_stride(words_of(precision, c.hidden_size))
                                             : row_stride(words_of(precision, std::max(c.hidden_size, c.intermediate_size)))),
        scales(precision == Precision::int8 ? 2 : 0) {}
  bool reduced() const { return precision != Precision::fp32; }
  size_t wide_floats() const { return reduced() ? std::max(qkv, ffn) / 2 : std::max(qkv, ffn); }
  size_t floats_per_token() const { return embedding + 3 * hidden + wide_floats() + words + scales; }
};

// A line is one piece of memory. The names on it are what it holds at different times, in this order; none is read after the next
// one is written. n: tokens of the chunk; a row's stride is in `stride`.
struct Buffers {
  BufferStrides stride;
  float* embedded;                       // [n, E]: the embeddings; the vocabulary head's E-wide states
  float* hidden;                         // [n, H]: input and output of a layer, and the residual of attention
  float *context, *ffn_output, *pooled;  // [n, H]: softmax(QK^T)V; the FFN's output; the pooler's output
  float *first_queries, *attention_output, *attended, *gathered;  // [n, H]: Q of first tokens; context W; normalized, the FFN's
                                                                  // input and residual; the rows that a head reads
  float *qkv, *ffn_inner;                                         // [n, 3H]: Q|K|V; [n, I]: the FFN inside
  Word* words;     // [n, stride.words]: the activations of the next product, quantized
  float* scale;    // int8: [n], of `words`
  int32_t* sum;    // int8: [n], of `words`
  float* logits;   // logit_floats(): what a head puts out, some rows at a time
  float* scratch;  // [threads, scratch_size]
  size_t scratch_size;

  Buffers(const ModelConfig& config, Precision precision, Workspace& memory, const Chunk& chunk, int threads, size_t logit_floats)
      : stride(config, precision), scratch_size(attention_scratch(chunk.longest, config.head_size())) {
    if (stride.reduced()) scratch_size = std::max(scratch_size, kLinearScratch);
    scratch_size = (scratch_size + 15) / 16 * 16;  // whole cache lines
    const auto lay_out = [&](BumpAllocator block) {
      const auto n = static_cast<size_t>(chunk.count);
      embedded = block.take<float>(n * stride.embedding);
      hidden = block.take<float>(n * stride.hidden);
      context = ffn_output = pooled = block.take<float>(n * stride.hidden);
      first_queries = attention_output = attended = gathered = block.take<float>(n * stride.hidden);
      qkv = ffn_inner = block.take<float>(n * stride.wide_floats());
      words = block.take<Word>(n * stride.words);
      scale = block.take<float>(n * stride.scales / 2);
      sum = block.take<int32_t>(n * stride.scales / 2);
      logits = block.take<float>(logit_floats);
      scratch = block.take<float>(static_cast<size_t>(threads) * scratch_size);
      return block.bytes();
    };
    lay_out(BumpAllocator(reinterpret_cast<std::byte*>(memory.reserve(lay_out(BumpAllocator()) / sizeof(float)))));
  }
  float* scratch_of(int thread) const { return scratch + static_cast<size_t>(thread) * scratch_size; }
};

// Everything that the steps of a forward pass read.
struct ForwardContext {
  ThreadTeam& team;
  const Kernels& kernels;
  const ModelConfig& config;
  const HeadConfig& heads;
  const Weights& weights;
  const PackedTokens& tokens;
  const Outputs& outputs;
  Chunk chunk;
  Buffers buffers;
  RunProfile* profile;  // null: none is asked for

  // To be called by every thread when a step is done; thread 0 measures.
  void end_step(Step step, int thread) const {
    if (profile != nullptr && thread == 0) profile->end_step(step);
  }
  // The same for a product of `rows` rows by W, or by `columns` columns of it.
  void end_step(Step step, int thread, const PackedMatrix& w, int rows, int columns) const {
    if (profile != nullptr && thread == 0) profile->end_step(step, 2.0 * rows * w.inner_dim() * columns, w.precision());
  }
  void end_step(Step step, int thread, const PackedMatrix& w, int rows) const { end_step(step, thread, w, rows, w.columns()); }
};

}  // namespace albert
