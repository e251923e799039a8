// Layer norm of a tile's tokens.

#pragma once

#include "tile.h"

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
