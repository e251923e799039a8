// A pre-norm transformer block over one tile: TimeBlock, or with a gate VariableBlock, of nqcast/model/blocks.py.

#pragma once

#include "attention.h"
#include "norm.h"

constexpr float TWICE_ROOT = 1.5957691216f, CUBIC = 0.044715f;  // tanh GELU: x * sigmoid(TWICE_ROOT (x + CUBIC x^3))

INLINE Vector times(Vector x, const float* mask, int row, int n) { return mask ? x * load(mask + row / L * D + n) : x; }

INLINE void residual(const float* x, Vector a, Vector b, const float* mask, float* out, int m, int n) {
  const float *even = x + m * D + n, *odd = even + D;
  plain(out, D)(m, n, load(even) + times(a, mask, m, n), load(odd) + times(b, mask, m + 1, n));
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
