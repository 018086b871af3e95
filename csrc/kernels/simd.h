// F32x16: sixteen float lanes, the one vector type every kernel is written in. Compiled once per ISA: one 512-bit register, two of
// 256 bits, or four of 128 bits. Every operation gives the same bits whatever the registers are, so a kernel does too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define ALBERT_INLINE inline __attribute__((always_inline))

// Everything compiled per ISA lives in a namespace of that ISA. The kernel files use no inline function of the standard library
// that does work: the linker would keep one ISA's copy for all of them.
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

struct F32x16 {
  Native part[kParts];
};

ALBERT_INLINE F32x16 splat(float x) {
  F32x16 r;
  for (auto& part : r.part) part = Native{} + x;
  return r;
}

ALBERT_INLINE F32x16 load(const float* p) {
  F32x16 r;
  std::memcpy(&r, p, sizeof r);
  return r;
}

ALBERT_INLINE void store(float* p, F32x16 x) { std::memcpy(p, &x, sizeof x); }

// The first `count` lanes from memory, `fill` in the others. count in 1..16.
ALBERT_INLINE F32x16 load_first(const float* p, int count, float fill = 0.0f) {
  F32x16 r = splat(fill);
  std::memcpy(&r, p, sizeof(float) * static_cast<size_t>(count));
  return r;
}

ALBERT_INLINE void store_first(float* p, F32x16 x, int count) { std::memcpy(p, &x, sizeof(float) * static_cast<size_t>(count)); }

#define ALBERT_LANEWISE(name, expression)         \
  ALBERT_INLINE F32x16 name(F32x16 a, F32x16 b) { \
    for (int i = 0; i < kParts; ++i) {            \
      const Native x = a.part[i], y = b.part[i];  \
      a.part[i] = (expression);                   \
    }                                             \
    return a;                                     \
  }
ALBERT_LANEWISE(operator+, x + y)
ALBERT_LANEWISE(operator-, x - y)
ALBERT_LANEWISE(operator*, x* y)
ALBERT_LANEWISE(operator/, x / y)
// A NaN in b comes through; one in a is dropped.
ALBERT_LANEWISE(max, x > y ? x : y)
ALBERT_LANEWISE(min, x < y ? x : y)
#undef ALBERT_LANEWISE

ALBERT_INLINE F32x16 abs(F32x16 x) {
  for (auto& part : x.part) part = (Native)((NativeInt)part & 0x7fffffff);
  return x;
}

// |magnitude| with the sign of `sign`.
ALBERT_INLINE F32x16 copy_sign(F32x16 magnitude, F32x16 sign) {
  for (int i = 0; i < kParts; ++i)
    magnitude.part[i] = (Native)(((NativeInt)magnitude.part[i] & 0x7fffffff) | ((NativeInt)sign.part[i] & INT32_MIN));
  return magnitude;
}

// a < b ? yes : no
ALBERT_INLINE F32x16 if_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  for (int i = 0; i < kParts; ++i) no.part[i] = a.part[i] < b.part[i] ? yes.part[i] : no.part[i];
  return no;
}

#if !defined(__AVX2__) && !defined(__FP_FAST_FMAF)
// a * b + c rounded once, without the instruction. The product of two floats is exact in double; their sum is rounded to odd (Boldo
// and Melquiond, "Emulation of FMA and correctly rounded sums", 2008), so that the rounding to float is the only one that shows.
ALBERT_INLINE float fused_multiply_add(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;
  const double sum = product + c;
  const double recovered = sum - product;
  const double error = (product - (sum - recovered)) + (c - recovered);
  int64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  const int64_t inexact = static_cast<int64_t>(error > 0.0) | static_cast<int64_t>(error < 0.0);  // 0 for a NaN as well
  const int64_t away = static_cast<int64_t>((error > 0.0) == (sum > 0.0));
  bits += inexact & ~bits & 1 ? 2 * away - 1 : 0;
  double odd;
  std::memcpy(&odd, &bits, sizeof odd);
  return static_cast<float>(odd);
}
#endif

// a * b + c, rounded once.
ALBERT_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  for (int i = 0; i < kParts; ++i) {
#if defined(__AVX512F__)
    c.part[i] = (Native)_mm512_fmadd_ps((__m512)a.part[i], (__m512)b.part[i], (__m512)c.part[i]);
#elif defined(__AVX2__)
    c.part[i] = (Native)_mm256_fmadd_ps((__m256)a.part[i], (__m256)b.part[i], (__m256)c.part[i]);
#elif defined(__FP_FAST_FMAF)
    for (int lane = 0; lane < kNativeLanes; ++lane)
      c.part[i][lane] = __builtin_fmaf(a.part[i][lane], b.part[i][lane], c.part[i][lane]);
#else
    for (int lane = 0; lane < kNativeLanes; ++lane)
      c.part[i][lane] = fused_multiply_add(a.part[i][lane], b.part[i][lane], c.part[i][lane]);
#endif
  }
  return c;
}

// 2^x for integral x in [-126, 127].
ALBERT_INLINE F32x16 power_of_two(F32x16 x) {
  for (auto& part : x.part) part = (Native)((__builtin_convertvector(part, NativeInt) + 127) << 23);
  return x;
}

// The lanes folded in one fixed order: halves onto halves.
ALBERT_INLINE float sum_lanes(F32x16 x) {
  float lane[kLanes];
  store(lane, x);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
  return lane[0];
}

ALBERT_INLINE float max_lane(F32x16 x) {
  float lane[kLanes];
  store(lane, x);
  for (int i = 1; i < kLanes; ++i) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
  return lane[0];
}

}  // namespace albert::ALBERT_ISA
