// The frame-robust stage on one T x T matrix, once for a warp of CUDA (a frame per lane) and for the CPU (all frames one
// after the other). A team has `lane` of `lanes`, sync(), sum(v) over its lanes, load() and store() of the tensors.
#pragma once
#include "rotation.h"

#if defined(__CUDACC__)
#define LSEF_TEAM __device__ __forceinline__
#else
#define LSEF_TEAM inline __attribute__((always_inline))
#endif

namespace lsef {

constexpr int kMedianSteps = 8;     // WEISZFELD_STEPS of ops/frame_repair.py

LSEF_HD float logarithm(float v) { return logf(v); }
LSEF_HD double logarithm(double v) { return log(v); }
template <class A> struct Smallest;         // that is normal, and its root
template <> struct Smallest<double> { static constexpr double value = 2.2250738585072014e-308, root = 1.4916681462400413e-154; };
template <> struct Smallest<float> { static constexpr float value = 1.17549435e-38f, root = 1.0842022e-19f; };

// What a team works with: two matrices with rows of odd length and three vectors.
template <class A> struct RepairMemory {
  A *g, *m, *weight, *other, *error;
  int stride;
  LSEF_TEAM RepairMemory(void* memory, int T) : stride(T | 1) {
    g = static_cast<A*>(memory);
    m = g + T * stride;
    weight = m + T * stride;
    other = weight + T;
    error = other + T;
  }
};
template <class A> LSEF_HD size_t repair_bytes(int T) { return sizeof(A) * (2 * size_t(T) * (T | 1) + 3 * T); }

template <class A, class Team> LSEF_TEAM void load_square(const Team& team, const A* from, A* to, int T, int stride) {
  for (int e = team.lane; e < T * T; e += Team::lanes) to[e / T * stride + e % T] = team.load(from + e);
}

// Weiszfeld's steps to the weights of the frames in their geometric median, from inner products alone.
template <class A, class Team> LSEF_TEAM void find_weights(const Team& team, const RepairMemory<A>& k, int T) {
  for (int i = team.lane; i < T; i += Team::lanes) k.weight[i] = A(1) / A(T);
  team.sync();
  for (int step = 0; step < kMedianSteps; ++step) {
    A sum = 0;
    for (int i = team.lane; i < T; i += Team::lanes) {
      A projected = 0;
      for (int j = 0; j < T; ++j) projected += k.g[i * k.stride + j] * k.weight[j];
      k.other[i] = projected;
      sum += k.weight[i] * projected;
    }
    const A constant = team.sum(sum);
    sum = 0;
    for (int i = team.lane; i < T; i += Team::lanes) {
      const A square = k.g[i * k.stride + i] - 2 * k.other[i] + constant;
      k.other[i] = root(square < A(0) ? A(0) : square);
      sum += k.other[i];
    }
    const A floor = A(1e-3) * (team.sum(sum) / A(T));
    sum = 0;
    for (int i = team.lane; i < T; i += Team::lanes) {
      const A distance = k.other[i] < floor ? floor : k.other[i];
      k.other[i] = A(1) / (distance < Smallest<A>::root ? A(Smallest<A>::root) : distance);
      sum += k.other[i];
    }
    sum = team.sum(sum);
    team.sync();
    for (int i = team.lane; i < T; i += Team::lanes) k.weight[i] = k.other[i] / sum;
    team.sync();
  }
}

// Row i of I - M_0: with `local` the softmax of log w_j - (i - j)^2 / 2 bandwidth^2 over the others, else w itself.
template <class A> LSEF_TEAM void deviation_row(const RepairMemory<A>& k, int i, int T, bool local, A bandwidth) {
  A *row = k.m + i * k.stride, top = -INFINITY, sum = 0;
  for (int j = 0; j < T; ++j) {
    if (!local) {
      row[j] = A(i == j) - k.weight[j];
      continue;
    }
    const A away = A(i - j) / bandwidth;
    row[j] = i == j ? A(-INFINITY) : k.other[j] - A(0.5) * (away * away);
    top = row[j] > top ? row[j] : top;
  }
  if (!local) return;
  for (int j = 0; j < T; ++j) {
    row[j] = i == j ? A(0) : exponential(row[j] - top);
    sum += row[j];
  }
  for (int j = 0; j < T; ++j) row[j] = A(i == j) - row[j] / sum;
}

// k.error becomes the squared error with which the others predict each frame; returns their lower median.
template <class A, class Team>
LSEF_TEAM A find_errors(const Team& team, const RepairMemory<A>& k, int T, bool normalised) {
  A sum = 0;
  for (int i = team.lane; i < T; i += Team::lanes) {
    const A* row = k.m + i * k.stride;
    A error = 0, square = 0;
    for (int u = 0; u < T; ++u) {
      A along = 0;
      for (int j = 0; j < T; ++j) along += row[j] * k.g[j * k.stride + u];
      error += along * row[u];
      square += row[u] * row[u];
    }
    error = error < A(0) ? A(0) : error;
    k.error[i] = normalised ? error / square : error;
    sum += k.error[i];
  }
  sum = team.sum(sum);
  if (team.lane == 0) k.other[0] = sum;                 // NaN if one of them is
  team.sync();
  for (int i = team.lane; i < T; i += Team::lanes) {
    int place = 0;
    for (int j = 0; j < T; ++j) place += k.error[j] < k.error[i] || (k.error[j] == k.error[i] && j < i);
    if (sum == sum && place == (T - 1) / 2) k.other[0] = k.error[i];
  }
  team.sync();
  return k.other[0];
}

template <class A, class Team>
LSEF_TEAM void repair_frames(const Team& team, const lsef_frame_repair& job, int64_t n, void* memory) {
  const int T = int(job.t);
  const RepairMemory<A> k(memory, T);
  load_square(team, static_cast<const A*>(job.gram) + n * T * T, k.g, T, k.stride);
  team.sync();
  A energy = 0;
  for (int i = team.lane; i < T; i += Team::lanes) energy += k.g[i * k.stride + i];
  const A floor = A(job.floor_ratio) * (team.sum(energy) / A(T));
  if (job.predictor) {
    load_square(team, static_cast<const A*>(job.predictor) + n * T * T, k.m, T, k.stride);
    team.sync();
    for (int e = team.lane; e < T * T; e += Team::lanes) {
      A& v = k.m[e / T * k.stride + e % T];
      v = A(e / T == e % T) - v;
    }
  } else {
    find_weights(team, k, T);
    for (int i = team.lane; i < T; i += Team::lanes) k.other[i] = logarithm(k.weight[i]);
    team.sync();
    for (int i = team.lane; i < T; i += Team::lanes) deviation_row(k, i, T, job.local != 0, A(job.bandwidth));
  }
  team.sync();
  const A middle = find_errors(team, k, T, !job.predictor);
  const A limit = A(job.kappa) * A(job.kappa) * (middle < floor ? floor : middle);
  for (int i = team.lane; i < T; i += Team::lanes) {
    const A error = k.error[i], bottom = error < Smallest<A>::value ? A(Smallest<A>::value) : error;
    k.weight[i] = error > limit ? A(1) - limit / bottom : A(0);
    team.store(static_cast<A*>(job.outlying) + n * T + i, k.weight[i]);
  }
  team.sync();
  for (int e = team.lane; e < T * T; e += Team::lanes) {
    const int i = e / T, j = e % T;
    team.store(static_cast<A*>(job.repair) + n * T * T + e, A(i == j) - k.weight[i] * k.m[i * k.stride + j]);
  }
  team.sync();
}

// What of the residual (I - M) X of each frame its neighbours in time do not share.
template <class A, class Team>
LSEF_TEAM void find_isolation(const Team& team, const lsef_isolation& job, int64_t n, void* memory) {
  const int T = int(job.t);
  const RepairMemory<A> k(memory, T);
  load_square(team, static_cast<const A*>(job.gram) + n * T * T, k.g, T, k.stride);
  load_square(team, static_cast<const A*>(job.matrix) + n * T * T, k.m, T, k.stride);
  team.sync();
  for (int i = team.lane; i < T; i += Team::lanes) {
    const int next = i + 1 < T ? i + 1 : i;
    A square = 0, product = 0;
    for (int u = 0; u < T; ++u) {
      A along = 0;
      for (int j = 0; j < T; ++j) along += (A(i == j) - k.m[i * k.stride + j]) * k.g[j * k.stride + u];
      square += along * (A(i == u) - k.m[i * k.stride + u]);
      product += along * (A(next == u) - k.m[next * k.stride + u]);
    }
    k.weight[i] = root(square < A(0) ? A(0) : square);
    k.other[i] = product;
  }
  team.sync();
  for (int i = team.lane; i < T; i += Team::lanes) {      // the cosine with the next frame, from 0 to 1
    const A lengths = i + 1 < T ? k.weight[i] * k.weight[i + 1] : A(0);
    const A cosine = lengths > A(0) ? k.other[i] / lengths : A(0);
    k.error[i] = cosine < A(0) ? A(0) : cosine > A(1) ? A(1) : cosine;
  }
  team.sync();
  for (int i = team.lane; i < T; i += Team::lanes) {
    const A before = i ? k.error[i - 1] : A(0), alike = before > k.error[i] ? before : k.error[i];
    team.store(static_cast<A*>(job.isolation) + n * T + i, A(1) - alike * alike);
  }
  team.sync();
}

}  // namespace lsef
