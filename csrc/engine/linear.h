// A whole matrix product, cut into tasks for a team.
#pragma once

#include "engine/team.h"
#include "engine/weights.h"
#include "kernels/kernels.h"

namespace albert {

struct PanelRange {
  int first, end;
};

// C[rows, w.columns()] = activation(A[rows, w.depth()] W + bias), the columns of `panels` only. To be called by every thread of the
// team. A row of C needs row_stride(w.columns()) floats: whole panels are written.
void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const float* a, size_t a_stride, int rows, float* c,
            size_t c_stride, bool with_bias, Activation activation, PanelRange panels);

inline void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const float* a, size_t a_stride, int rows, float* c,
                   size_t c_stride, bool with_bias, Activation activation = Activation::none) {
  linear(team, kernels, w, a, a_stride, rows, c, c_stride, with_bias, activation, {0, w.panels()});
}

}  // namespace albert
