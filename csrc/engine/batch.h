// What a run reads and writes: a batch of packed tokens, and the outputs that the caller asked for.
#pragma once

#include <cstdint>

namespace albert {

// The tokens of all rows one after the other, without padding. Row b is tokens row_starts[b] to row_starts[b + 1].
//
// Masked tokens are left out, with one exception: a row's first token is always there, because the pooler reads it. Where it is
// masked, masked_first is 1: the token is a query like all others, but no token attends to it. This is all that is left of the
// attention mask; Forward::attend skips that many keys.
struct PackedTokens {
  const int32_t* input_ids;       // [tokens]
  const int32_t* positions;       // [tokens]: the token's column in the padded array
  const int32_t* token_type_ids;  // [tokens]
  const int32_t* row_starts;      // [rows + 1]
  const int32_t* masked_first;    // [rows]: how many leading tokens of the row are masked as keys, 0 or 1
  int rows;
};

// Where results go; null for what is not asked for. T = width, L = layers, H = hidden size, V = vocabulary size. The outputs for
// tokens are padded arrays in which only the places of tokens are written, those of masked first tokens excepted.
struct Outputs {
  float* hidden;  // [rows, T, H]: the last hidden states
  float* states;  // [rows, T, L + 1, H]: the embeddings mapped to H, then what each layer puts out
  int width;
  float* pooled;         // [rows, H]
  float* token_logits;   // [rows, T, token_labels()]
  float* pooled_logits;  // [rows, pooled_labels()]
  // Scores of the whole vocabulary for some tokens: those of packed token score_tokens[i] go to row score_slots[i] of `scores`.
  float* scores;                // [any, V]
  const int32_t* score_tokens;  // [score_count], ascending
  const int32_t* score_slots;   // [score_count]
  int score_count;

  bool for_tokens() const { return hidden != nullptr || states != nullptr || token_logits != nullptr || scores != nullptr; }
  bool for_rows() const { return pooled != nullptr || pooled_logits != nullptr; }
};

// The rows of a batch that go through the model together: rows first_row to first_row + rows, which are the `count` tokens from
// first_token on.
struct Chunk {
  int first_row, rows, first_token, count;
  int longest;  // tokens in the longest row

  Chunk(const PackedTokens& tokens, int begin, int end_row)
      : first_row(begin),
        rows(end_row - begin),
        first_token(tokens.row_starts[begin]),
        count(tokens.row_starts[end_row] - first_token),
        longest(0) {
    for (int row = begin; row < end_row; ++row) {
      const int length = tokens.row_starts[row + 1] - tokens.row_starts[row];
      longest = length > longest ? length : longest;
    }
  }
};

}  // namespace albert
