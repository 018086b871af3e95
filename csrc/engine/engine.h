// One model ready to run: immutable after construction, shared by any number of threads.
#pragma once

#include <cstdint>
#include <string>

#include "engine/config.h"
#include "engine/weights.h"
#include "kernels/kernels.h"

namespace albert {

// The tokens of all rows one after the other, no padding. Row b is tokens row_starts[b] to row_starts[b + 1].
struct PackedTokens {
  const int32_t* input_ids;
  const int32_t* positions;  // a token's column in the padded array
  const int32_t* token_type_ids;
  const int32_t* row_starts;    // [rows + 1]
  const int32_t* masked_first;  // [rows]: how many leading tokens of a row are masked as keys, 0 or 1
  int rows;
};

struct Outputs {
  float* hidden;  // [rows, width, H], or null. Written where a token is, masked first tokens excepted.
  // [rows, width, layers + 1, H], or null: the embeddings mapped to H, then what each layer puts out. Written as `hidden`.
  float* states;
  int width;
  float* pooled;         // [rows, H], or null
  float* token_logits;   // [rows, width, token_labels()], or null; written as `hidden`
  float* pooled_logits;  // [rows, pooled_labels()], or null
  // Scores of the vocabulary for some tokens: those of score_tokens[i], an index of the packed tokens, go to row score_slots[i] of
  // `scores`. score_tokens ascend.
  float* scores;  // [any, V], or null
  const int32_t* score_tokens;
  const int32_t* score_slots;
  int score_count;

  bool for_tokens() const { return hidden != nullptr || states != nullptr || token_logits != nullptr || scores != nullptr; }
  bool for_rows() const { return pooled != nullptr || pooled_logits != nullptr; }
};

class Engine {
 public:
  // std::invalid_argument for a config or tensors that do not fit together, std::system_error for the file, std::bad_alloc.
  Engine(const std::string& weights_path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
         Precision precision, const Kernels& kernels, const PackedCache& cache);

  // Long batches go through in passes of bounded memory. std::invalid_argument for inconsistent tokens.
  void run(const PackedTokens& tokens, const Outputs& outputs, int threads) const;

  const ModelConfig& config() const { return config_; }
  int token_labels() const { return weights_.token_classifier.columns(); }    // 0 without that head
  int pooled_labels() const { return weights_.pooled_classifier.columns(); }  // 0 without that head
  Precision precision() const { return weights_.precision; }
  const Kernels& kernels() const { return kernels_; }
  size_t packed_bytes() const { return weights_.packed_bytes; }
  bool found_packed() const { return weights_.found; }                            // in the cache
  const std::string& packed_file() const { return weights_.arena->file(); }       // empty: in memory of this process
  const std::string& cache_problem() const { return weights_.arena->problem(); }  // empty: none

 private:
  void check(const PackedTokens& tokens, const Outputs& outputs) const;

  const ModelConfig config_;
  const HeadConfig heads_;
  const Kernels& kernels_;
  const Weights weights_;
};

}  // namespace albert
