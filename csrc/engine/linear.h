// A whole matrix product, cut into tasks for a team.
#pragma once

#include "engine/thread_team.h"
#include "engine/weights.h"
#include "kernels/kernels.h"

namespace albert {

struct PanelRange {
  int first, end;
};

// Floats as the operand of a product with an fp32 matrix.
inline Operand floats(const float* x, size_t stride) { return {reinterpret_cast<const Word*>(x), stride, nullptr, nullptr}; }

// Floats [rows, depth] as an operand of any precision, with the memory that it needs.
class OwnedOperand {
 public:
  OwnedOperand(const Kernels& kernels, Precision precision, const float* x, int rows, int depth);
  const Operand& get() const { return operand_; }

 private:
  WordBlock words_;
  FloatBlock scale_;
  Block<int32_t> sum_;
  Operand operand_;
};

// Where a product goes: to floats, or rounded to bfloat16. A row needs row_stride(w.columns()) values: whole panels are written.
struct Result {
  float* c = nullptr;
  size_t stride = 0;
  Bf16* rounded = nullptr;
  size_t rounded_stride = 0;
  float* scratch = nullptr;  // of this thread, kLinearScratch floats; not needed where an fp32 product goes to floats
};
constexpr int kRowsPerChunk = 240;  // see linear.cc
// The sums of a chunk whose result is rounded, and what the kernel needs.
constexpr size_t kSumFloats = kRowsPerChunk * row_stride(kMostPanelColumns);
constexpr size_t kLinearScratch = kSumFloats + kGemmScratch;

// C[rows, w.columns()] = activation(A[rows, w.depth()] W + bias), the columns of `panels` only; A in the precision of W. To be
// called by every thread of the team.
void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const Operand& a, int rows, const Result& result,
            bool with_bias, Activation activation, PanelRange panels);

inline void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const Operand& a, int rows, const Result& result,
                   bool with_bias, Activation activation = Activation::none) {
  linear(team, kernels, w, a, rows, result, with_bias, activation, {0, w.panels()});
}

}  // namespace albert
