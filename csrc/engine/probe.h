#pragma once

#include "kernels/kernels.h"

namespace albert {

// The multiply-adds of a precision on registers alone, on `threads` threads for about 50 ms: 10^9 operations a second, a
// multiply-add counting two. What a GEMM of these kernels can reach at most on this machine at this moment.
double measure_peak(const Kernels& kernels, Precision precision, int threads);

}  // namespace albert
