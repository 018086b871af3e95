// How the values of a precision lie in the words that a tile multiplies.
//
// Where there is an instruction for the precision, they are the words that are stored (precision.h). Where there is none, each is
// widened to two words first: two bfloat16 to two floats, four bytes to two pairs of 16-bit integers. The first tile of rows widens
// a block of weights for all the others, and a row is widened once for all columns of a call, so that nearly all of the work is as
// fast as that of the wider type.
//
//   kPrecision  of what is stored
//   Step        of the tile, see multiply.h
//   Sums        while one lives, sums of this thread are rounded as the precision is defined to
//   kWide       whether words are widened; then
//     kMinRowsToKeep  from so many rows on the first tile keeps what it widened of W for the others; else each widens anew
//     widen_weights  a register of words of W to the first (half 0) or the second of the two that it widens to, consecutive along
//     the inner dimension widen_row      half a register's words of a row to a register
//
// fp32 and bf16 also say how attention, whose matrices are made as it runs, brings values into a tile's words:
//   Element      the type of one value
//   kGroup       consecutive values along the inner dimension that share kGroupWords words
//   row_words    sixteen values along a row to words
//   interleave   sixteen columns of kGroup rows to kGroupWords rows of words
//   round_words  sixteen floats along a row to words; returns the values that these stand for
#pragma once

#include "kernels/multiply.h"

namespace albert::ALBERT_ISA {

struct PlainSums {};

#if defined(__AVX2__)
// Floats that are too small to be normal are taken for zero, and so are such results.
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
  // The compiler does not know that arithmetic reads this state. What is loaded behind a fence is computed with behind it, and what
  // is stored before one was computed before it.
  static void fence() { asm volatile("" : : : "memory"); }
  const unsigned saved_;
};
#else
using FlushSubnormals = PlainSums;  // the step does it
#endif

#if defined(__AVX2__)
// Four words for each 128 bits of a register: first, first + step...
struct Lanes {
  alignas(64) uint32_t word[kNativeLanes] = {};
  constexpr Lanes(uint32_t first, uint32_t step) {
    for (int i = 0; i < kNativeLanes; ++i) word[i] = first + static_cast<uint32_t>(i % 4) * step;
  }
};

// Byte by byte from the same 128 bits of w, or zero where `from` has its highest bit. `from` stays in memory: a tile has no
// register left for it.
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
// As floats. Of each pair the second value comes first: the order of the instruction that multiplies pairs.
struct Bf16Format {
  static constexpr Precision kPrecision = Precision::bf16;
  static constexpr bool kWide = true;
  using Step = MultiplyFp32;
  using Sums = FlushSubnormals;

#if defined(__AVX512F__)
  static constexpr int kMinRowsToKeep = 0;
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) { return half == 0 ? w & 0xffff0000u : w << 16; }
#else
  // Neither step needs a port that multiplies, as a shift would: with few tiles each does better without the stores.
  static constexpr int kMinRowsToKeep = 32;
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) {
    // The mask stays in memory: with it in a register GCC 12 puts sums on the stack.
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
    // A half of index 2i + 1 is the upper one of float i.
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

  static constexpr int kMinRowsToKeep = 0;
  // Unsigned bytes, to pairs of consecutive ones.
  ALBERT_INLINE static NativeWords widen_weights(NativeWords w, int half) {
    static constexpr Lanes kLower(0x80018000u, 0x00040004u), kUpper(0x80038002u, 0x00040004u);
    return shuffle_bytes(w, half == 0 ? kLower : kUpper);
  }
  // Signed bytes.
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
