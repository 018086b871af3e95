// One step of a tile: sum += word of A * words of W. A word has 32 bits whatever it holds, so that one tile serves all precisions.
//   Sum      a register of sums
//   Weights  a register of words of W, in the form that `add` takes
//   Value    a word of A in all lanes, in the form that `add` takes
//   add      the step: sum + w * x
//   plus     adds two sums
#pragma once

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {

ALBERT_INLINE NativeWords load_words(const Word* p) {
  NativeWords r;
  std::memcpy(&r, p, sizeof r);
  return r;
}

ALBERT_INLINE void store_words(Word* p, NativeWords words) { std::memcpy(p, &words, sizeof words); }

// A word is a float.
struct MultiplyFp32 {
  using Sum = Native;
  using Weights = Native;
  using Value = Native;
  static constexpr int kValues = 1;  // in a word
  ALBERT_INLINE static Weights weights(const Word* p) { return (Native)load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return splat_native(x);
  }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) { return fma(x, w, sum); }
  ALBERT_INLINE static Sum plus(Sum a, Sum b) { return a + b; }
};

#if defined(__AVX512BF16__)
// A word is two bfloat16. The instruction does two fused multiply-adds, the second values first. Each flushes a result to zero if,
// rounded with an unbounded exponent, it is subnormal. Two fma under FlushSubnormals give the same bits.
struct MultiplyBf16 {
  using Sum = Native;
  using Weights = NativeWords;
  using Value = NativeWords;
  static constexpr int kValues = 2;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) { return NativeWords{} + *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    return (Native)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
  ALBERT_INLINE static Sum plus(Sum a, Sum b) { return a + b; }
};
#elif !defined(__AVX2__)
// The same in plain C++.
struct MultiplyBf16 {
  struct Pair {
    Native first, second;
  };
  using Sum = Native;
  using Weights = Pair;
  using Value = Pair;
  static constexpr int kValues = 2;
  ALBERT_INLINE static Pair split(NativeWords w) { return {(Native)(w << 16), (Native)(w & 0xffff0000u)}; }
  ALBERT_INLINE static Weights weights(const Word* p) { return split(load_words(p)); }
  ALBERT_INLINE static Value value(const Word* p) { return split(NativeWords{} + *p); }
  ALBERT_INLINE static Native zero_where(NativeInt small, Native x) {
    return (Native)((NativeInt)x & (~small | INT32_MIN));  // a zero keeps its sign
  }
  ALBERT_INLINE static Native fma_flushed(Native a, Native b, Native c) {
    const NativeWide odd = fma_to_odd(a, b, c);
    // The smallest magnitude that rounds to a normal number in 24 bits.
    constexpr double kMinNormal = 0x1p-126 - 0x1p-151;
    const auto small = (NativeWideInt)((odd < kMinNormal) & (odd > -kMinNormal));
    return zero_where(__builtin_convertvector(small, NativeInt), __builtin_convertvector(odd, Native));
  }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    return fma_flushed(x.first, w.first, fma_flushed(x.second, w.second, sum));
  }
  ALBERT_INLINE static Sum plus(Sum a, Sum b) {
    const Native sum = a + b;  // exact where it is subnormal
    return zero_where((NativeInt)((sum < 0x1p-126f) & (sum > -0x1p-126f)), sum);
  }
};
#endif

#if defined(__AVX512VNNI__) || !defined(__AVX2__)
// A word is four bytes: unsigned weights, signed activations.
struct MultiplyInt8 {
  using Sum = NativeInt;
  using Weights = NativeWords;
  static constexpr int kValues = 4;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
#if defined(__AVX512VNNI__)
  using Value = NativeWords;
  ALBERT_INLINE static Value value(const Word* p) { return NativeWords{} + *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    // Not the intrinsic: with it GCC 12 spills the sums to the stack.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }
#else
  using Value = Word;
  ALBERT_INLINE static Value value(const Word* p) { return *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    ALBERT_UNROLL
    for (int i = 0; i < 4; ++i)
      sum += (NativeInt)((w >> (8 * i)) & 0xffu) * static_cast<int32_t>(static_cast<int8_t>(x >> (8 * i)));
    return sum;
  }
#endif
  ALBERT_INLINE static Sum plus(Sum a, Sum b) { return a + b; }
};
#else
// A word is two 16-bit integers with the values of bytes: their products, added in pairs, are exact. The instruction that
// multiplies bytes (pmaddubsw) saturates.
struct MultiplyInt16 {
  using Sum = NativeInt;
  using Weights = NativeWords;
  using Value = NativeWords;
  static constexpr int kValues = 2;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) { return NativeWords{} + *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
#if defined(__AVX512BW__)
    return sum + (NativeInt)_mm512_madd_epi16((__m512i)w, (__m512i)x);
#else
    return sum + (NativeInt)_mm256_madd_epi16((__m256i)w, (__m256i)x);
#endif
  }
  ALBERT_INLINE static Sum plus(Sum a, Sum b) { return a + b; }
};
#endif

}  // namespace albert::ALBERT_ISA
