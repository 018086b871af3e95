// One step of a tile for each precision: sum += word of A * words of W. What the precisions have in common is that a word is 32
// bits, so that one tile serves them all.
//   Sum       a register of sums
//   Weights   a register of words of W, as `add` needs them
//   Value     a word of A for all lanes, as `add` needs it
// Attention, in fp32 and bf16, takes rows of
//   Element     the type of one value
//   interleave  sixteen columns of the rows that share a word, to sixteen words
//   to_words    sixteen consecutive floats to words; returns the values that the words stand for
#pragma once

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {

using NativeWords = uint32_t __attribute__((vector_size(kNativeLanes * sizeof(uint32_t))));

ALBERT_INLINE NativeWords load_words(const Word* p) {
  NativeWords r;
  std::memcpy(&r, p, sizeof r);
  return r;
}

struct MultiplyFp32 {
  static constexpr Precision kPrecision = Precision::fp32;
  using Sum = Native;
  using Weights = Native;
  using Value = Native;
  ALBERT_INLINE static Weights weights(const Word* p) { return (Native)load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return splat_native(x);
  }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) { return fma(x, w, sum); }
  using Element = float;
  ALBERT_INLINE static F32x16 to_words(F32x16 x, Word* words) {
    std::memcpy(words, &x, sizeof x);
    return x;
  }
  ALBERT_INLINE static void interleave(const float (&row)[1][kLanes], Word* words) { std::memcpy(words, row, sizeof row); }
};

// The first value of a word is its lower half, as bf16 the upper half of a float. The instruction adds the product of the second
// values first, and takes a sum too small to be a normal number for zero; so does the emulation.
struct MultiplyBf16 {
  static constexpr Precision kPrecision = Precision::bf16;
  using Sum = Native;
#if defined(__AVX512BF16__)
  using Weights = NativeWords;
  using Value = NativeWords;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) { return NativeWords{} + *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    return (Native)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
#else
  struct Pair {
    Native first, second;
  };
  using Weights = Pair;
  using Value = Pair;
  ALBERT_INLINE static Pair split(NativeWords w) { return {(Native)(w << 16), (Native)(w & 0xffff0000u)}; }
  ALBERT_INLINE static Weights weights(const Word* p) { return split(load_words(p)); }
  ALBERT_INLINE static Value value(const Word* p) { return split(NativeWords{} + *p); }
  ALBERT_INLINE static Native flushed(Native x) {
    const NativeInt bits = (NativeInt)x;
    const NativeInt normal = (bits & 0x7fffffff) >= 0x00800000;  // all ones
    return (Native)(bits & (normal | INT32_MIN));                // a zero keeps its sign
  }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    return flushed(fma(x.first, w.first, flushed(fma(x.second, w.second, sum))));
  }
#endif
  using Element = Bf16;
  ALBERT_INLINE static F32x16 to_words(F32x16 x, Word* words) {
    const Bits16x16 halves = to_bf16(x);
    std::memcpy(words, &halves, sizeof halves);
    return from_bf16(halves);
  }
  ALBERT_INLINE static void interleave(const Bf16 (&row)[2][kLanes], Word* words) {
    Bits16x16 first, second;
    std::memcpy(&first, row[0], sizeof first);
    std::memcpy(&second, row[1], sizeof second);
    const U32x16 both = __builtin_convertvector(first, U32x16) | __builtin_convertvector(second, U32x16) << 16;
    std::memcpy(words, &both, sizeof both);
  }
};

// Unsigned weights by signed activations. The saturating byte instruction of AVX2 (pmaddubsw) would give other sums.
struct MultiplyInt8 {
  static constexpr Precision kPrecision = Precision::int8;
  using Sum = NativeInt;
#if defined(__AVX512VNNI__)
  using Weights = NativeWords;
  using Value = NativeWords;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) { return NativeWords{} + *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    // Not the intrinsic: GCC 12 keeps its sums on the stack.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }
#elif defined(__AVX2__)
  // The bytes of even and of odd place, each widened to 16 bits: a multiply-add of pairs then is exact.
  struct Halves {
    NativeWords even, odd;
  };
  using Weights = Halves;
  using Value = Halves;
  ALBERT_INLINE static Weights weights(const Word* p) {
    const NativeWords w = load_words(p);
    return {w & 0x00ff00ffu, (w >> 8) & 0x00ff00ffu};
  }
  ALBERT_INLINE static Value value(const Word* p) {
    using Signed = int16_t __attribute__((vector_size(sizeof(NativeWords))));
    const auto both = (Signed)(NativeWords{} + *p);
    return {(NativeWords)((both << 8) >> 8), (NativeWords)(both >> 8)};
  }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
#if defined(__AVX512BW__)
    const auto pairs = [](NativeWords a, NativeWords b) { return (NativeInt)_mm512_madd_epi16((__m512i)a, (__m512i)b); };
#else
    const auto pairs = [](NativeWords a, NativeWords b) { return (NativeInt)_mm256_madd_epi16((__m256i)a, (__m256i)b); };
#endif
    return sum + pairs(w.even, x.even) + pairs(w.odd, x.odd);
  }
#else
  using Weights = NativeWords;
  using Value = Word;
  ALBERT_INLINE static Weights weights(const Word* p) { return load_words(p); }
  ALBERT_INLINE static Value value(const Word* p) { return *p; }
  ALBERT_INLINE static Sum add(Sum sum, Weights w, Value x) {
    ALBERT_UNROLL
    for (int i = 0; i < 4; ++i)
      sum += (NativeInt)((w >> (8 * i)) & 0xffu) * static_cast<int32_t>(static_cast<int8_t>(x >> (8 * i)));
    return sum;
  }
#endif
};

}  // namespace albert::ALBERT_ISA
