// exp, tanh and the GELUs on F32x16, from the same operations on every ISA: fma, division, integer shifts; no approximate
// instructions. The polynomials are minimax fits in double, coefficients rounded to float.
#pragma once

#include "kernels/simd.h"

namespace albert::ALBERT_ISA {

template <int N>
ALBERT_INLINE F32x16 polynomial(F32x16 x, const float (&coefficient)[N]) {
  F32x16 r = splat(coefficient[N - 1]);
  for (int i = N - 2; i >= 0; --i) r = fma(r, x, splat(coefficient[i]));
  return r;
}

// 2^f for |f| <= 0.5, relative error 2e-9 before rounding.
ALBERT_INLINE F32x16 exp2_fraction(F32x16 f) {
  return polynomial(f, {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399931f, 0.00015345812f});
}

// Smaller arguments than these give 2^-126, the least normal number, rather than zero: no caller can tell them apart.
ALBERT_INLINE F32x16 exp2(F32x16 x) {
  x = min(splat(127.0f), max(splat(-126.0f), x));
  const F32x16 n = x + splat(kToInteger);
  return times_power_of_two(exp2_fraction(x - (n - splat(kToInteger))), n);
}

// e^x. log2(e) is split in two floats: x * log2(e) keeps the bits that its rounding would lose.
ALBERT_INLINE F32x16 exp(F32x16 x) {
  x = min(splat(88.0f), max(splat(-87.3f), x));
  const F32x16 n = x * splat(1.44269502f) + splat(kToInteger);
  F32x16 f = fma(x, splat(1.44269502f), splat(kToInteger) - n);
  f = fma(x, splat(1.92596303e-8f), f);
  return times_power_of_two(exp2_fraction(f), n);
}

// 2^x of x <= 0, relative error 3e-6, for results that are rounded to bfloat16. No less than 2^-125, as above.
ALBERT_INLINE F32x16 coarse_exp2(F32x16 x) {
  x = max(splat(-125.0f), x);
  const F32x16 n = x + splat(kToInteger);
  const F32x16 p = polynomial(x - (n - splat(kToInteger)), {1.0f, 0.6931241f, 0.24024107f, 0.05590683f, 0.009582576f});
  return times_power_of_two(p, n);
}

// tanh x = 1 - 2 / (e^2|x| + 1) with the sign of x; near zero, where that cancels, its odd Taylor polynomial.
ALBERT_INLINE F32x16 tanh(F32x16 x) {
  const F32x16 magnitude = min(splat(10.0f), abs(x));
  const F32x16 square = x * x;
  const F32x16 near = fma(
      x * square,
      polynomial(square, {-0.33333334f, 0.13333334f, -0.05396825f, 0.021869488f, -0.0088632355f, 0.003592128f, -0.0014558344f}), x);
  const F32x16 far = splat(1.0f) - splat(2.0f) / (exp(magnitude + magnitude) + splat(1.0f));
  return if_less(abs(x), splat(0.5f), near, copy_sign(far, x));
}

// gelu(x) = x * (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| * erfc(|x| / sqrt 2) / 2: the second form loses no digits for negative
// x. erfc(t / sqrt 2) = 2^(t * p(t)), p fitted on [0, 9]; from there to 14, where it is nothing, t * p(t) goes on falling. Error of
// gelu: 1.2e-8 before rounding.
ALBERT_INLINE F32x16 gelu(F32x16 x) {
  const F32x16 t = min(splat(14.0f), abs(x));
  const F32x16 p = polynomial(t, {-1.151108741760254f, -0.45918092131614685f, -0.052563752979040146f, 0.007131039630621672f,
                                  -0.0001550272136228159f, -0.00020194514945615083f, 5.284652434056625e-05f,
                                  -6.728074367856607e-06f, 4.4767736540052283e-07f, -1.2321919484747923e-08f});
  return max(splat(0.0f), x) - (splat(0.5f) * t) * exp2(t * p);
}

// gelu_tanh(x) = x * (1 + tanh u) / 2 = x / (1 + e^-2u), u = sqrt(2 / pi) * (x + 0.044715 x^3)
ALBERT_INLINE F32x16 gelu_tanh(F32x16 x) {
  x = max(splat(-20.0f), x);  // nothing is left of it there; further down exp's own limit would show
  const F32x16 inner = fma(x * x, splat(0.044715f) * x, x);
  return x / (splat(1.0f) + exp(splat(-1.5957691216057308f) * inner));
}

// The same to 1.5e-5, a hundredth of what bfloat16 loses of a 1, for results that are rounded to bfloat16 or to eight bits: gelu(x)
// = max(x, 0) - t * r(t - c / 2), t = min(|x|, c), with r fitted so that t * r(t - c / 2) errs least in all.
ALBERT_INLINE F32x16 coarse_gelu(F32x16 x) {
  const F32x16 t = min(splat(4.5f), abs(x));
  const F32x16 r = polynomial(t - splat(2.25f), {0.012221018f, -0.031710353f, 0.035741515f, -0.02163149f, 0.006095848f,
                                                 0.0006438029f, -0.0009893097f, 0.00017059276f, 4.3905657e-05f, -1.2892217e-05f});
  return max(splat(0.0f), x) - t * r;
}

ALBERT_INLINE F32x16 coarse_gelu_tanh(F32x16 x) {
  const F32x16 t = min(splat(4.375f), abs(x));
  const F32x16 r = polynomial(t - splat(2.1875f), {0.014233826f, -0.036744852f, 0.040243495f, -0.022915872f, 0.0056396546f,
                                                   0.0009801383f, -0.0010122146f, 0.00015078534f, 4.7433736e-05f, -1.2978510e-05f});
  return max(splat(0.0f), x) - t * r;
}

ALBERT_INLINE F32x16 relu(F32x16 x) { return max(splat(0.0f), x); }

}  // namespace albert::ALBERT_ISA
