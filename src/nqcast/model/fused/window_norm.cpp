// Windows in units of the training set and of themselves, in one call: same as WindowNorm in nqcast/model/embedding.py
// for windows without pads. Sums in double precision.

#include <cmath>

constexpr int F = VARIABLES;
constexpr float CLIP = 8.0f;

// x: (B, T, F) features; centre, spread: (F) of the training set
// rows: (B, F, T) normalised and clipped, or null; mean, log_std: (B, F) in training-set units
extern "C" void normalise(const float* x, const float* centre, const float* spread, float eps, long B, long T,
                          int threads, float* rows, float* mean, float* log_std) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long b = 0; b < B; ++b) {
    const float* window = x + b * T * F;
    double sum[F] = {}, square[F] = {};
    float middle[F], shrink[F];
    for (long t = 0; t < T; ++t)
      for (int f = 0; f < F; ++f) sum[f] += (window[t * F + f] - centre[f]) / spread[f];
    for (int f = 0; f < F; ++f) mean[b * F + f] = middle[f] = (float)(sum[f] / T);
    for (long t = 0; t < T; ++t)
      for (int f = 0; f < F; ++f) {
        const float c = (window[t * F + f] - centre[f]) / spread[f] - middle[f];
        square[f] += (double)c * c;
      }
    for (int f = 0; f < F; ++f) {
      const float log_f = 0.5f * logf((float)(square[f] / T) + eps * eps);
      log_std[b * F + f] = log_f;
      shrink[f] = expf(-log_f);
    }
    if (!rows) continue;
    for (long t = 0; t < T; ++t)
      for (int f = 0; f < F; ++f) {
        const float v = ((window[t * F + f] - centre[f]) / spread[f] - middle[f]) * shrink[f];
        rows[(b * F + f) * T + t] = v < -CLIP ? -CLIP : v > CLIP ? CLIP : v;
      }
  }
}
