// What a tile of SEQUENCES sequences keeps while it goes through the encoder and back.

#pragma once

#include "weights.h"

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
