// The ceiling that a GEMM is measured against: the tile's multiply-adds on registers, no memory but a few words of the first-level
// cache.
#include "kernels/tile.h"

// Or the compiler would see that nothing changes.
#if defined(__AVX512F__)
#define ALBERT_OPAQUE(register) asm volatile("" : "+v"(register))
#elif defined(__x86_64__)
#define ALBERT_OPAQUE(register) asm volatile("" : "+x"(register))
#elif defined(__aarch64__)
#define ALBERT_OPAQUE(register) asm volatile("" : "+w"(register))
#else
#define ALBERT_OPAQUE(register) asm volatile("" : "+m"(register))
#endif

namespace albert::ALBERT_ISA {
namespace {

template <typename Multiply>
double probe(int64_t steps) {
  constexpr int kSums = kTileRows * kTileVectors * kParts;
  typename Multiply::Sum sum[kSums] = {};
  const Word word = 0;
  alignas(64) const Word words[kLanes] = {};
  for (int64_t step = 0; step < steps; ++step) {
    // Read anew, or where `add` takes several instructions, some of them would be done once and for all.
    asm volatile("" : : "r"(&word), "r"(words) : "memory");
    const typename Multiply::Weights weights = Multiply::weights(words);
    const typename Multiply::Value value = Multiply::value(&word);
    ALBERT_UNROLL
    for (auto& one : sum) {
      one = Multiply::add(one, weights, value);
      ALBERT_OPAQUE(one);
    }
  }
  return static_cast<double>(steps) * kSums * kNativeLanes * depth_per_word(Multiply::kPrecision) * 2;
}

}  // namespace

// Operations done in `steps` steps, a multiply-add counting two.
double probe(Precision precision, int64_t steps) {
  switch (precision) {
    case Precision::fp32:
      return probe<MultiplyFp32>(steps);
    case Precision::bf16:
      return probe<MultiplyBf16>(steps);
    case Precision::int8:
      return probe<MultiplyInt8>(steps);
  }
  return 0;
}

}  // namespace albert::ALBERT_ISA
