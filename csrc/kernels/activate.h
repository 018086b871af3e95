// From the run-time choice of an activation to code compiled for it.
#pragma once

#include "kernels/activation.h"
#include "kernels/math.h"

namespace albert::ALBERT_ISA {

// Calls body(function), function: F32x16 -> F32x16. In reduced precision GELU is approximated, as far as rounding hides it.
template <Precision precision, typename Body>
ALBERT_INLINE void with_activation(Activation activation, Body&& body) {
  constexpr bool exact = precision == Precision::fp32;
  switch (activation) {
    case Activation::none:
      return body([](F32x16 x) { return x; });
    case Activation::gelu:
      return body([](F32x16 x) { return exact ? gelu(x) : coarse_gelu(x); });
    case Activation::gelu_tanh:
      return body([](F32x16 x) { return exact ? gelu_tanh(x) : coarse_gelu_tanh(x); });
    case Activation::relu:
      return body([](F32x16 x) { return relu(x); });
    case Activation::tanh:
      return body([](F32x16 x) { return tanh(x); });
  }
}

}  // namespace albert::ALBERT_ISA
