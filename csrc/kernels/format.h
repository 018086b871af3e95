// How the values of a precision are arranged in the words that a tile multiplies.
//
// Where the processor has an instruction for the precision, these are the words that are stored (precision.h). Elsewhere each word
// is widened to two first: two bfloat16 to two floats, four bytes to two pairs of 16-bit integers. The first tile widens a block of
// weights for all tiles, and a row is widened once for all columns of a call, so that nearly all of the work runs at the wider
// type's speed.
//
//   kPrecision         the precision of the stored words
//   Step               the tile's step, see multiply.h
//   Sums               while an object of it exists, this thread rounds sums as the precision requires
//   kWide              whether words are widened; if so:
//     kMinRowsToStore  from this many rows on, the first tile stores the widened words of W for the others; with fewer rows each
//                      tile widens them again
//     widen_weights    one register of words of W to the first (half 0) or second (half 1) of the two registers that it widens to,
//                      which are consecutive along the inner dimension
//     widen_row        half a register of a row's words to a full register
//
// fp32 and bf16 also say how attention, whose matrices are computed as it runs, converts values to a tile's words:
//   Element      the type of one value
//   kGroup       the number of consecutive values along the inner dimension that share kGroupWords words
//   row_words    sixteen values along a row to words
//   interleave   sixteen columns of kGroup rows to kGroupWords rows of words
//   round_words  sixteen floats along a row to words; returns the values after rounding
#pragma once

#include "kernels/multiply.h"

namespace albert::ALBERT_ISA {

struct PlainSums {};

#if defined(__AVX2__)
// While it exists, subnormal inputs and results are taken for zero.
class FlushSubnormals {
 public:
  FlushSubnormals() : saved_(_mm_getcsr()) {
    _mm_setcsr(saved_ | 0x8040);  // flush to zero, denormals are zero
    fence();
  }
  ~FlushSubnormals() {
    fence();
    _mm_setcsr(saved_);
  }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  // The compiler does not know that arithmetic depends on this state. Values loaded after a fence are used after it, and values
  // stored before a fence are computed before it.
  static void fence() { asm volatile("" : : : "memory"); }
  const unsigned saved_;
};
#else
using FlushSubnormals = PlainSums;  // the step flushes them itself
#endif

#if defined(__AVX2__)
// In every 128 bits the same four words: first, first + step, ...
struct Lanes {
  alignas(64) uint32_t word[kNativeLanes] = {};
  constexpr Lanes(uint32_t first, uint32_t step) {
    for (int i = 0; i < kNativeLanes; ++i) word[i] = first + static_cast<uint32_t>(i % 4) * step;
  }
};

// Each byte is the one that `from` selects in the same 128 bits of w, or zero where `from` has its highest bit set. `from` is a
// memory operand: a tile has no register left for it.
ALBERT_INLINE NativeWords shuffle_bytes(NativeWords w, const Lanes& from) {
  asm("vpshufb %2, %1, %0" : "=v"(w) : "v"(w), "m"(from));
  return w;
}
#endif

struct Fp32Format {
  static constexpr Precision kPrecision = Precision::fp32;
  static constexpr bool kWide = false;
  using Step = MultiplyFp32;
  using Sums = PlainSums;

  using Element = float;
  static constexpr int kGroup = 1, kGroupWords = 1;
  ALBERT_INLINE static void row_words(const float (&row)[kLanes], Word* words) { std::memcpy(words, row, sizeof row); }
  ALBERT_INLINE static void interleave(const float (&row)[1][kLanes], Word* words, size_t) { std::memcpy(words, row, sizeof row); }
  ALBERT_INLINE static F32x16 round_words(F32x16 x, Word* words) {
    std::memcpy(words, &x, sizeof x);
    return x;
  }
};

#if defined(__AVX512BF16__) || !defined(__AVX2__)
struct Bf16Format {
  static constexpr Precision kPrecision = Precision::bf16;
  static constexpr bool kWide = false;
  using Step = MultiplyBf16;
  using Sums = FlushSubnormals;

  using Element = Bf16;
  static constexpr int kGroup = 2, kGroupWords = 1;
  ALBERT_INLINE static void row_words(const Bf16 (&row)[kLanes], Word* words) { std::memcpy(words, row, sizeof row); }
  ALBERT_INLINE static void interleave(const Bf16 (&row)[2][kLanes], Word* words, size_t) {
    Bits16x16 first, second;
    std::memcpy(&first, row[0], sizeof first);
    std::memcpy(&second, row[1], sizeof second);
    const U32x16 both = __builtin_convertvector(first, U32x16) | __builtin_convertvector(second, U32x16) << 16;
    std::memcpy(words, &both, sizeof both);
  }
  ALBERT_INLINE static F32x16 round_words(F32x16 x, Word* words) {
    const Bits16x16 halves = to_bf16(x);
    std::memcpy(words, &halves, sizeof halves);
    return from_bf16(halves);
  }
};
#else
// Multiplied as floats. The second value of each pair comes first, as in the instruction that multiplies pairs.
struct Bf16Format {
  static constexpr Precision kPrecision = Precision::bf16;
  static constexpr bool kWide = true;
  using Step = MultiplyFp32;
  using Sums = FlushSubnormals;

#if defined(__AVX512F__)
  static constexpr int kMinRowsToStore = 0;
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) { return half == 0 ? w & 0xffff0000u : w << 16; }
#else
  // Neither half needs an execution port of the multiplier, as a shift would, so with few tiles it is faster not to store.
  static constexpr int kMinRowsToStore = 32;
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) {
    // The mask is a memory operand: with it in a register GCC 12 spills sums to the stack.
    static constexpr Lanes kUpper(0xffff0000u, 0), kLower(0x01008080u, 0x04040000u);
    if (half == 1) return shuffle_bytes(w, kLower);
    asm("vpand %2, %1, %0" : "=v"(w) : "v"(w), "m"(kUpper));
    return w;
  }
#endif
  ALBERT_INLINE static NativeWords widen_row(const Word* words) {
#if defined(__AVX512BW__)
    __m256i halves;
    std::memcpy(&halves, words, sizeof halves);
    // Element 2i + 1 is the upper half of float i.
    const __m512i from =
        _mm512_set_epi16(14, 0, 15, 0, 12, 0, 13, 0, 10, 0, 11, 0, 8, 0, 9, 0, 6, 0, 7, 0, 4, 0, 5, 0, 2, 0, 3, 0, 0, 0, 1, 0);
    return (NativeWords)_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, from, _mm512_castsi256_si512(halves));
#else
    __m128i halves;
    std::memcpy(&halves, words, sizeof halves);
    const __m256i from = _mm256_setr_epi8(-1, -1, 2, 3, -1, -1, 0, 1, -1, -1, 6, 7, -1, -1, 4, 5,  //
                                          -1, -1, 10, 11, -1, -1, 8, 9, -1, -1, 14, 15, -1, -1, 12, 13);
    return (NativeWords)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(halves), from);
#endif
  }

  using Element = Bf16;
  static constexpr int kGroup = 2, kGroupWords = 2;
  ALBERT_INLINE static void row_words(const Bf16 (&row)[kLanes], Word* words) {
    Word pairs[kLanes / 2];
    std::memcpy(pairs, row, sizeof pairs);
    ALBERT_UNROLL
    for (int i = 0; i < kLanes / 2; i += kNativeLanes / 2) store_words(words + 2 * i, widen_row(pairs + i));
  }
  ALBERT_INLINE static void interleave(const Bf16 (&row)[2][kLanes], Word* words, size_t stride) {
    ALBERT_UNROLL
    for (int i = 0; i < 2; ++i) {
      Bits16x16 halves;
      std::memcpy(&halves, row[1 - i], sizeof halves);
      const F32x16 x = from_bf16(halves);
      std::memcpy(words + static_cast<size_t>(i) * stride, &x, sizeof x);
    }
  }
  ALBERT_INLINE static F32x16 round_words(F32x16 x, Word* words) {
    const Bits16x16 halves = to_bf16(x);
    Bf16 row[kLanes];
    std::memcpy(row, &halves, sizeof row);
    row_words(row, words);
    return from_bf16(halves);
  }
};
#endif

#if defined(__AVX512VNNI__) || !defined(__AVX2__)
struct Int8Format {
  static constexpr Precision kPrecision = Precision::int8;
  static constexpr bool kWide = false;
  using Step = MultiplyInt8;
  using Sums = PlainSums;
};
#else
struct Int8Format {
  static constexpr Precision kPrecision = Precision::int8;
  static constexpr bool kWide = true;
  using Step = MultiplyInt16;
  using Sums = PlainSums;

  static constexpr int kMinRowsToStore = 0;
  // Unsigned bytes to 16-bit integers.
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) {
    static constexpr Lanes kLower(0x80018000u, 0x00040004u), kUpper(0x80038002u, 0x00040004u);
    return shuffle_bytes(w, half == 0 ? kLower : kUpper);
  }
  // Signed bytes to 16-bit integers.
  ALBERT_INLINE static NativeWords widen_row(const Word* words) {
    using Bytes = int8_t __attribute__((vector_size(2 * kNativeLanes)));
    using Halves = int16_t __attribute__((vector_size(4 * kNativeLanes)));
    Bytes bytes;
    std::memcpy(&bytes, words, sizeof bytes);
    return (NativeWords) __builtin_convertvector(bytes, Halves);
  }
};
#endif

}  // namespace albert::ALBERT_ISA
