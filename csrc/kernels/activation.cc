#include "kernels/activation.h"

#include "kernels/activate.h"

namespace albert::ALBERT_ISA {

// x[count] = activation(x), in place.
void activate(Activation activation, float* x, size_t count) {
  with_activation<Precision::fp32>(activation, [&](auto function) {
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(x + i, function(load(x + i)));
    if (const int rest = static_cast<int>(count - i); rest > 0) store_first(x + i, function(load_first(x + i, rest)), rest);
  });
}

}  // namespace albert::ALBERT_ISA
