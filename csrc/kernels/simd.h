// F32x16: sixteen float lanes, the one vector type every kernel is written in. Compiled once per ISA: one 512-bit register, two of
// 256 bits, or four of 128 bits. Every operation gives the same bits whatever the registers are, so a kernel does too.
#pragma once

#if defined(__FAST_MATH__)
#error "-ffast-math reorders sums: the ISAs would no longer give the same bits"
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/precision.h"

#define ALBERT_INLINE inline __attribute__((always_inline))

// For loops over registers, which must be unrolled, or the registers become an array in memory.
#if defined(__clang__)
#define ALBERT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ALBERT_UNROLL _Pragma("GCC unroll 64")
#endif

// Everything compiled per ISA is in a namespace of that ISA. The kernels call no inline function of the standard library that
// compiles to code of its own: the linker would keep one ISA's copy for all of them.
namespace albert::ALBERT_ISA {

#if defined(__AVX512F__)
constexpr int kNativeLanes = 16;
#elif defined(__AVX2__)
constexpr int kNativeLanes = 8;
#else
constexpr int kNativeLanes = 4;
#endif
constexpr int kLanes = 16;
constexpr int kParts = kLanes / kNativeLanes;

using Native = float __attribute__((vector_size(kNativeLanes * sizeof(float))));
using NativeInt = int32_t __attribute__((vector_size(kNativeLanes * sizeof(int32_t))));
using NativeWords = uint32_t __attribute__((vector_size(kNativeLanes * sizeof(uint32_t))));

struct F32x16 {
  Native part[kParts];
};
using Bits16x16 = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));

ALBERT_INLINE Native splat_native(float x) { return x - Native{}; }  // minus zero, not plus: -0 + 0 is +0

ALBERT_INLINE F32x16 splat(float x) {
  F32x16 r;
  ALBERT_UNROLL
  for (auto& part : r.part) part = splat_native(x);
  return r;
}

// Part by part, here and below: GCC 12 copies objects larger than a register through the stack.
ALBERT_INLINE F32x16 load(const float* p) {
  F32x16 r;
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) std::memcpy(&r.part[i], p + i * kNativeLanes, sizeof r.part[i]);
  return r;
}

ALBERT_INLINE Native load_native(const float* p) {
  Native r;
  std::memcpy(&r, p, sizeof r);
  return r;
}

ALBERT_INLINE void store(float* p, F32x16 x) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) std::memcpy(p + i * kNativeLanes, &x.part[i], sizeof x.part[i]);
}

// The first `count` lanes from memory, `fill` in the others. count in 1..16.
ALBERT_INLINE F32x16 load_first(const float* p, int count, float fill = 0.0f) {
  F32x16 r = splat(fill);
  std::memcpy(&r, p, sizeof(float) * static_cast<size_t>(count));
  return r;
}

ALBERT_INLINE Bits16x16 load_first(const Bf16* p, int count) {
  Bits16x16 r{};
  std::memcpy(&r, p, sizeof(Bf16) * static_cast<size_t>(count));
  return r;
}

// Values and Element: F32x16 and float, Bits16x16 and Bf16...
template <typename Element, typename Values>
ALBERT_INLINE void store_first(Element* p, Values x, int count) {
  if (count == kLanes)
    std::memcpy(p, &x, sizeof x);
  else
    std::memcpy(p, &x, sizeof(Element) * static_cast<size_t>(count));
}

template <typename Function>
ALBERT_INLINE F32x16 each_part(F32x16 a, F32x16 b, Function function) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) a.part[i] = function(a.part[i], b.part[i]);
  return a;
}

ALBERT_INLINE F32x16 operator+(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x + y; });
}
ALBERT_INLINE F32x16 operator-(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x - y; });
}
ALBERT_INLINE F32x16 operator*(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x * y; });
}
ALBERT_INLINE F32x16 operator/(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x / y; });
}
// A NaN in b is returned; one in a is not.
ALBERT_INLINE F32x16 max(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x > y ? x : y; });
}
ALBERT_INLINE F32x16 min(F32x16 a, F32x16 b) {
  return each_part(a, b, [](Native x, Native y) { return x < y ? x : y; });
}

ALBERT_INLINE F32x16 abs(F32x16 x) {
  ALBERT_UNROLL
  for (auto& part : x.part) part = (Native)((NativeInt)part & 0x7fffffff);
  return x;
}

// |magnitude| with the sign of `sign`.
ALBERT_INLINE F32x16 copy_sign(F32x16 magnitude, F32x16 sign) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i)
    magnitude.part[i] = (Native)(((NativeInt)magnitude.part[i] & 0x7fffffff) | ((NativeInt)sign.part[i] & INT32_MIN));
  return magnitude;
}

// a < b ? yes : no
ALBERT_INLINE F32x16 if_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) no.part[i] = a.part[i] < b.part[i] ? yes.part[i] : no.part[i];
  return no;
}

#if !defined(__AVX2__)
using NativeWide = double __attribute__((vector_size(kNativeLanes * sizeof(double))));
using NativeWideInt = int64_t __attribute__((vector_size(kNativeLanes * sizeof(int64_t))));

// a * b + c rounded to odd: rounded once more, to float, it is what one rounding of the exact sum would be (Boldo and Melquiond,
// "Emulation of FMA and correctly rounded sums", 2008). The product of two floats is exact in double.
ALBERT_INLINE NativeWide fma_to_odd(Native a, Native b, Native c) {
  const NativeWide product = __builtin_convertvector(a, NativeWide) * __builtin_convertvector(b, NativeWide);
  const NativeWide addend = __builtin_convertvector(c, NativeWide);
  const NativeWide sum = product + addend;
  const NativeWide recovered = sum - product;
  const NativeWide error = (product - (sum - recovered)) + (addend - recovered);
  const auto inexact = (NativeWideInt)((error > 0.0) | (error < 0.0));  // all ones; zero for a NaN as well
  const auto bits = (NativeWideInt)sum;
  const NativeWideInt even = (bits & 1) - 1;                                    // all ones
  const NativeWideInt step = (NativeWideInt)((error > 0.0) ^ (sum > 0.0)) | 1;  // to the odd neighbour on the error's side
  return (NativeWide)(bits + (inexact & even & step));
}
#endif

// a * b + c, rounded once.
ALBERT_INLINE Native fma(Native a, Native b, Native c) {
#if defined(__AVX512F__)
  return (Native)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Native)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Native)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return __builtin_convertvector(fma_to_odd(a, b, c), Native);
#endif
}

ALBERT_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) c.part[i] = fma(a.part[i], b.part[i], c.part[i]);
  return c;
}

// Floats of this size have no fraction bits: for |x| < 2^22 the lowest bits of x + kToInteger are x rounded to the nearest integer,
// ties to even.
constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23

// x * 2^n, where x and the result are normal; shifted = n + kToInteger, whose lowest bits are added to the exponent.
ALBERT_INLINE F32x16 times_power_of_two(F32x16 x, F32x16 shifted) {
  return each_part(x, shifted, [](Native p, Native n) { return (Native)((NativeInt)p + ((NativeInt)n << 23)); });
}

// Sixteen integers, in as many registers as F32x16.
struct I32x16 {
  NativeInt part[kParts];
};
using U32x16 = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using Bytes16 = uint8_t __attribute__((vector_size(kLanes)));

ALBERT_INLINE I32x16 operator+(I32x16 a, I32x16 b) {
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) a.part[i] += b.part[i];
  return a;
}

// Rounds to the nearest integers, ties to even; |x| < 2^22.
ALBERT_INLINE I32x16 nearest_integers(F32x16 x) {
  I32x16 r;
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) {
    const Native magic = splat_native(kToInteger);
    r.part[i] = (NativeInt)(x.part[i] + magic) - (NativeInt)magic;
  }
  return r;
}

// The sixteen 32-bit integers at p, each plus `offset`, as floats.
ALBERT_INLINE F32x16 integers_to_floats(const float* p, int32_t offset) {
  F32x16 r;
  ALBERT_UNROLL
  for (int i = 0; i < kParts; ++i) {
    NativeInt integers;
    std::memcpy(&integers, p + i * kNativeLanes, sizeof integers);
    r.part[i] = __builtin_convertvector(integers + offset, Native);
  }
  return r;
}

// To bytes; each value is from -128 to 127.
ALBERT_INLINE Bytes16 to_bytes(I32x16 x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i mixed = _mm256_packs_epi32((__m256i)x.part[0], (__m256i)x.part[1]);
  const __m256i halves = _mm256_permute4x64_epi64(mixed, 0xd8);
  return (Bytes16)_mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
#else
  using All = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
  All all;
  std::memcpy(&all, &x, sizeof all);
  return __builtin_convertvector(all, Bytes16);
#endif
}

// Rounded to bfloat16: to nearest, ties to even. A NaN stays a NaN; subnormal numbers become zero, as in the instructions that
// multiply bfloat16.
ALBERT_INLINE Bits16x16 to_bf16(F32x16 x) {
#if defined(__AVX512BF16__)
  return (Bits16x16)_mm512_cvtneps_pbh((__m512)x.part[0]);
#else
  ALBERT_UNROLL
  for (auto& part : x.part) {
    const auto bits = (NativeInt)part;
    const NativeInt magnitude = bits & 0x7fffffff;
    const NativeInt nan = magnitude > 0x7f800000, subnormal = magnitude < 0x00800000;  // all ones
    const NativeInt odd = (bits >> 16) & 1;
    const NativeInt rounded = ((bits + 0x7fff + odd) & ~nan) | ((bits | 0x00400000) & nan);
    part = (Native)((NativeInt)((NativeWords)rounded >> 16) & (~subnormal | 0x8000));
  }
#if defined(__AVX2__) && !defined(__AVX512F__)
  return (Bits16x16)_mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)x.part[0], (__m256i)x.part[1]), 0xd8);
#else
  U32x16 all;
  std::memcpy(&all, &x, sizeof all);
  return __builtin_convertvector(all, Bits16x16);
#endif
#endif
}

ALBERT_INLINE F32x16 from_bf16(Bits16x16 halves) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i all = (__m256i)halves;
  return {{(Native)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(all)), 16),
           (Native)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(all, 1)), 16)}};
#else
  const U32x16 bits = __builtin_convertvector(halves, U32x16) << 16;
  F32x16 x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

ALBERT_INLINE void store_bf16(Bf16* p, F32x16 x) {
  const Bits16x16 halves = to_bf16(x);
  std::memcpy(p, &halves, sizeof halves);
}

// The sum of the lanes, in any order because it is exact.
ALBERT_INLINE int32_t sum_lanes(I32x16 x) {
  int32_t lane[kLanes], sum = 0;
  std::memcpy(lane, &x, sizeof lane);
  for (const int32_t value : lane) sum += value;
  return sum;
}

// Folds the lanes in a fixed order: the upper half onto the lower, until one is left.
template <typename Fold>
ALBERT_INLINE float fold_lanes(F32x16 x, Fold fold) {
  using Eight = float __attribute__((vector_size(8 * sizeof(float))));
  using Four = float __attribute__((vector_size(4 * sizeof(float))));
  Eight eight[2];
  std::memcpy(eight, &x, sizeof x);
  eight[0] = fold(eight[0], eight[1]);
  Four four[2];
  std::memcpy(four, eight, sizeof four);
  const Four f = fold(four[0], four[1]);
  return fold(fold(f[0], f[2]), fold(f[1], f[3]));
}

ALBERT_INLINE float sum_lanes(F32x16 x) {
  return fold_lanes(x, [](auto a, auto b) { return a + b; });
}

ALBERT_INLINE float max_lane(F32x16 x) {
  return fold_lanes(x, [](auto a, auto b) { return a > b ? a : b; });
}

}  // namespace albert::ALBERT_ISA
