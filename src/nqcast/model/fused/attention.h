// Attention within each sequence of a tile. Scores lie with keys as rows and queries as columns, so that a softmax
// needs no sum across the lanes of a register.

#pragma once

#include "tile.h"

// units [L][...] -> [d / PAIR][LANES]: the queries of a head side by side
template <int ROW> INLINE void turn(const Unit* x, Unit* out) {
  for (int u = 0; u < d / PAIR; ++u)
    for (int i = 0; i < L; ++i) out[u * LANES + i] = x[i * ROW + u];
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
