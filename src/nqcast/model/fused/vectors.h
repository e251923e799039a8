// Vectors of floats as wide as the processor's registers, and the functions that the encoder needs of them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#if defined(BF16) && !defined(__AVX512BF16__)
#error this processor has no AVX512_BF16 instructions, which bf16 wants
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

#if defined(__AVX512F__)
constexpr int VECTOR = 16, ROWS = 8;  // floats of a register; rows of sums that the registers hold, two vectors each
#elif defined(__AVX__)
constexpr int VECTOR = 8, ROWS = 6;
#elif defined(__SSE__)
constexpr int VECTOR = 4, ROWS = 6;
#else
constexpr int VECTOR = 4, ROWS = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * VECTOR)));
typedef float Unaligned __attribute__((vector_size(4 * VECTOR), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * VECTOR)));

INLINE Vector load(const float* p) { return *(const Unaligned*)p; }
INLINE void store(float* p, Vector v) { *(Unaligned*)p = v; }
INLINE Vector splat(float x) { return Vector{} + x; }
constexpr int rounded_up(int n, int step) { return (n + step - 1) / step * step; }

#ifdef __AVX512F__
INLINE Vector reciprocal(Vector x) {
  const Vector r = (Vector)_mm512_rcp14_ps((__m512)x);
  return r * (2.0f - x * r);
}
INLINE Vector larger(Vector a, Vector b) { return (Vector)_mm512_max_ps((__m512)a, (__m512)b); }  // b where one is NaN
INLINE Vector smaller(Vector a, Vector b) { return (Vector)_mm512_min_ps((__m512)a, (__m512)b); }
#else
INLINE Vector reciprocal(Vector x) { return 1.0f / x; }
INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }
INLINE Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
#endif

// e^x = 2^n e^r with the polynomial of Cephes' expf (S. Moshier); NaN stays NaN
INLINE Vector exponential(Vector x) {
  x = smaller(splat(88.0f), larger(splat(-87.0f), x));
  const Vector n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return (Vector)((Integers)p + (__builtin_convertvector(n, Integers) << 23));
}

// Of every 2 W lanes: half from a, half from b, each the sum of the two halves there.
template <int W> constexpr int source(int lane) {
  return (lane % (2 * W) < W ? 0 : VECTOR) + lane / (2 * W) * 2 * W + lane % W;
}
template <int W, int... lane> INLINE Vector folded(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, source<W>(lane)...) + __builtin_shufflevector(a, b, (source<W>(lane) + W)...);
}
// lane i: the sum of v[i], i < VECTOR; v is used up
template <int W = VECTOR / 2> INLINE Vector totals(Vector* v) {
  UNROLL for (int i = 0; i < W; ++i) v[i] = folded<W>(v[i], v[i + W], std::make_integer_sequence<int, VECTOR>());
  if constexpr (W == 1)
    return v[0];
  else
    return totals<W / 2>(v);
}
INLINE float total(Vector v) {
  float s = 0;
  UNROLL for (int i = 0; i < VECTOR; ++i) s += v[i];
  return s;
}
