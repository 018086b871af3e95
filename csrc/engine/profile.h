// Where an engine's time goes. With ALBERT_PROFILE=1 in the environment when an engine is made, a table is printed to stderr when
// the engine is destroyed, or at exit if it still exists then: for each step of the forward pass its seconds, their share of the
// total, and for matrix products 10^9 operations per second and their share of the peak that measure_peak() finds for the step's
// precision and the number of threads of the last run.
//
// The calling thread alone measures, from the end of one step to the end of the next, so that the steps add up to the time in
// Engine::run. Runs of several threads at once are added up. Without the variable a step costs one test of a null pointer.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/kernels.h"

namespace albert {

enum class Step {
  embeddings,  // with the linear map from E to H
  qkv,
  attention,
  attention_output,
  add_and_norm,  // twice in a layer; in reduced precision it quantizes for the next product
  ffn,
  ffn_output,
  quantize,  // int8: the inputs of attention_output and ffn_output
  token_classifier,
  vocabulary_head,
  pooler,
  pooled_classifier,
  copies,  // of hidden states and the pooled output to the caller's arrays
  other,   // waiting for threads, starting and joining them
};
constexpr int kSteps = static_cast<int>(Step::other) + 1;

struct StepTotals {
  double seconds = 0;
  double operations = 0;  // of its matrix products, a multiply-add counting two
  Precision precision = Precision::fp32;
};

// Sums over all runs of one engine.
class Profile {
 public:
  // Null unless ALBERT_PROFILE asks for a profile.
  static std::unique_ptr<Profile> from_environment(const Kernels& kernels, Precision precision);

  Profile(const Kernels& kernels, Precision precision);
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;
  ~Profile();  // prints

 private:
  friend class RunProfile;

  void add(const std::array<StepTotals, kSteps>& steps, int64_t tokens, int threads);
  void print() noexcept;
  std::string table();
  static void print_all();

  const Kernels& kernels_;
  const Precision precision_;
  std::mutex mutex_;
  std::array<StepTotals, kSteps> steps_;
  int64_t runs_ = 0, tokens_ = 0;
  int threads_ = 0;  // of the last run
  int process_;      // a forked child counts from zero
};

// The calling thread's clock during one run.
class RunProfile {
 public:
  RunProfile(Profile& profile, int64_t tokens, int threads) : profile_(profile), tokens_(tokens), threads_(threads) {}
  RunProfile(const RunProfile&) = delete;
  RunProfile& operator=(const RunProfile&) = delete;
  ~RunProfile();  // adds the run to the profile

  // What was done since the last call, or since construction, was this step.
  void end_step(Step step) {
    const Clock::time_point now = Clock::now();
    totals(step).seconds += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  void end_step(Step step, double operations, Precision precision) {
    totals(step).operations += operations;
    totals(step).precision = precision;
    end_step(step);
  }

 private:
  using Clock = std::chrono::steady_clock;

  StepTotals& totals(Step step) { return steps_[static_cast<size_t>(step)]; }

  Profile& profile_;
  const int64_t tokens_;
  const int threads_;
  Clock::time_point last_ = Clock::now();
  std::array<StepTotals, kSteps> steps_;
};

}  // namespace albert
