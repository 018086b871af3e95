// The peak that a GEMM is compared with: the tile's multiply-adds on registers, without memory beyond a few words in the L1 cache.
#include "kernels/format.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

// Makes the compiler assume that x changes, or it would remove the loop.
template <typename Register>
ALBERT_INLINE void hide(Register& x) {
  if constexpr (sizeof x != sizeof(Native))
    asm volatile("" : "+m"(x));
  else
#if defined(__AVX512F__)
    asm volatile("" : "+v"(x));
#elif defined(__x86_64__)
    asm volatile("" : "+x"(x));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(x));
#else
    asm volatile("" : "+m"(x));
#endif
}

template <typename Step>
double multiply_adds(int64_t steps) {
  constexpr int kSums = kTileRows * kTileVectors * kParts;
  typename Step::Sum sum[kSums] = {};
  const Word word = 0;
  alignas(64) const Word words[kLanes] = {};
  typename Step::Weights weights = Step::weights(words);
  typename Step::Value value = Step::value(&word);
  hide(weights);
  for (int64_t step = 0; step < steps; ++step) {
    ALBERT_UNROLL
    for (auto& one : sum) {
      // A new value for each sum, or the compiler would hoist parts of a step that has several instructions.
      hide(value);
      one = Step::add(one, weights, value);
      hide(one);
    }
  }
  return static_cast<double>(steps) * kSums * kNativeLanes * Step::kValues * 2;
}

}  // namespace

// Runs `steps` steps and returns the number of operations, a multiply-add counting two. Where a precision is widened
// (kernels/format.h), these are the steps of the wider type.
double probe(Precision precision, int64_t steps) {
  switch (precision) {
    case Precision::fp32:
      return multiply_adds<Fp32Format::Step>(steps);
    case Precision::bf16:
      return multiply_adds<Bf16Format::Step>(steps);
    case Precision::int8:
      return multiply_adds<Int8Format::Step>(steps);
  }
  return 0;
}

}  // namespace albert::ALBERT_ISA
