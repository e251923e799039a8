// AttentionPool of nqcast/model/blocks.py, without its value projection: one query per head over a sequence's tokens.

#pragma once

#include "tile.h"

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
