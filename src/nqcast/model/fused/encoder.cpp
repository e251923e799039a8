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

#include <omp.h>

#include "block.h"
#include "pool.h"

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
