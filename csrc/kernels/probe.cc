// The ceiling that a GEMM is measured against: the tile's multiply-adds on registers, no memory but a few words of the first-level
// cache.
#include "kernels/format.h"
#include "kernels/tile.h"

namespace albert::ALBERT_ISA {
namespace {

// Or the compiler would see that nothing changes.
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
      // Another value for each sum, or a step of several instructions would be partly done once for all of them.
      hide(value);
      one = Step::add(one, weights, value);
      hide(one);
    }
  }
  return static_cast<double>(steps) * kSums * kNativeLanes * Step::kValues * 2;
}

}  // namespace

// Operations done in `steps` steps, a multiply-add counting two. A precision without an instruction has the wider one in its place.
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
