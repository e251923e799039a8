// Small matrix products whose results go on in registers, in float32 or with operands of bfloat16 pairs.
//
// An operand is stored in units of 32 bits: one float, or a pair of bfloat16 along the summed index. "By row" pairs
// neighbouring columns, "by pair" pairs neighbouring rows; in float32 both are the plain array.

#pragma once

#include "vectors.h"

#ifdef BF16
typedef uint32_t Unit;
constexpr int PAIR = 2;
#else
typedef float Unit;
constexpr int PAIR = 1;
#endif

template <class X> struct Arithmetic;
template <> struct Arithmetic<float> {
  typedef Vector Right;
  INLINE Right right(const float* p) { return load(p); }
  INLINE Vector add(Vector sum, float left, Right right) { return sum + splat(left) * right; }
};
#ifdef BF16
template <> struct Arithmetic<uint32_t> {
  typedef __m512bh Right;
  INLINE Right right(const uint32_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
  INLINE Vector add(Vector sum, uint32_t left, Right right) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)left), right);
  }
};
#endif

constexpr int even_divisor(int m, int most) {
  int r = most;
  while (m % r || r % 2) --r;
  return r;
}

// then(m, n, row m, row m + 1) receives sum over u < U of left(m, u) * right[u][n ...], for every pair of rows and
// every vector of columns; left(m, u) lies at m * ROW + u * STEP, and a right row has RIGHT units.
template <int M, int N, int U, int ROW, int STEP, int RIGHT, class X, class Then>
INLINE void product(const X* left, const X* right, Then then) {
  constexpr int WIDE = N % (2 * VECTOR) == 0 ? 2 : 1;
  constexpr int R = even_divisor(M, WIDE == 2 ? ROWS : 2 * ROWS);
  for (int n = 0; n < N; n += WIDE * VECTOR)
    for (int m = 0; m < M; m += R) {
      Vector sum[R][WIDE];
      UNROLL for (int r = 0; r < R; ++r)
        UNROLL for (int w = 0; w < WIDE; ++w) sum[r][w] = Vector{};
      const X *a = left + m * ROW, *b = right + n;
#pragma GCC unroll 1
      for (int u = 0; u < U; ++u) {
        typename Arithmetic<X>::Right column[WIDE];
        UNROLL for (int w = 0; w < WIDE; ++w) column[w] = Arithmetic<X>::right(b + u * RIGHT + w * VECTOR);
        UNROLL for (int r = 0; r < R; ++r)
          UNROLL for (int w = 0; w < WIDE; ++w)
            sum[r][w] = Arithmetic<X>::add(sum[r][w], a[r * ROW + u * STEP], column[w]);
      }
      UNROLL for (int r = 0; r < R; r += 2)
        UNROLL for (int w = 0; w < WIDE; ++w) then(m + r, n + w * VECTOR, sum[r][w], sum[r + 1][w]);
    }
}

INLINE auto plain(float* out, int row) {
  return [=](int m, int n, Vector a, Vector b) { store(out + m * row + n, a), store(out + (m + 1) * row + n, b); };
}
INLINE auto added(float* out, int row) {
  return [=](int m, int n, Vector a, Vector b) {
    store(out + m * row + n, load(out + m * row + n) + a);
    store(out + (m + 1) * row + n, load(out + (m + 1) * row + n) + b);
  };
}

template <int M, int N> struct Operand {  // M x N, as left factor by row, as right factor (or turned left one) by pair
#ifdef BF16
  uint32_t row[M * N / 2], pair[M * N / 2];
  INLINE void put(Operand& o, int m, int n, Vector a, Vector b) {
    const __m256i low = (__m256i)_mm512_cvtneps_pbh((__m512)a), high = (__m256i)_mm512_cvtneps_pbh((__m512)b);
    _mm256_storeu_si256((__m256i*)(o.row + (m * N + n) / 2), low);
    _mm256_storeu_si256((__m256i*)(o.row + ((m + 1) * N + n) / 2), high);
    const __m512i upper = _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16);
    _mm512_storeu_si512(o.pair + m / 2 * N + n, _mm512_or_si512(_mm512_cvtepu16_epi32(low), upper));
  }
#else
  union { float row[M * N], pair[M * N]; };
  INLINE void put(Operand& o, int m, int n, Vector a, Vector b) { plain(o.row, N)(m, n, a, b); }
#endif
};
