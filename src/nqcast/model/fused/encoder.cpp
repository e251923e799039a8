// Attention over tokens, from the tokens to one vector per sequence, for CPUs, tile by tile in the cache.
//
//   tokens -> BLOCKS pre-norm transformer blocks -> norm -> pool with one query per head
//
// Over time (PATCH > 0) the tokens are made here, from the patches of a window's variables; over variables (PATCH = 0)
// they are given, and the blocks are GATED. Same mathematics as PatchEmbedding, TimeBlock, VariableBlock, Norm and
// AttentionPool in nqcast/model, which are its oracle. torch runs them as some sixty passes over arrays of megabytes;
// here SEQUENCES sequences go through all of them at once. The backward pass keeps nothing of the forward pass and
// computes a tile again.
//
// Sizes are constants of the build. float32 throughout; with BF16 the operands of the blocks' matrix products are
// rounded to bfloat16 and multiplied by the processor's own instruction; sums and everything else stay float32.
//
// An operand is stored in units of 32 bits: one float, or a pair of bfloat16 along the summed index. "By row" pairs
// neighbouring columns, "by pair" pairs neighbouring rows; in float32 both are the plain array.

#include <omp.h>

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

constexpr int L = TOKENS, D = WIDTH, A = HEADS, d = WIDTH / HEADS, FF = HIDDEN, K = PATCH, F = VARIABLES;
constexpr int S = SEQUENCES, T = S * L;    // a tile: S sequences, T tokens
constexpr int LANES = rounded_up(L, 16);   // queries of one head, in whole vectors
constexpr int USED = rounded_up(A * L, VECTOR);                  // row of scores: the heads' queries side by side,
constexpr int Q = rounded_up((A - 1) * L + LANES, VECTOR);  // with room for the last head's whole vectors
constexpr int GROUP = 8;  // windows whose gradients are summed first: the sum does not depend on the threads
static_assert(D % A == 0 && d % VECTOR == 0 && FF % VECTOR == 0 && F % S == 0 && (PATCH > 0 || F == 1), "sizes");
static_assert(L % 2 == 0 && A % 2 == 0 && K % 2 == 0, "products come by pairs of rows");

// ---------------------------------------------------------------- products

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

// ---------------------------------------------------------------- operands

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

// units [L][...] -> [d / PAIR][LANES]: the queries of a head side by side
template <int ROW> INLINE void turn(const Unit* x, Unit* out) {
  for (int u = 0; u < d / PAIR; ++u)
    for (int i = 0; i < L; ++i) out[u * LANES + i] = x[i * ROW + u];
}

// ---------------------------------------------------------------- elementary functions

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

// ---------------------------------------------------------------- parameters and their gradients

// the order in which Python passes them
struct BlockWeights {
  const float *norm1, *bias1, *qkv, *qkv_bias, *out, *out_bias;
#if GATED
  const float *gate, *gate_bias;
#endif
  const float *norm2, *bias2, *up, *up_bias, *down, *down_bias;
};
struct Weights {
#if PATCH
  const float *patch, *patch_bias;
#endif
  BlockWeights block[BLOCKS];
  const float *norm, *bias, *score, *place;
};

// in the same order and torch's shapes, but score is (A, D) and place (A, LANES)
struct BlockGradient {
  float norm1[D], bias1[D], qkv[3 * D * D], qkv_bias[3 * D], out[D * D], out_bias[D];
#if GATED
  float gate[D * D], gate_bias[D];
#endif
  float norm2[D], bias2[D], up[FF * D], up_bias[FF], down[D * FF], down_bias[D];
};
struct Gradient {
#if PATCH
  float patch[F * K * D], patch_bias[F * D];
#endif
  BlockGradient block[BLOCKS];
  float norm[D], bias[D], score[A * D], place[A * LANES];
};

template <int OUT, int IN> struct Matrix {  // right factors: of the forward pass (IN x OUT), of the backward (OUT x IN)
  Unit forward[IN * OUT / PAIR], backward[OUT * IN / PAIR];
  explicit Matrix(const float* w) {
    Operand<OUT, IN> o;
    for (int m = 0; m < OUT; m += 2)
      for (int n = 0; n < IN; n += VECTOR) o.put(o, m, n, load(w + m * IN + n), load(w + (m + 1) * IN + n));
    memcpy(backward, o.pair, sizeof backward);
    for (int m = 0; m < OUT; ++m)
      for (int u = 0; u < IN / PAIR; ++u) forward[u * OUT + m] = o.row[m * (IN / PAIR) + u];
  }
};
struct BlockMatrices {
  Matrix<3 * D, D> qkv;
  Matrix<D, D> out;
  Matrix<FF, D> up;
  Matrix<D, FF> down;
#if GATED
  Matrix<D, D> gate;
  explicit BlockMatrices(const BlockWeights& w) : qkv(w.qkv), out(w.out), up(w.up), down(w.down), gate(w.gate) {}
#else
  explicit BlockMatrices(const BlockWeights& w) : qkv(w.qkv), out(w.out), up(w.up), down(w.down) {}
#endif
};

// ---------------------------------------------------------------- one block over one tile

struct Normalised { float hat[T * D], scale[T]; };  // (x - mean) / deviation and 1 / deviation of each token

struct Kept {  // what the backward pass of a block wants
  float x[T * D], x1[T * D], mask[2][S * D], h[T * FF], sigmoid[T * FF], p[S][L * Q];
  Normalised n1, n2;
  Operand<T, D> in, mixed, mid;
  Operand<T, 3 * D> qkv;
  Operand<T, FF> g;
  Operand<L, Q> weights[S];
#if GATED
  Operand<T, D> raw;
  float open[T * D], attended[T * D];
#endif
};

struct Work {
  Kept kept[BLOCKS];
  float y[T * D], z[T * D], dy[T * D], dn[T * D], ds[L * Q];
  Normalised n;
  Unit turned[d / PAIR * LANES];
  Operand<T, D> dD, dMixed, dGate;
  Operand<T, 3 * D> dQKV;
  Operand<T, FF> dFF;
  Operand<L, Q> dS;
  float pool[S][2 * A * LANES];  // per head the weights of the pool, then the gradients of its scores
  float pool_right[2 * A * D], score[A * D], place[A * LANES];
};

template <class Then>
INLINE void norm(const float* x, const float* weight, const float* bias, Normalised& n, Then then) {
  for (int t0 = 0; t0 < T; t0 += VECTOR) {
    const int count = T - t0 < VECTOR ? T - t0 : VECTOR;
    Vector part[VECTOR] = {};
    for (int i = 0; i < count; ++i)
      UNROLL for (int j = 0; j < D; j += VECTOR) part[i] += load(x + (t0 + i) * D + j);
    const Vector mean = totals(part) * (1.0f / D);
    Vector square[VECTOR] = {};
    for (int i = 0; i < count; ++i)
      UNROLL for (int j = 0; j < D; j += VECTOR) {
        const Vector c = load(x + (t0 + i) * D + j) - mean[i];
        store(n.hat + (t0 + i) * D + j, c);
        square[i] += c * c;
      }
    const Vector variance = totals(square) * (1.0f / D) + 1e-5f;
    for (int i = 0; i < count; ++i) n.scale[t0 + i] = 1.0f / sqrtf(variance[i]);
    for (int i = 0; i < count; i += 2)
      UNROLL for (int j = 0; j < D; j += VECTOR) {
        const int t = t0 + i;
        const Vector a = load(n.hat + t * D + j) * n.scale[t], b = load(n.hat + (t + 1) * D + j) * n.scale[t + 1];
        store(n.hat + t * D + j, a), store(n.hat + (t + 1) * D + j, b);
        then(t, j, a * load(weight + j) + load(bias + j), b * load(weight + j) + load(bias + j));
      }
  }
}

// then(t, j, gradient of x) from dn, the gradient of the norm's output
template <class Then>
INLINE void norm_backward(const float* dn, const float* weight, const Normalised& n, float* dweight, float* dbias,
                          Then then) {
  Vector dw[D / VECTOR], db[D / VECTOR];
  UNROLL for (int j = 0; j < D / VECTOR; ++j) dw[j] = load(dweight + j * VECTOR), db[j] = load(dbias + j * VECTOR);
  for (int t0 = 0; t0 < T; t0 += VECTOR) {
    const int count = T - t0 < VECTOR ? T - t0 : VECTOR;
    Vector sum[VECTOR] = {}, along[VECTOR] = {};
    for (int i = 0; i < count; ++i)
      UNROLL for (int j = 0; j < D / VECTOR; ++j) {
        const Vector g = load(dn + (t0 + i) * D + j * VECTOR), hat = load(n.hat + (t0 + i) * D + j * VECTOR);
        dw[j] += g * hat, db[j] += g;
        const Vector dhat = g * load(weight + j * VECTOR);
        sum[i] += dhat, along[i] += dhat * hat;
      }
    const Vector mean = totals(sum) * (1.0f / D), slope = totals(along) * (1.0f / D);
    for (int i = 0; i < count; ++i)
      UNROLL for (int j = 0; j < D; j += VECTOR) {
        const int at = (t0 + i) * D + j;
        const Vector dhat = load(dn + at) * load(weight + j);
        then(t0 + i, j, (dhat - mean[i] - load(n.hat + at) * slope[i]) * n.scale[t0 + i]);
      }
  }
  UNROLL for (int j = 0; j < D / VECTOR; ++j) store(dweight + j * VECTOR, dw[j]), store(dbias + j * VECTOR, db[j]);
}

constexpr float TWICE_ROOT = 1.5957691216f, CUBIC = 0.044715f;  // tanh GELU: x * sigmoid(TWICE_ROOT (x + CUBIC x^3))

INLINE Vector times(Vector x, const float* mask, int row, int n) { return mask ? x * load(mask + row / L * D + n) : x; }

INLINE void residual(const float* x, Vector a, Vector b, const float* mask, float* out, int m, int n) {
  const float *even = x + m * D + n, *odd = even + D;
  plain(out, D)(m, n, load(even) + times(a, mask, m, n), load(odd) + times(b, mask, m + 1, n));
}

static void attend(Kept& k, Work& o) {
  constexpr int ROW = 3 * D / PAIR;
  for (int s = 0; s < S; ++s) {
    float* p = k.p[s];
    const Unit* row = k.qkv.row + s * L * ROW;
    for (int a = 0; a < A; ++a) {  // rows: keys; columns: queries, so that the softmax needs no sum across lanes
      turn<ROW>(row + a * d / PAIR, o.turned);
      product<L, LANES, d / PAIR, ROW, 1, LANES>(row + (D + a * d) / PAIR, o.turned, plain(p + a * L, Q));
    }
    for (int i = 0; i < USED; i += VECTOR) {
      Vector top = load(p + i), sum{};
      for (int j = 1; j < L; ++j) top = larger(top, load(p + j * Q + i));
      for (int j = 0; j < L; ++j) {
        const Vector e = exponential(load(p + j * Q + i) - top);
        sum += e;
        store(p + j * Q + i, e);
      }
      const Vector share = reciprocal(sum);
      for (int j = 0; j < L; j += 2) {
        const Vector even = load(p + j * Q + i) * share, odd = load(p + (j + 1) * Q + i) * share;
        plain(p, Q)(j, i, even, odd);
        k.weights[s].put(k.weights[s], j, i, even, odd);
      }
    }
    const Unit* value = k.qkv.pair + s * L / PAIR * 3 * D + 2 * D;
    for (int a = 0; a < A; ++a) {
      auto put = [&](int m, int n, Vector even, Vector odd) { k.mixed.put(k.mixed, s * L + m, a * d + n, even, odd); };
      product<L, d, L / PAIR, 1, Q, 3 * D>(k.weights[s].pair + a * L, value + a * d, put);
    }
  }
}

static void block_forward(const BlockWeights& b, const BlockMatrices& w, bool masked, Kept& k, Work& o, float* y) {
  norm(k.x, b.norm1, b.bias1, k.n1, [&](int m, int n, Vector a, Vector c) { k.in.put(k.in, m, n, a, c); });
  const float root = 1.0f / sqrtf(d);
  product<T, 3 * D, D / PAIR, D / PAIR, 1, 3 * D>(k.in.row, w.qkv.forward, [&](int m, int n, Vector a, Vector c) {
    const Vector bias = load(b.qkv_bias + n), scale = splat(n < D ? root : 1.0f);
    k.qkv.put(k.qkv, m, n, (a + bias) * scale, (c + bias) * scale);
  });
  attend(k, o);
#if GATED
  for (int m = 0; m < T; m += 2)
    for (int n = 0; n < D; n += VECTOR) k.raw.put(k.raw, m, n, load(k.x + m * D + n), load(k.x + (m + 1) * D + n));
  product<T, D, D / PAIR, D / PAIR, 1, D>(k.raw.row, w.gate.forward, [&](int m, int n, Vector a, Vector c) {
    const Vector bias = load(b.gate_bias + n);
    plain(k.open, D)(m, n, reciprocal(1.0f + exponential(-a - bias)), reciprocal(1.0f + exponential(-c - bias)));
  });
#endif
  product<T, D, D / PAIR, D / PAIR, 1, D>(k.mixed.row, w.out.forward, [&](int m, int n, Vector a, Vector c) {
    const Vector bias = load(b.out_bias + n);
    a += bias, c += bias;
#if GATED
    plain(k.attended, D)(m, n, a, c);
    a *= load(k.open + m * D + n), c *= load(k.open + (m + 1) * D + n);
#endif
    residual(k.x, a, c, masked ? k.mask[0] : nullptr, k.x1, m, n);
  });
  norm(k.x1, b.norm2, b.bias2, k.n2, [&](int m, int n, Vector a, Vector c) { k.mid.put(k.mid, m, n, a, c); });
  product<T, FF, D / PAIR, D / PAIR, 1, FF>(k.mid.row, w.up.forward, [&](int m, int n, Vector a, Vector c) {
    const Vector bias = load(b.up_bias + n);
    plain(k.h, FF)(m, n, a + bias, c + bias);
  });
  for (int m = 0; m < T; m += 2)
    for (int n = 0; n < FF; n += VECTOR) {
      Vector g[2];
      UNROLL for (int i = 0; i < 2; ++i) {
        const Vector x = load(k.h + (m + i) * FF + n);
        const Vector sigmoid = reciprocal(1.0f + exponential(-TWICE_ROOT * x * (1.0f + CUBIC * x * x)));
        store(k.sigmoid + (m + i) * FF + n, sigmoid);
        g[i] = x * sigmoid;
      }
      k.g.put(k.g, m, n, g[0], g[1]);
    }
  product<T, D, FF / PAIR, FF / PAIR, 1, D>(k.g.row, w.down.forward, [&](int m, int n, Vector a, Vector c) {
    const Vector bias = load(b.down_bias + n);
    residual(k.x1, a + bias, c + bias, masked ? k.mask[1] : nullptr, y, m, n);
  });
}

// o.dy through a mask and `then`, as operand and into the gradient of a bias
template <class Then> INLINE void residual_backward(const float* mask, Work& o, float* dbias, Then then) {
  for (int n = 0; n < D; n += VECTOR) {
    Vector sum = load(dbias + n);
    for (int m = 0; m < T; m += 2) {
      Vector a = times(load(o.dy + m * D + n), mask, m, n), b = times(load(o.dy + (m + 1) * D + n), mask, m + 1, n);
      then(m, n, a, b);
      sum += a + b;
      o.dD.put(o.dD, m, n, a, b);
    }
    store(dbias + n, sum);
  }
}

#if GATED
// from the gradient of open * attended those of the gate, and what is left for `attended`
INLINE void gate_backward(const BlockMatrices& w, const float* mask, Kept& k, Work& o, BlockGradient& g) {
  residual_backward(mask, o, g.out_bias, [&](int m, int n, Vector& a, Vector& b) {
    Vector pre[2] = {a, b};
    UNROLL for (int i = 0; i < 2; ++i) {
      const Vector open = load(k.open + (m + i) * D + n);
      pre[i] *= load(k.attended + (m + i) * D + n) * open * (1.0f - open);
      (i ? b : a) *= open;
    }
    store(g.gate_bias + n, load(g.gate_bias + n) + (pre[0] + pre[1]));
    o.dGate.put(o.dGate, m, n, pre[0], pre[1]);
  });
  product<D, D, T / PAIR, 1, D, D>(o.dGate.pair, k.raw.pair, added(g.gate, D));
  product<T, D, D / PAIR, D / PAIR, 1, D>(o.dGate.row, w.gate.backward, added(o.dy, D));
}
#endif

static void attend_backward(Kept& k, Work& o, float* dbias) {
  constexpr int ROW = 3 * D / PAIR;
  const float root = 1.0f / sqrtf(d);
  for (int s = 0; s < S; ++s) {
    const float* p = k.p[s];
    const Unit *row = k.qkv.row + s * L * ROW, *pair = k.qkv.pair + s * L / PAIR * 3 * D;
    const Unit* dmixed = o.dMixed.pair + s * L / PAIR * D;
    auto put = [&](int column, float scale) {
      return [&o, dbias, s, column, scale](int m, int n, Vector a, Vector b) {
        a *= scale, b *= scale;
        store(dbias + column + n, load(dbias + column + n) + (a + b));
        o.dQKV.put(o.dQKV, s * L + m, column + n, a, b);
      };
    };
    for (int a = 0; a < A; ++a) {
      turn<D / PAIR>(o.dMixed.row + (s * L * D + a * d) / PAIR, o.turned);
      product<L, LANES, d / PAIR, ROW, 1, LANES>(row + (2 * D + a * d) / PAIR, o.turned, plain(o.ds + a * L, Q));
      const int value = 2 * D + a * d;
      product<L, d, L / PAIR, Q / PAIR, 1, D>(k.weights[s].row + a * L / PAIR, dmixed + a * d, put(value, 1.0f));
    }
    for (int i = 0; i < USED; i += VECTOR) {
      Vector sum{};
      for (int j = 0; j < L; ++j) sum += load(o.ds + j * Q + i) * load(p + j * Q + i);
      for (int j = 0; j < L; j += 2) {
        const int even = j * Q + i, odd = even + Q;
        o.dS.put(o.dS, j, i, (load(o.ds + even) - sum) * load(p + even), (load(o.ds + odd) - sum) * load(p + odd));
      }
    }
    for (int a = 0; a < A; ++a) {
      product<L, d, L / PAIR, 1, Q, 3 * D>(o.dS.pair + a * L, pair + D + a * d, put(a * d, root));
      product<L, d, L / PAIR, Q / PAIR, 1, 3 * D>(o.dS.row + a * L / PAIR, pair + a * d, put(D + a * d, 1.0f));
    }
  }
}

// o.dy: the gradient of the block's output on entry, of its input on return
static void block_backward(const BlockWeights& b, const BlockMatrices& w, bool masked, Kept& k, Work& o,
                           BlockGradient& g) {
  auto into_dy = [&](int t, int j, Vector dx) { store(o.dy + t * D + j, load(o.dy + t * D + j) + dx); };
  auto as_it_is = [](int, int, Vector&, Vector&) {};
  residual_backward(masked ? k.mask[1] : nullptr, o, g.down_bias, as_it_is);
  product<D, FF, T / PAIR, 1, D, FF>(o.dD.pair, k.g.pair, added(g.down, FF));
  product<T, FF, D / PAIR, D / PAIR, 1, FF>(o.dD.row, w.down.backward, [&](int m, int n, Vector a, Vector c) {
    Vector dh[2] = {a, c};
    UNROLL for (int i = 0; i < 2; ++i) {
      const Vector x = load(k.h + (m + i) * FF + n), sigmoid = load(k.sigmoid + (m + i) * FF + n);
      dh[i] *= sigmoid + x * sigmoid * (1.0f - sigmoid) * (TWICE_ROOT + 3 * CUBIC * TWICE_ROOT * x * x);
    }
    store(g.up_bias + n, load(g.up_bias + n) + (dh[0] + dh[1]));
    o.dFF.put(o.dFF, m, n, dh[0], dh[1]);
  });
  product<FF, D, T / PAIR, 1, FF, D>(o.dFF.pair, k.mid.pair, added(g.up, D));
  product<T, D, FF / PAIR, FF / PAIR, 1, D>(o.dFF.row, w.up.backward, plain(o.dn, D));
  norm_backward(o.dn, b.norm2, k.n2, g.norm2, g.bias2, into_dy);
#if GATED
  gate_backward(w, masked ? k.mask[0] : nullptr, k, o, g);
#else
  residual_backward(masked ? k.mask[0] : nullptr, o, g.out_bias, as_it_is);
#endif
  product<D, D, T / PAIR, 1, D, D>(o.dD.pair, k.mixed.pair, added(g.out, D));
  product<T, D, D / PAIR, D / PAIR, 1, D>(o.dD.row, w.out.backward, [&](int m, int n, Vector a, Vector c) {
    o.dMixed.put(o.dMixed, m, n, a, c);
  });
  attend_backward(k, o, g.qkv_bias);
  product<3 * D, D, T / PAIR, 1, 3 * D, D>(o.dQKV.pair, k.in.pair, added(g.qkv, D));
  product<T, D, 3 * D / PAIR, 3 * D / PAIR, 1, D>(o.dQKV.row, w.qkv.backward, plain(o.dn, D));
  norm_backward(o.dn, b.norm1, k.n1, g.norm1, g.bias1, into_dy);
}

// ---------------------------------------------------------------- pool

// out[t], t < L: the dot products of D-vectors z[t] with one vector
INLINE void dots(const float* z, const float* with, float* out) {
  for (int t0 = 0; t0 < L; t0 += VECTOR) {
    Vector part[VECTOR] = {};
    for (int i = 0; i < VECTOR && t0 + i < L; ++i)
      UNROLL for (int j = 0; j < D; j += VECTOR) part[i] += load(z + (t0 + i) * D + j) * load(with + j);
    store(out + t0, totals(part));
  }
}

static void pool_forward(Work& o, int s) {
  const float* z = o.z + s * L * D;
  for (int a = 0; a < A; ++a) {
    float* w = o.pool[s] + a * LANES;
    dots(z, o.score + a * D, w);
    float top = -INFINITY;
    for (int t = 0; t < L; ++t) w[t] += o.place[a * LANES + t], top = w[t] > top ? w[t] : top;
    Vector sum{};
    for (int t = 0; t < LANES; t += VECTOR) { const Vector e = exponential(load(w + t) - top); store(w + t, e); }
    for (int t = L; t < LANES; ++t) w[t] = 0;
    for (int t = 0; t < LANES; t += VECTOR) sum += load(w + t);
    const float share = 1.0f / total(sum);
    for (int t = 0; t < LANES; t += VECTOR) store(w + t, load(w + t) * share);
  }
}

static void pool_backward(Work& o, int s, const float* dpooled, Gradient& g) {
  const float* z = o.z + s * L * D;
  float* scores = o.pool[s] + A * LANES;
  for (int a = 0; a < A; ++a) {
    const float* w = o.pool[s] + a * LANES;
    float* ds = scores + a * LANES;
    dots(z, dpooled + a * D, ds);
    Vector sum{};
    for (int t = 0; t < LANES; t += VECTOR) sum += load(w + t) * load(ds + t);
    const float mean = total(sum);
    for (int t = 0; t < LANES; t += VECTOR) {
      const Vector v = load(w + t) * (load(ds + t) - mean);
      store(ds + t, v);
      store(g.place + a * LANES + t, load(g.place + a * LANES + t) + v);
    }
  }
  memcpy(o.pool_right, dpooled, sizeof(float) * A * D);
  product<A, D, L, LANES, 1, D>(scores, z, added(g.score, D));
  product<L, D, 2 * A, 1, LANES, D>(o.pool[s], o.pool_right, plain(o.dn + s * L * D, D));
}

// ---------------------------------------------------------------- a tile: S variables of one window

struct Call {
  // rows (B, F, L * K), unless PATCH = 0; place (B, L, D), added to the tokens of every variable or the tokens
  // themselves; masks (BLOCKS, 2, F, B, D) or null
  const float *rows, *place, *masks;
  const Weights* weights;
  const BlockMatrices* matrices;
  long B;
};

static void tile_forward(const Call& c, Work& o, long b, int f) {
  const Weights& w = *c.weights;
  float* x = o.kept[0].x;
#if PATCH
  for (int s = 0; s < S; ++s) {
    const float *row = c.rows + (b * F + f + s) * L * K, *patch = w.patch + (f + s) * K * D;
    product<L, D, K, K, 1, D>(row, patch, [&](int m, int n, Vector even, Vector odd) {
      const Vector bias = load(w.patch_bias + (f + s) * D + n);
      const float* place = c.place + (b * L + m) * D + n;
      plain(x + s * L * D, D)(m, n, even + bias + load(place), odd + bias + load(place + D));
    });
  }
#else
  memcpy(x, c.place + b * L * D, sizeof(float) * L * D);
#endif
  for (int i = 0; i < BLOCKS; ++i) {
    if (c.masks)
      for (int which = 0; which < 2; ++which)
        for (int s = 0; s < S; ++s) {
          const float* mask = c.masks + (((i * 2L + which) * F + f + s) * c.B + b) * D;
          memcpy(o.kept[i].mask[which] + s * D, mask, sizeof(float) * D);
        }
    block_forward(w.block[i], c.matrices[i], c.masks, o.kept[i], o, i + 1 < BLOCKS ? o.kept[i + 1].x : o.y);
  }
  norm(o.y, w.norm, w.bias, o.n, plain(o.z, D));
  for (int s = 0; s < S; ++s) pool_forward(o, s);
}

static void tile_backward(const Call& c, Work& o, long b, int f, const float* dpooled, Gradient& g, float* dplace) {
  const Weights& w = *c.weights;
  for (int s = 0; s < S; ++s) pool_backward(o, s, dpooled + (b * F + f + s) * A * D, g);
  norm_backward(o.dn, w.norm, o.n, g.norm, g.bias, [&](int t, int j, Vector dx) { store(o.dy + t * D + j, dx); });
  for (int i = BLOCKS - 1; i >= 0; --i) block_backward(w.block[i], c.matrices[i], c.masks, o.kept[i], o, g.block[i]);
  for (int s = 0; s < S; ++s) {
    const float* dx = o.dy + s * L * D;
    for (int i = 0; i < L * D; i += VECTOR) store(dplace + i, load(dplace + i) + load(dx + i));
#if PATCH
    product<K, D, L, 1, K, D>(c.rows + (b * F + f + s) * L * K, dx, added(g.patch + (f + s) * K * D, D));
    for (int j = 0; j < D; j += VECTOR) {
      float* bias = g.patch_bias + (f + s) * D + j;
      Vector sum = load(bias);
      for (int t = 0; t < L; ++t) sum += load(dx + t * D + j);
      store(bias, sum);
    }
#endif
  }
}

// ---------------------------------------------------------------- what Python calls

struct Scratch {  // room that Python has: the matrices, then one Work per thread, then one Gradient per group
  BlockMatrices* matrices;
  Work* work;
  Gradient* sums;

  static long groups(long B) { return (B + GROUP - 1) / GROUP; }
  static long bytes(long B, int threads) {
    return sizeof(BlockMatrices) * BLOCKS + sizeof(Work) * threads + sizeof(Gradient) * groups(B);
  }
  Scratch(void* room, const Weights& w, int threads) {
    matrices = (BlockMatrices*)room;
    work = (Work*)(matrices + BLOCKS);
    sums = (Gradient*)(work + threads);
    for (int i = 0; i < BLOCKS; ++i) new (matrices + i) BlockMatrices(w.block[i]);
  }
};

static Work& cleared(Work& o, const Weights& w) {
  memset(&o, 0, sizeof o);
  for (int a = 0; a < A; ++a) {
    for (int j = 0; j < D; ++j) o.score[a * D + j] = o.pool_right[(A + a) * D + j] = w.score[j * A + a];
    for (int t = 0; t < L; ++t) o.place[a * LANES + t] = w.place[t * A + a];
  }
  return o;
}

extern "C" long gradient_size() { return sizeof(Gradient) / sizeof(float); }
extern "C" long scratch_bytes(long B, int threads) { return Scratch::bytes(B, threads); }

// pooled: (B, F, A, D)
extern "C" void forward(const float* rows, const float* place, const float* masks, const Weights* weights, long B,
                        int threads, void* room, float* pooled) {
  const Scratch scratch(room, *weights, threads);
  const Call c{rows, place, masks, weights, scratch.matrices, B};
#pragma omp parallel num_threads(threads)
  {
    Work& o = cleared(scratch.work[omp_get_thread_num()], *weights);
#pragma omp for schedule(static)
    for (long b = 0; b < B; ++b)
      for (int f = 0; f < F; f += S) {
        tile_forward(c, o, b, f);
        for (int s = 0; s < S; ++s)
          product<A, D, L, LANES, 1, D>(o.pool[s], o.z + s * L * D, plain(pooled + (b * F + f + s) * A * D, D));
      }
  }
}

// gradients: gradient_size() floats in the order of `Gradient`; dplace: (B, L, D)
extern "C" void backward(const float* rows, const float* place, const float* masks, const Weights* weights, long B,
                         int threads, void* room, const float* dpooled, float* gradients, float* dplace) {
  const Scratch scratch(room, *weights, threads);
  const Call c{rows, place, masks, weights, scratch.matrices, B};
  const long groups = Scratch::groups(B);
#pragma omp parallel num_threads(threads)
  {
    Work& o = cleared(scratch.work[omp_get_thread_num()], *weights);
#pragma omp for schedule(static)
    for (long i = 0; i < groups; ++i) {
      memset(scratch.sums + i, 0, sizeof(Gradient));
      for (long b = i * GROUP; b < B && b < (i + 1) * GROUP; ++b) {
        float* dx = dplace + b * L * D;
        memset(dx, 0, sizeof(float) * L * D);
        for (int f = 0; f < F; f += S) {
          tile_forward(c, o, b, f);
          tile_backward(c, o, b, f, dpooled, scratch.sums[i], dx);
        }
      }
    }
  }
  memset(gradients, 0, sizeof(Gradient));
  for (long i = 0; i < groups; ++i)
    for (size_t j = 0; j < sizeof(Gradient) / sizeof(float); ++j)
      gradients[j] += ((const float*)(scratch.sums + i))[j];
}
