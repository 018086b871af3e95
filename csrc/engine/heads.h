// From the last hidden states of a pass to the outputs that the caller asked for.
#pragma once

#include "engine/engine.h"
#include "engine/thread_team.h"

namespace albert {

// A pass: which rows it covers and where its activations lie. A buffer is [tokens of the pass, its size].
struct PassView {
  ThreadTeam& team;
  const Kernels& kernels;
  const ModelConfig& config;
  const HeadConfig& heads;
  const Weights& weights;
  const PackedTokens& tokens;
  const Outputs& outputs;
  int first_row, rows, first_token, count;
  size_t embedding_stride, hidden_stride;
  float* embedded;       // E wide, free
  float* hidden;         // H wide: every token, or only the first one of each row where no output is for tokens
  float *spare, *other;  // H wide, free
  float* logits;         // logit_floats(), free
};

// The floats that the heads of a pass of `count` tokens need beside the activations.
size_t logit_floats(const Weights& weights, int count);

// Both to be called by every thread of the team. write_states copies `hidden`, as it is after `layer` layers, to
// outputs.states where that is asked for.
void write_states(const PassView& pass, int layer);
void run_heads(const PassView& pass);

}  // namespace albert
