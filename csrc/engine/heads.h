// From the hidden states to the outputs that the caller asked for.
#pragma once

#include "engine/buffers.h"

namespace albert {

// The floats that the heads need for `count` tokens beside the activations.
size_t logit_floats(const Weights& weights, int count);

// Both to be called by every thread of the team. write_states copies `hidden`, as it is after `layer` layers, to
// outputs.states where that is asked for.
void write_states(const ForwardContext& f, int layer, int thread);
void run_heads(const ForwardContext& f, int thread);

}  // namespace albert
