#include "engine/engine.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "engine/forward.h"
#include "engine/thread_team.h"

namespace albert {
namespace {

// More activations than this make a forward pass no faster: each weight that is read is used often enough by then.
constexpr size_t kForwardBytes = size_t{64} << 20;

ModelConfig checked(const ModelConfig& c) {
  for (const int size : {c.vocab_size, c.embedding_size, c.hidden_size, c.num_hidden_layers, c.num_hidden_groups, c.inner_group_num,
                         c.num_attention_heads, c.intermediate_size, c.max_position_embeddings, c.type_vocab_size})
    if (size < 1 || size > kMaxSize) throw std::invalid_argument("a size of the config is out of range");
  if (c.hidden_size % c.num_attention_heads != 0)
    throw std::invalid_argument("hidden_size is not a multiple of num_attention_heads");
  if (c.num_hidden_groups > c.num_hidden_layers) throw std::invalid_argument("there are more groups than layers");
  return c;
}

}  // namespace

Engine::Engine(const std::string& weights_path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
               Precision precision, const Kernels& kernels, const PackedCache& cache)
    : config_(checked(config)),
      heads_(heads),
      kernels_(kernels),
      weights_(weights_path, tensors, config_, heads, kernels.panel_columns, precision, cache),
      profile_(Profile::from_environment(kernels, precision)) {
  if (!heads.pooled_classifier.empty() && !config.add_pooling_layer)
    throw std::invalid_argument("a classifier of the pooled output needs a pooler");
}

void Engine::check(const PackedTokens& t, const Outputs& outputs) const {
  const auto demand = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  };
  demand(outputs.pooled == nullptr || config_.add_pooling_layer, "this model has no pooler");
  demand(outputs.token_logits == nullptr || token_labels() > 0, "this model has no classifier of tokens");
  demand(outputs.pooled_logits == nullptr || pooled_labels() > 0, "this model has no classifier of the pooled output");
  demand(outputs.scores == nullptr || heads_.vocabulary, "this model has no vocabulary head");
  const bool needs_width = outputs.hidden != nullptr || outputs.states != nullptr || outputs.token_logits != nullptr;
  demand(t.rows > 0 && t.row_starts[0] == 0, "row_starts must begin with 0");
  for (int row = 0; row < t.rows; ++row) {
    const int first = t.row_starts[row], end = t.row_starts[row + 1];
    demand(t.masked_first[row] == 0 || t.masked_first[row] == 1, "masked_first must be 0 or 1");
    demand(first + t.masked_first[row] < end, "a row has no token to attend to");
    for (int token = first; token < end; ++token) {
      demand(t.input_ids[token] >= 0 && t.input_ids[token] < config_.vocab_size, "a token id is outside the vocabulary");
      demand(t.token_type_ids[token] >= 0 && t.token_type_ids[token] < config_.type_vocab_size, "a token type id is out of range");
      demand(t.positions[token] >= 0 && t.positions[token] < config_.max_position_embeddings, "a position is out of range");
      demand(!needs_width || t.positions[token] < outputs.width, "a position lies outside the output");
    }
  }
  for (int i = 0; i < outputs.score_count; ++i) {
    const int32_t before = i == 0 ? 0 : outputs.score_tokens[i - 1];
    demand(outputs.score_tokens[i] >= before && outputs.score_tokens[i] < t.row_starts[t.rows],
           "score_tokens must ascend within the tokens");
  }
}

void Engine::run(const PackedTokens& tokens, const Outputs& outputs, int threads) const {
  check(tokens, outputs);
  if (threads < 1) throw std::invalid_argument("num_threads must be at least 1");
  std::optional<RunProfile> profile;
  if (profile_ != nullptr) profile.emplace(*profile_, tokens.row_starts[tokens.rows], threads);
  const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), threads);
  const auto max_tokens = static_cast<int>(std::max<size_t>(kForwardBytes / forward_bytes_per_token(config_, precision()), 1));
  for (int row = 0; row < tokens.rows;) {
    int end = row + 1;  // a row goes through whole, however long
    while (end < tokens.rows && tokens.row_starts[end + 1] - tokens.row_starts[row] <= max_tokens) ++end;
    run_forward(*team, kernels_, config_, heads_, weights_, tokens, row, end, outputs, profile ? &*profile : nullptr);
    row = end;
  }
}

}  // namespace albert
