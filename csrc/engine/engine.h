// One model ready to run: immutable after construction, shared by any number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/batch.h"
#include "engine/config.h"
#include "engine/profile.h"
#include "engine/weights.h"
#include "kernels/kernels.h"

namespace albert {

class Engine {
 public:
  // std::invalid_argument for a config or tensors that do not fit together, std::system_error for the file, std::bad_alloc.
  Engine(const std::string& weights_path, const TensorTable& tensors, const ModelConfig& config, const HeadConfig& heads,
         Precision precision, const Kernels& kernels, const PackedCache& cache);

  // Long batches are cut into forward passes of bounded memory. std::invalid_argument for inconsistent tokens.
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
  const std::unique_ptr<Profile> profile_;  // null: none is asked for
};

}  // namespace albert
