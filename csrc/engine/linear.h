// A whole matrix product, cut into tasks for a team.
#pragma once

#include "engine/thread_team.h"
#include "engine/weights.h"
#include "kernels/kernels.h"

namespace albert {

struct PanelRange {
  int first, end;
};

// Floats as the activations of a product with an fp32 matrix.
inline Activations floats(const float* x, size_t stride) { return {reinterpret_cast<const Word*>(x), stride, nullptr, nullptr}; }

// Floats [rows, inner_dim] as the activations of a product in any precision, owning the memory that they need.
class OwnedActivations {
 public:
  OwnedActivations(const Kernels& kernels, Precision precision, const float* x, int rows, int inner_dim);
  const Activations& get() const { return operand_; }

 private:
  WordBlock words_;
  FloatBlock scale_;
  Block<int32_t> sum_;
  Activations operand_;
};

// Where a product is written: as floats, or rounded to bfloat16. A row needs row_stride(w.columns()) values: whole panels are
// written.
struct LinearOutput {
  float* c = nullptr;
  size_t stride = 0;
  Bf16* out_bf16 = nullptr;
  size_t out_bf16_stride = 0;
  float* scratch = nullptr;  // of this thread, kLinearScratch floats; not needed where an fp32 product goes to floats
};
constexpr int kRowsPerChunk = 240;  // see linear.cc
// The float sums of a chunk that is written as bfloat16, and the kernel's own scratch.
constexpr size_t kSumFloats = kRowsPerChunk * row_stride(kMaxPanelColumns);
constexpr size_t kLinearScratch = kSumFloats + kGemmScratch;

// C[rows, w.columns()] = activation(A[rows, w.inner_dim()] W + bias), the columns of `panels` only; A in the precision of W. To be
// called by every thread of the team.
void linear(ThreadTeam& team, const Kernels& kernels, const PackedMatrix& w, const Activations& a, int rows,
            const LinearOutput& result, bool with_bias, Activation activation, PanelRange panels);

inline void linear(ThreadTeam& team, const Kernels& kernels, const PackedMatrix& w, const Activations& a, int rows,
                   const LinearOutput& result, bool with_bias, Activation activation = Activation::none) {
  linear(team, kernels, w, a, rows, result, with_bias, activation, {0, w.panels()});
}

}  // namespace albert
