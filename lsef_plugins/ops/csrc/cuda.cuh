// CUDA kernels, in ordinary arithmetic, for any number of frames up to 32 and any strides. One warp takes one (n, c)
// after the other, a lane one column of it, which it keeps in shared memory: every element is read once and every
// result written once. Sums are added in a fixed order, without atomics: results are the same bits every time.
#pragma once
#include "cuda_common.cuh"
#include "cuda_mma.cuh"
#include "cuda_primitives.cuh"
#include "device.h"
#include "kernels.h"
#include "maths.h"

namespace lsef {

// What a block shares: the clip's matrix, and for each warp `columns` arrays of T rows and `square` sums over columns.
template <class A> struct Shared {
  A *matrix, *columns, *square;
  __device__ Shared(unsigned char* memory, int T, int arrays, int squares, int warp) {
    matrix = reinterpret_cast<A*>(memory);
    columns = matrix + T * T + warp * (arrays * T * kPad + squares);
    square = columns + arrays * T * kPad;
  }
  static size_t bytes(int T, int arrays, int squares) {
    return sizeof(A) * (T * T + kWarps * (size_t(arrays) * T * kPad + squares));
  }
};
template <class A> __device__ __forceinline__ void share_matrix(A* to, const void* from, int64_t n, int T) {
  for (int i = threadIdx.x; i < T * T; i += kThreads)
    to[i] = from ? static_cast<const A*>(from)[n * T * T + i] : A(0);
  __syncthreads();
}
// (M x)_t of the lane's column
template <class A> __device__ __forceinline__ A product(const A* m, const A* x, int t, int T) {
  A sum = 0;
  for (int u = 0; u < T; ++u) sum += m[t * T + u] * x[u * kPad];
  return sum;
}

template <class E> __global__ void __launch_bounds__(kThreads) low_rank_sparse_kernel(lsef_low_rank_sparse k) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t n = blockIdx.y;
  const Shared<A> shared(memory, T, 1, 0, warp);
  share_matrix(shared.matrix, k.matrix, n, T);
  A* x = shared.columns + lane;
  const Exponent<A> p = exponent_of<A>(k.exponent);
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const int64_t row = n * k.size.c + c;
    const Gates<A> gates = gates_of<A>(k, row);
    A sums[kStatistics] = {};
    for (int64_t s = lane; s < k.size.p; s += 32) {
      for (int t = 0; t < T; ++t) x[t * kPad] = load<E>(k.x, n, c, t, s);
      for (int t = 0; t < T; ++t) {
        const A l = product(shared.matrix, x, t, T);
        const Parts<A> parts =
            take_apart<true>(x[t * kPad], l, entry(k.keep, n * T + t, A(1)), gates, p, A(1), sums);
        if (k.y.data) store<E>(k.y, n, c, t, s, parts.y);
        if (k.l.data) store<E>(k.l, n, c, t, s, l);
        if (k.s.data) store<E>(k.s, n, c, t, s, parts.s);
        if (k.r.data) store<E>(k.r, n, c, t, s, parts.r);
      }
    }
    if (k.sums) {
      for (int j = 0; j < kStatistics; ++j) {
        const A total = warp_sum(sums[j]);
        if (lane == 0) static_cast<A*>(k.sums)[row * kStatistics + j] = total;
      }
    }
  }
}

// square[t, u] += sum over the warp's columns of d_t x_u; a lane has every 32nd entry to itself.
template <class A> __device__ __forceinline__ void add_outer(A* square, const A* d, const A* x, int T, int lane) {
  __syncwarp();
  for (int i = lane; i < T * T; i += 32) {
    const A *dt = d + i / T * kPad, *xu = x + i % T * kPad;
    A sum = square[i];
    for (int j = 0; j < 32; ++j) sum += dt[j] * xu[j];
    square[i] = sum;
  }
  __syncwarp();
}
// The warps' sums, added in order, become the block's part.
template <class A> __device__ __forceinline__ void write_part(unsigned char* memory, int T, int arrays, int squares, A* part) {
  __syncthreads();
  for (int i = threadIdx.x; i < squares; i += kThreads) {
    A sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += Shared<A>(memory, T, arrays, squares, w).square[i];
    part[i] = sum;
  }
}

constexpr int kBackArrays = 3;

template <class E> __global__ void __launch_bounds__(kThreads) low_rank_sparse_back_kernel(lsef_low_rank_sparse k, void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, squares = T * T + T;
  const int64_t n = blockIdx.y;
  const Shared<A> shared(memory, T, kBackArrays, squares, warp);
  for (int i = lane; i < squares; i += 32) shared.square[i] = A(0);
  share_matrix(shared.matrix, k.matrix, n, T);
  A *columns = shared.columns, *x = columns + lane, *d = x + T * kPad, *g = d + T * kPad;
  const Exponent<A> p = exponent_of<A>(k.exponent);
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const int64_t row = n * k.size.c + c;
    const Gates<A> gates = gates_of<A>(k, row);
    GateGradients<A> found = {A(0), A(0), A(0)};
    A sums[kStatistics];
    for (int j = 0; j < kStatistics; ++j) sums[j] = entry(k.sums, row * kStatistics + j, A(0));
    for (int64_t first = 0; first < k.size.p; first += 32) {
      const int64_t s = first + lane;
      const bool inside = s < k.size.p;
      for (int t = 0; t < T; ++t) x[t * kPad] = inside ? load<E>(k.x, n, c, t, s) : A(0);
      for (int t = 0; t < T; ++t) {
        const PartGradients<A> up = {inside && k.y.data ? load<E>(k.y, n, c, t, s) : A(0),
                                     inside && k.l.data ? load<E>(k.l, n, c, t, s) : A(0),
                                     inside && k.s.data ? load<E>(k.s, n, c, t, s) : A(0),
                                     inside && k.r.data ? load<E>(k.r, n, c, t, s) : A(0)};
        const A l = product(shared.matrix, x, t, T);
        const InputGradients<A> down = put_back<true>(x[t * kPad], l, entry(k.keep, n * T + t, A(1)), up, sums, gates, p,
                                                      k.revival > 0, A(1), found);
        d[t * kPad] = down.l;
        g[t * kPad] = down.x;
        const A to_keep = warp_sum(down.keep);
        if (lane == 0) shared.square[T * T + t] += to_keep;
      }
      for (int u = 0; u < T; ++u) {
        A to_x = g[u * kPad];
        for (int t = 0; t < T; ++t) to_x += shared.matrix[t * T + u] * d[t * kPad];
        if (inside) store<E>(k.to_x, n, c, u, s, to_x);
      }
      add_outer(shared.square, columns + T * kPad, columns, T, lane);
    }
    const A to_tau = warp_sum(found.tau), to_a = warp_sum(found.a), to_b = warp_sum(found.b);
    if (lane == 0) {
      static_cast<A*>(k.to_tau)[row] = to_tau;
      static_cast<A*>(k.to_a)[row] = to_a;
      static_cast<A*>(k.to_b)[row] = to_b;
    }
  }
  write_part(memory, T, kBackArrays, squares, static_cast<A*>(parts) + (n * gridDim.x + blockIdx.x) * squares);
}

template <class E> __global__ void __launch_bounds__(kThreads, 8) gram_kernel(lsef_gram k, void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, squares = T * T;
  const int64_t n = blockIdx.y;
  const Shared<A> shared(memory, T, 2, squares, warp);
  for (int i = lane; i < squares; i += 32) shared.square[i] = A(0);
  share_matrix(shared.matrix, k.matrix, n, T);
  A *x = shared.columns + lane, *z = x + T * kPad;
  const Exponent<A> p = exponent_of<A>(k.exponent);
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps)
    for (int64_t first = 0; first < k.size.p; first += 32) {
      const int64_t s = first + lane;
      for (int t = 0; t < T; ++t) x[t * kPad] = s < k.size.p ? load<E>(k.x, n, c, t, s) : A(0);
      const A* left = x;
      if (k.matrix) {
        const A tau = static_cast<const A*>(k.tau)[n * k.size.c + c];
        for (int t = 0; t < T; ++t) {
          const A r = x[t * kPad] - product(shared.matrix, x, t, T);
          z[t * kPad] = x[t * kPad] - entry(k.keep, n * T + t, A(1)) * shrunken(r, tau, p, A(1));
        }
        left = z;
      }
      add_outer(shared.square, left - lane, left - lane, T, lane);
    }
  write_part(memory, T, 2, squares, static_cast<A*>(parts) + (n * gridDim.x + blockIdx.x) * squares);
}

// ---- residual_scale ----------------------------------------------------------------------------------------------

template <class A> struct BitsOf;
template <> struct BitsOf<float> { typedef int32_t type; };
template <> struct BitsOf<double> { typedef int64_t type; };

// The sum, least or largest of one value per thread, known to all of them; `slots` holds one per warp.
template <class V, class Combine> __device__ __forceinline__ V block_fold(V v, V* slots, Combine combine) {
  LSEF_UNROLL
  for (int step = 16; step > 0; step >>= 1) v = combine(v, __shfl_xor_sync(0xffffffffu, v, step));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) slots[threadIdx.x >> 5] = v;
  __syncthreads();
  V all = slots[0];
  for (int w = 1; w < kWarps; ++w) all = combine(all, slots[w]);
  return all;
}

// A block per (n, c). Each thread keeps the columns it has read; the median is found by bisecting the bit patterns of
// values that are not negative, which are in the same order; those that do not count lie beyond all of them, at infinity.
template <class E> __global__ void __launch_bounds__(kThreads) residual_scale_kernel(lsef_residual_scale k) {
  using A = typename SumsOf<E>::type;
  using Bits = typename BitsOf<A>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t);
  A *matrix = reinterpret_cast<A*>(memory), *x = matrix + T * T + threadIdx.x;
  Bits* values = reinterpret_cast<Bits*>(matrix + T * T + T * kThreads);
  void* slots = values + k.sample + kThreads;
  const int64_t n = blockIdx.y, total = T * k.size.p, every = total > k.sample ? (total + k.sample - 1) / k.sample : 1;
  const int columns = int((k.size.p + every - 1) / every);
  const auto add = [](auto a, auto b) { return a + b; };
  const Bits infinite = bits_of(A(INFINITY));
  share_matrix(matrix, k.matrix, n, T);
  for (int64_t c = blockIdx.x; c < k.size.c; c += gridDim.x) {
    A energy = 0;
    int counted = 0;
    for (int64_t s = threadIdx.x; s < k.size.p; s += kThreads) {
      for (int t = 0; t < T; ++t) {
        const A v = load<E>(k.x, n, c, t, s);
        energy += v * v;
        x[t * kThreads] = v;
      }
      if (s % every) continue;
      Bits* column = values + s / every;
      for (int t = 0; t < T; ++t) {
        A r = 0;
        if (k.matrix) {
          for (int u = 0; u < T; ++u) r += matrix[t * T + u] * x[u * kThreads];
          r = x[t * kThreads] - r;
        } else {
          r = load<E>(k.r, n, c, t, s);
        }
        const bool heard = counts(x[t * kThreads], r);
        counted += heard;
        column[t * columns] =
            heard ? bits_of(r) & (Bits(~Bits(0)) ^ (Bits(1) << (8 * sizeof(Bits) - 1))) : infinite;
      }
    }
    energy = block_fold(energy, static_cast<A*>(slots), add);    // its barriers make the values known to all
    counted = block_fold(counted, static_cast<int*>(slots), add);
    const int count = T * columns;
    Bits low = infinite, high = 0;
    for (int i = threadIdx.x; i < count; i += kThreads) {
      low = values[i] < low ? values[i] : low;
      high = values[i] > high ? values[i] : high;
    }
    low = block_fold(low, static_cast<Bits*>(slots), [](Bits a, Bits b) { return a < b ? a : b; });
    high = block_fold(high, static_cast<Bits*>(slots), [](Bits a, Bits b) { return a > b ? a : b; });
    const bool broken = high > infinite;
    while (!broken && low < high) {
      const Bits middle = low + (high - low) / 2;
      int below = 0;
      for (int i = threadIdx.x; i < count; i += kThreads) below += values[i] <= middle;
      below = block_fold(below, static_cast<int*>(slots), add);
      if (below >= (counted - 1) / 2 + 1) high = middle; else low = middle + 1;
    }
    if (threadIdx.x == 0) {
      const A floor = total ? A(k.floor_ratio) * sqrt(energy / A(total)) : A(0);
      const A spread = broken ? A(NAN) : counted ? A(k.to_sigma) * value_of(low) : A(0);
      static_cast<A*>(k.scale)[n * k.size.c + c] = spread < floor || floor != floor ? floor : spread;
    }
    __syncthreads();
  }
}

// ---- scale_shrink ------------------------------------------------------------------------------------------------

struct Span { int from, to; };
__device__ __forceinline__ Span span_at(int t, int half, int T) {
  return {t - half < 0 ? 0 : t - half, t + half >= T ? T : t + half + 1};
}
template <class A> __device__ __forceinline__ A averaged(const A* r, const Span& s) {
  if (s.to - s.from == 1) return r[s.from * kPad];
  A sum = 0;
  for (int u = s.from; u < s.to; ++u) sum += r[u * kPad];
  return sum * (A(1) / A(s.to - s.from));
}
template <class A> __device__ __forceinline__ A norm_of(const Span& s) { return A(1) / sqrt(A(s.to - s.from)); }

template <class E> __global__ void __launch_bounds__(kThreads) scale_shrink_kernel(lsef_scale_shrink k) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t n = blockIdx.y;
  A* r = Shared<A>(memory, T, 1, 0, warp).columns + lane;
  const Exponent<A> p = exponent_of<A>(k.exponent);
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const A tau = static_cast<const A*>(k.tau)[n * k.size.c + c], limit = entry(k.limit, n * k.size.c + c, A(INFINITY));
    for (int64_t s = lane; s < k.size.p; s += 32) {
      for (int t = 0; t < T; ++t) r[t * kPad] = load<E>(k.r, n, c, t, s);
      for (int w = 0; w < k.windows; ++w)
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A norm = norm_of<A>(span), v = clipped(shrunken(averaged(r, span), tau * norm, p, A(1)), limit * norm);
          if (k.s[w].data) store<E>(k.s[w], n, c, t, s, v);
          if (k.m[w].data) store<E>(k.m[w], n, c, t, s, magnitude(v));
        }
    }
  }
}

template <class E> __global__ void __launch_bounds__(kThreads) scale_shrink_back_kernel(lsef_scale_shrink k) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t n = blockIdx.y;
  A *r = Shared<A>(memory, T, 2, 0, warp).columns + lane, *to_r = r + T * kPad;
  const Exponent<A> p = exponent_of<A>(k.exponent);
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const int64_t row = n * k.size.c + c;
    const A tau = static_cast<const A*>(k.tau)[row], limit = entry(k.limit, row, A(INFINITY));
    A to_tau = 0;
    for (int64_t s = lane; s < k.size.p; s += 32) {
      for (int t = 0; t < T; ++t) {
        r[t * kPad] = load<E>(k.r, n, c, t, s);
        to_r[t * kPad] = A(0);
      }
      for (int w = 0; w < k.windows; ++w) {
        if (!k.s[w].data && !k.m[w].data) continue;
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A norm = norm_of<A>(span), tau_t = tau * norm, v = averaged(r, span);
          const A free = shrunken(v, tau_t, p, A(1));
          A up = k.s[w].data ? load<E>(k.s[w], n, c, t, s) : A(0);
          if (k.m[w].data) up += sign(free, A(1)) * load<E>(k.m[w], n, c, t, s);
          if (magnitude(free) > limit * norm) up = A(0);
          const Slopes<A> slope = slopes(v, tau_t, p, k.revival > 0, inverse_width(k.revival, tau_t), A(1));
          to_tau += up * slope.tau * norm;
          const A down = up * slope.r * (A(1) / A(span.to - span.from));
          for (int u = span.from; u < span.to; ++u) to_r[u * kPad] += down;
        }
      }
      for (int t = 0; t < T; ++t) store<E>(k.to_r, n, c, t, s, to_r[t * kPad]);
    }
    to_tau = warp_sum(to_tau);
    if (lane == 0) static_cast<A*>(k.to_tau)[row] = to_tau;
  }
}

// ---- launching ---------------------------------------------------------------------------------------------------

template <class E> constexpr bool kHasFast = sizeof(E) < 8;

template <class E> struct Run {
  using A = typename SumsOf<E>::type;
  static int low_rank_sparse(const lsef_low_rank_sparse& k, void*, void* stream) {
    if constexpr (kHasFast<E>) {
      const int code = LSEF_FAST(low_rank_sparse, E, k, stream);
      if (code != kNotHere) return code;
    }
    return launch(low_rank_sparse_kernel<E>, k.size, Shared<A>::bytes(int(k.size.t), 1, 0), stream, k);
  }
  static int low_rank_sparse_backward(const lsef_low_rank_sparse& k, void* parts, void* stream) {
    if constexpr (kHasFast<E>) {
      const int code = LSEF_FAST(low_rank_sparse_backward, E, k, parts, stream);
      if (code != kNotHere) return code;
    }
    const int T = int(k.size.t), squares = T * T + T;
    const int code = launch(low_rank_sparse_back_kernel<E>, k.size, Shared<A>::bytes(T, kBackArrays, squares), stream, k, parts);
    return code ? code : fold<A>(parts, k.size.n, blocks_for(k.size.n, k.size.c), squares, T * T, k.to_matrix,
                                 k.to_keep, stream);
  }
  static int gram(const lsef_gram& k, void* parts, void* stream) {
    if constexpr (kHasFast<E>) {
      const int code = LSEF_FAST(gram, E, k, parts, stream);
      if (code != kNotHere) return code;
    }
    const int T = int(k.size.t);
    const int code = launch(gram_kernel<E>, k.size, Shared<A>::bytes(T, 2, T * T), stream, k, parts);
    return code ? code : fold<A>(parts, k.size.n, blocks_for(k.size.n, k.size.c), T * T, T * T, k.gram, nullptr, stream);
  }
  static int residual_scale(const lsef_residual_scale& k, void*, void* stream) {
    const int T = int(k.size.t);
    const size_t shared = sizeof(A) * (T * T + T * kThreads + k.sample + kThreads) + 8 * kWarps;
    return launch(residual_scale_kernel<E>, k.size, shared, stream, k);
  }
  static int scale_shrink(const lsef_scale_shrink& k, void*, void* stream) {
    return launch(scale_shrink_kernel<E>, k.size, Shared<A>::bytes(int(k.size.t), 1, 0), stream, k);
  }
  static int scale_shrink_backward(const lsef_scale_shrink& k, void*, void* stream) {
    return launch(scale_shrink_back_kernel<E>, k.size, Shared<A>::bytes(int(k.size.t), 2, 0), stream, k);
  }
};

}  // namespace lsef

// The entry points of kernels.h. With nothing to do, sums are still zero.
#define LSEF_ENTRY(name, Job)                                                                    \
  int lsef_cuda_##name(const Job* k, void* parts, void* stream) {                                \
    if (k->size.t > LSEF_CUDA_MAX_FRAMES) return LSEF_TOO_MANY_FRAMES;                           \
    if (k->size.n == 0) return LSEF_DONE;                                                        \
    switch (k->dtype) {                                                                          \
      case LSEF_F32: return lsef::Run<float>::name(*k, parts, stream);                           \
      case LSEF_F64: return lsef::Run<double>::name(*k, parts, stream);                          \
      case LSEF_BF16: return lsef::Run<lsef::bf16>::name(*k, parts, stream);                     \
      default: return lsef::Run<lsef::f16>::name(*k, parts, stream);                             \
    }                                                                                            \
  }
extern "C" {
LSEF_ENTRY(low_rank_sparse, lsef_low_rank_sparse)
LSEF_ENTRY(low_rank_sparse_backward, lsef_low_rank_sparse)
LSEF_ENTRY(gram, lsef_gram)
LSEF_ENTRY(residual_scale, lsef_residual_scale)
LSEF_ENTRY(scale_shrink, lsef_scale_shrink)
LSEF_ENTRY(scale_shrink_backward, lsef_scale_shrink)
int64_t lsef_cuda_part_bytes(const lsef_size* size) {
  return size->n * lsef::most_blocks(size->n, size->c) * (size->t * size->t + size->t) * 8;
}
}
