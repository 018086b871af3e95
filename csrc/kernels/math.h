// exp, tanh and GELU on F32x16, from the same operations on every ISA: fma, division and integer shifts, no approximate
// instructions.
//
// The polynomials were fitted in double and their coefficients rounded to float. A minimax fit can be repeated with Remez's
// algorithm, or as a linear program on a thousand Chebyshev nodes of the interval: minimize e, where weight * |polynomial -
// target| <= e at each node. Errors below were measured against long double at four million points or more of the range; an ulp is
// the gap between neighbouring floats at the exact result.
#pragma once

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {

template <int N>
ALBERT_INLINE F32x16 polynomial(F32x16 x, const float (&coefficient)[N]) {
  F32x16 r = splat(coefficient[N - 1]);
  for (int i = N - 2; i >= 0; --i) r = fma(r, x, splat(coefficient[i]));
  return r;
}

// 2^f for |f| <= 0.5, to 0.95 ulp. Minimax fit of the relative error (2e-9; 1.6e-8 with the coefficients rounded), the constant
// held at 1.
ALBERT_INLINE F32x16 exp2_fraction(F32x16 f) {
  return polynomial(f, {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399931f, 0.00015345812f});
}

// 2^x, to 0.94 ulp (relative error 8e-8) in [-126, 127]. Arguments below -126 give 2^-126, the smallest normal number, rather than
// zero: no caller can tell the two apart.
ALBERT_INLINE F32x16 exp2(F32x16 x) {
  x = min(splat(127.0f), max(splat(-126.0f), x));
  const F32x16 n = x + splat(kToInteger);
  return times_power_of_two(exp2_fraction(x - (n - splat(kToInteger))), n);
}

// e^x, to 1.2 ulp (relative error 1e-7) in [-87.3, 88]. log2(e) is split into two floats, so that x * log2(e) keeps the bits that
// one float would round away.
ALBERT_INLINE F32x16 exp(F32x16 x) {
  x = min(splat(88.0f), max(splat(-87.3f), x));
  const F32x16 n = x * splat(1.44269502f) + splat(kToInteger);
  F32x16 f = fma(x, splat(1.44269502f), splat(kToInteger) - n);
  f = fma(x, splat(1.92596303e-8f), f);
  return times_power_of_two(exp2_fraction(f), n);
}

// 2^x of x <= 0 for results that are rounded to bfloat16, to a relative error of 2.9e-6. Minimax fit of the relative error on
// [-0.5, 0.5], the constant held at 1. Arguments below -125 give 2^-125.
ALBERT_INLINE F32x16 coarse_exp2(F32x16 x) {
  x = max(splat(-125.0f), x);
  const F32x16 n = x + splat(kToInteger);
  const F32x16 p = polynomial(x - (n - splat(kToInteger)), {1.0f, 0.6931241f, 0.24024107f, 0.05590683f, 0.009582576f});
  return times_power_of_two(p, n);
}

// tanh x = 1 - 2 / (e^2|x| + 1) with the sign of x; for |x| < 0.5, where that cancels, the Taylor polynomial of degree 15. To 2.1
// ulp (absolute error 1e-7) everywhere.
ALBERT_INLINE F32x16 tanh(F32x16 x) {
  const F32x16 magnitude = min(splat(10.0f), abs(x));
  const F32x16 square = x * x;
  const F32x16 near = fma(
      x * square,
      polynomial(square, {-0.33333334f, 0.13333334f, -0.05396825f, 0.021869488f, -0.0088632355f, 0.003592128f, -0.0014558344f}), x);
  const F32x16 far = splat(1.0f) - splat(2.0f) / (exp(magnitude + magnitude) + splat(1.0f));
  return if_less(abs(x), splat(0.5f), near, copy_sign(far, x));
}

// gelu(x) = x * (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| * erfc(|x| / sqrt 2) / 2, to 3.1 ulp for x >= -1 and to an absolute
// error of 4.6e-8 for smaller x, where the second form loses no digits. erfc(t / sqrt 2) = 2^(t * p(t)), with p fitted to
// log2(erfc(t / sqrt 2)) / t on [0, 9]; beyond, t * p(t) must go on falling until 14, where 1e-37 is left of gelu. To fit p again,
// weight its error by t^2 * erfc(t / sqrt 2), which makes it gelu's error up to a constant; with these coefficients that is 1.2e-8
// in exact arithmetic, less than rounding adds.
ALBERT_INLINE F32x16 gelu(F32x16 x) {
  const F32x16 t = min(splat(14.0f), abs(x));
  const F32x16 p = polynomial(t, {-1.151108741760254f, -0.45918092131614685f, -0.052563752979040146f, 0.007131039630621672f,
                                  -0.0001550272136228159f, -0.00020194514945615083f, 5.284652434056625e-05f,
                                  -6.728074367856607e-06f, 4.4767736540052283e-07f, -1.2321919484747923e-08f});
  return max(splat(0.0f), x) - (splat(0.5f) * t) * exp2(t * p);
}

// gelu_tanh(x) = x * (1 + tanh u) / 2 = x / (1 + e^-2u), u = sqrt(2 / pi) * (x + 0.044715 x^3), to 2.8 ulp for x >= -1 and to an
// absolute error of 5.1e-8 for smaller x.
ALBERT_INLINE F32x16 gelu_tanh(F32x16 x) {
  x = max(splat(-20.0f), x);  // the result is zero in effect; for smaller x exp is clamped and the quotient would grow again
  const F32x16 inner = fma(x * x, splat(0.044715f) * x, x);
  return x / (splat(1.0f) + exp(splat(-1.5957691216057308f) * inner));
}

// gelu for results that are rounded to bfloat16 or int8, to an absolute error of 1.5e-5: max(x, 0) - t * r(t - c / 2), t = min(|x|,
// c), c = 4.5. r is a minimax fit of the absolute error of t * r(t - c / 2) against |x| * erfc(|x| / sqrt 2) / 2 on [0, c].
ALBERT_INLINE F32x16 coarse_gelu(F32x16 x) {
  const F32x16 t = min(splat(4.5f), abs(x));
  const F32x16 r = polynomial(t - splat(2.25f), {0.012221018f, -0.031710353f, 0.035741515f, -0.02163149f, 0.006095848f,
                                                 0.0006438029f, -0.0009893097f, 0.00017059276f, 4.3905657e-05f, -1.2892217e-05f});
  return max(splat(0.0f), x) - t * r;
}

// The same for gelu_tanh, with c = 4.375, to an absolute error of 1.1e-5.
ALBERT_INLINE F32x16 coarse_gelu_tanh(F32x16 x) {
  const F32x16 t = min(splat(4.375f), abs(x));
  const F32x16 r = polynomial(t - splat(2.1875f), {0.014233826f, -0.036744852f, 0.040243495f, -0.022915872f, 0.0056396546f,
                                                   0.0009801383f, -0.0010122146f, 0.00015078534f, 4.7433736e-05f, -1.2978510e-05f});
  return max(splat(0.0f), x) - t * r;
}

ALBERT_INLINE F32x16 relu(F32x16 x) { return max(splat(0.0f), x); }

}  // namespace albert::ALBERT_ISA
