// Sizes, parameters, their gradients, and the matrices as products want them.

#pragma once

#include "products.h"

// L tokens of a sequence, of D channels in A heads of d; FF channels between the feed-forward layers; K bars of a patch;
// F variables of a window; a tile of S sequences has T tokens
constexpr int L = TOKENS, D = WIDTH, A = HEADS, d = WIDTH / HEADS, FF = HIDDEN, K = PATCH, F = VARIABLES;
constexpr int S = SEQUENCES, T = S * L;
constexpr int LANES = rounded_up(L, 16);                    // queries of one head, in whole vectors
constexpr int USED = rounded_up(A * L, VECTOR);             // a row of scores: the heads' queries side by side,
constexpr int Q = rounded_up((A - 1) * L + LANES, VECTOR);  // with room for the last head's whole vectors
constexpr int GROUP = 8;  // windows whose gradients are summed first: the sum does not depend on the threads
static_assert(D % A == 0 && d % VECTOR == 0 && FF % VECTOR == 0 && F % S == 0 && (PATCH > 0 || F == 1), "sizes");
static_assert(L % 2 == 0 && A % 2 == 0 && K % 2 == 0, "products come by pairs of rows");

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
