// From the run-time choice of an activation to code compiled for it.
#pragma once

#include "kernels/activation.h"
#include "kernels/math.h"

namespace albert::ALBERT_ISA {

// Calls body(function) with function: F32x16 -> F32x16.
template <typename Body>
ALBERT_INLINE void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::none:
      return body([](F32x16 x) { return x; });
    case Activation::gelu:
      return body([](F32x16 x) { return gelu(x); });
    case Activation::gelu_tanh:
      return body([](F32x16 x) { return gelu_tanh(x); });
    case Activation::relu:
      return body([](F32x16 x) { return relu(x); });
    case Activation::tanh:
      return body([](F32x16 x) { return tanh(x); });
  }
}

}  // namespace albert::ALBERT_ISA
