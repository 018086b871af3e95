#pragma once

#include "engine/engine.h"
#include "engine/profile.h"
#include "engine/thread_team.h"

namespace albert {

// Bytes of activations that a forward pass holds for each of its tokens.
size_t forward_bytes_per_token(const ModelConfig& config, Precision precision);

// Rows first_row to end_row of `tokens` through the whole model. `profile` may be null.
void run_forward(ThreadTeam& team, const Kernels& kernels, const ModelConfig& config, const HeadConfig& heads,
                 const Weights& weights, const PackedTokens& tokens, int first_row, int end_row, const Outputs& outputs,
                 RunProfile* profile);

}  // namespace albert
