// Whole frames shrunk by their norm over channels and positions, at several windows. Two kernels each way: the first
// leaves each block's sums, the second adds them in a fixed order, every block for itself, and writes the maps.
#pragma once
#include "cuda.cuh"

namespace lsef {

// What a block shares: tables of `windows` x T numbers of the clip, room for folding, and for each warp `arrays` arrays of
// T rows of columns and a slot per lane and window.
template <class A> struct FrameShared {
  enum { kTables = 3 };
  A *gain, *along, *share, *scratch, *columns, *slots;
  __device__ FrameShared(unsigned char* memory, int T, int windows, int warp) {
    gain = reinterpret_cast<A*>(memory);
    along = gain + windows * T;
    share = along + windows * T;
    scratch = share + windows * T;
    columns = scratch + kThreads + warp * (2 * T * kPad + windows * 32);
    slots = columns + 2 * T * kPad;
  }
  static size_t bytes(int T, int windows) {
    return sizeof(A) * (kTables * windows * T + kThreads + kWarps * (2 * size_t(T) * kPad + windows * 32));
  }
};

// Of the lanes of a warp those of one group of `group` (a power of two >= T) take a row each, over as many columns as the
// group is wide: all lanes work, and no two read one bank.
__device__ __forceinline__ int group_of(int T) {
  int group = 1;
  while (group < T) group *= 2;
  return group;
}
template <class A> __device__ __forceinline__ void add_rows(A* slots, const A* rows, int T, int group, int lane) {
  const int t = lane & (group - 1);
  __syncwarp();
  if (t < T) {
    A sum = slots[lane];
    for (int j = lane - t; j < lane - t + group; ++j) sum += rows[t * kPad + j];
    slots[lane] = sum;
  }
  __syncwarp();
}
template <class A>
__device__ __forceinline__ void write_frame_part(unsigned char* memory, int T, int windows, int group, A* part) {
  __syncthreads();
  for (int i = threadIdx.x; i < windows * T; i += kThreads) {
    A sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const A* slots = FrameShared<A>(memory, T, windows, w).slots + i / T * 32;
      for (int lane = i % T; lane < 32; lane += group) sum += slots[lane];
    }
    part[i] = sum;
  }
}
// The blocks' parts of clip n, added in order by all threads: use(entry, sum). Then all know what was used.
template <class A, class Use>
__device__ __forceinline__ void fold_frame_parts(const void* parts, int64_t n, int entries, A* scratch, Use use) {
  const int64_t blocks = gridDim.x;
  const A* part = static_cast<const A*>(parts) + n * blocks * entries;
  for (int first = 0; first < entries; first += kThreads) {
    const int count = entries - first < kThreads ? entries - first : kThreads, slices = kThreads / count;
    const int entry = int(threadIdx.x) % count, slice = int(threadIdx.x) / count;
    A sum = 0;
    if (slice < slices) for (int64_t b = slice; b < blocks; b += slices) sum += part[b * entries + first + entry];
    __syncthreads();
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (int(threadIdx.x) < count) {
      A total = 0;
      for (int i = 0; i < slices; ++i) total += scratch[i * count + entry];
      use(first + entry, total);
    }
  }
  __syncthreads();
}

template <class E, class A> __device__ __forceinline__ void load_columns(const lsef_frame_shrink& k, int64_t n, int64_t c, int64_t s, int T, A* r) {
  for (int t = 0; t < T; ++t) r[t * kPad] = s < k.size.p ? load<E>(k.r, n, c, t, s) : A(0);
}
// The gradient of the shrunk frame, through the limit and the magnitude.
template <class E, class A>
__device__ __forceinline__ A frame_gradient(const lsef_frame_shrink& k, int w, int64_t n, int64_t c, int t, int64_t s, A free, A bound) {
  if (s >= k.size.p) return A(0);
  A up = k.s[w].data ? load<E>(k.s[w], n, c, t, s) : A(0);
  if (k.m[w].data) up += sign(free, A(1)) * load<E>(k.m[w], n, c, t, s);
  return magnitude(free) > bound ? A(0) : up;
}
template <class A> __device__ __forceinline__ A frame_tau(const lsef_frame_shrink& k, int64_t n, int entry, int T) {
  const int t = entry % T;
  return static_cast<const A*>(k.tau)[n * T + t] * norm_of<A>(span_at(t, k.half[entry / T], T));
}

template <class E> __global__ void __launch_bounds__(kThreads, 8) frame_norms_kernel(lsef_frame_shrink k, void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = group_of(T);
  const int64_t n = blockIdx.y;
  const FrameShared<A> shared(memory, T, k.windows, warp);
  for (int w = 0; w < k.windows; ++w) shared.slots[w * 32 + lane] = A(0);
  A *r = shared.columns + lane, *squares = r + T * kPad;
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps)
    for (int64_t first = 0; first < k.size.p; first += 32) {
      load_columns<E>(k, n, c, first + lane, T, r);
      for (int w = 0; w < k.windows; ++w) {
        for (int t = 0; t < T; ++t) {
          const A v = averaged(r, span_at(t, k.half[w], T));
          squares[t * kPad] = v * v;
        }
        add_rows(shared.slots + w * 32, squares - lane, T, group, lane);
      }
    }
  const int entries = k.windows * T;
  write_frame_part(memory, T, k.windows, group, static_cast<A*>(parts) + (n * gridDim.x + blockIdx.x) * entries);
}
// The norms alone, from the parts.
template <class A> __global__ void __launch_bounds__(kThreads) frame_fold_kernel(lsef_frame_shrink k, const void* parts, int64_t blocks) {
  const int64_t n = blockIdx.x;
  const int entries = k.windows * int(k.size.t);
  for (int i = threadIdx.x; i < entries; i += kThreads) {
    A sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += static_cast<const A*>(parts)[(n * blocks + b) * entries + i];
    static_cast<A*>(k.norms)[n * entries + i] = sqrt(sum);
  }
}

// The gains of the clip's frames, from norms that are given or from the parts; then one block tells the norms.
template <class A>
__device__ __forceinline__ void find_gains(const lsef_frame_shrink& k, const void* parts, int64_t n, int T, const FrameShared<A>& shared) {
  const Exponent<A> p = exponent_of<A>(k.exponent);
  A* norms = static_cast<A*>(k.norms) + n * k.windows * T;
  if (parts) {
    fold_frame_parts(parts, n, k.windows * T, shared.scratch, [&](int i, A total) {
      const A norm = sqrt(total);
      shared.gain[i] = frame_gain(norm, frame_tau<A>(k, n, i, T), p);
      if (blockIdx.x == 0) norms[i] = norm;
    });
    return;
  }
  for (int i = threadIdx.x; i < k.windows * T; i += kThreads)
    shared.gain[i] = frame_gain(norms[i], frame_tau<A>(k, n, i, T), p);
  __syncthreads();
}

template <class E> __global__ void __launch_bounds__(kThreads, 8) frame_shrink_kernel(lsef_frame_shrink k, const void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t n = blockIdx.y;
  const FrameShared<A> shared(memory, T, k.windows, warp);
  find_gains(k, parts, n, T, shared);
  A* r = shared.columns + lane;
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const A limit = entry(k.limit, n * k.size.c + c, A(INFINITY));
    for (int64_t s = lane; s < k.size.p; s += 32) {
      load_columns<E>(k, n, c, s, T, r);
      for (int w = 0; w < k.windows; ++w)
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A v = clipped(averaged(r, span) * shared.gain[w * T + t], limit * norm_of<A>(span));
          if (k.s[w].data) store<E>(k.s[w], n, c, t, s, v);
          if (k.m[w].data) store<E>(k.m[w], n, c, t, s, magnitude(v));
        }
    }
  }
}

// Each block's part of <averaged frame, gradient of the shrunk one>.
template <class E> __global__ void __launch_bounds__(kThreads) frame_dots_kernel(lsef_frame_shrink k, void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = group_of(T);
  const int64_t n = blockIdx.y;
  const FrameShared<A> shared(memory, T, k.windows, warp);
  for (int w = 0; w < k.windows; ++w) shared.slots[w * 32 + lane] = A(0);
  find_gains(k, nullptr, n, T, shared);
  A *r = shared.columns + lane, *products = r + T * kPad;
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const A limit = entry(k.limit, n * k.size.c + c, A(INFINITY));
    for (int64_t first = 0; first < k.size.p; first += 32) {
      const int64_t s = first + lane;
      load_columns<E>(k, n, c, s, T, r);
      for (int w = 0; w < k.windows; ++w) {
        if (!k.s[w].data && !k.m[w].data) continue;
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A v = averaged(r, span), bound = limit * norm_of<A>(span);
          products[t * kPad] = v * frame_gradient<E>(k, w, n, c, t, s, v * shared.gain[w * T + t], bound);
        }
        add_rows(shared.slots + w * 32, products - lane, T, group, lane);
      }
    }
  }
  const int entries = k.windows * T;
  write_frame_part(memory, T, k.windows, group, static_cast<A*>(parts) + (n * gridDim.x + blockIdx.x) * entries);
}

template <class E> __global__ void __launch_bounds__(kThreads) frame_back_kernel(lsef_frame_shrink k, const void* parts) {
  using A = typename SumsOf<E>::type;
  LSEF_SHARED(memory);
  const int T = int(k.size.t), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t n = blockIdx.y;
  const FrameShared<A> shared(memory, T, k.windows, warp);
  const Exponent<A> p = exponent_of<A>(k.exponent);
  fold_frame_parts(parts, n, k.windows * T, shared.scratch, [&](int i, A dot) {
    const A norm = static_cast<const A*>(k.norms)[n * k.windows * T + i], tau = frame_tau<A>(k, n, i, T);
    const FrameSlopes<A> slope = frame_slopes(norm, tau, dot, p, k.revival > 0, inverse_width(k.revival, tau));
    shared.gain[i] = frame_gain(norm, tau, p);
    shared.along[i] = slope.along;
    shared.share[i] = slope.tau * norm_of<A>(span_at(i % T, k.half[i / T], T));
  });
  if (blockIdx.x == 0)
    for (int t = threadIdx.x; t < T; t += kThreads) {
      A sum = 0;
      for (int w = 0; w < k.windows; ++w) sum += shared.share[w * T + t];
      static_cast<A*>(k.to_tau)[n * T + t] = sum;
    }
  A *r = shared.columns + lane, *to_r = r + T * kPad;
  for (int64_t c = int64_t(blockIdx.x) * kWarps + warp; c < k.size.c; c += int64_t(gridDim.x) * kWarps) {
    const A limit = entry(k.limit, n * k.size.c + c, A(INFINITY));
    for (int64_t s = lane; s < k.size.p; s += 32) {
      load_columns<E>(k, n, c, s, T, r);
      for (int t = 0; t < T; ++t) to_r[t * kPad] = A(0);
      for (int w = 0; w < k.windows; ++w) {
        if (!k.s[w].data && !k.m[w].data) continue;
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A v = averaged(r, span), gain = shared.gain[w * T + t], bound = limit * norm_of<A>(span);
          const A up = frame_gradient<E>(k, w, n, c, t, s, v * gain, bound);
          const A down = (gain * up + shared.along[w * T + t] * v) * (A(1) / A(span.to - span.from));
          for (int u = span.from; u < span.to; ++u) to_r[u * kPad] += down;
        }
      }
      for (int t = 0; t < T; ++t) store<E>(k.to_r, n, c, t, s, to_r[t * kPad]);
    }
  }
}

template <class E> struct RunFrames {
  using A = typename SumsOf<E>::type;
  static size_t bytes(const lsef_frame_shrink& k) { return FrameShared<A>::bytes(int(k.size.t), k.windows); }
  static int frame_norms(const lsef_frame_shrink& k, void* parts, void* stream) {
    const int code = launch(frame_norms_kernel<E>, k.size, bytes(k), stream, k, parts);
    if (code) return code;
    LSEF_LAUNCH(frame_fold_kernel<A>, dim3(unsigned(k.size.n)), dim3(kThreads), 0, stream, k,
                static_cast<const void*>(parts), blocks_for(k.size.n, k.size.c));
#ifdef LSEF_EMULATE
    return 0;
#else
    return int(cudaGetLastError());
#endif
  }
  static int frame_shrink(const lsef_frame_shrink& k, void* parts, void* stream) {
    const int code = k.known ? 0 : launch(frame_norms_kernel<E>, k.size, bytes(k), stream, k, parts);
    if (code) return code;
    const void* found = k.known ? nullptr : parts;
    return launch(frame_shrink_kernel<E>, k.size, bytes(k), stream, k, found);
  }
  static int frame_shrink_backward(const lsef_frame_shrink& k, void* parts, void* stream) {
    const int code = launch(frame_dots_kernel<E>, k.size, bytes(k), stream, k, parts);
    return code ? code : launch(frame_back_kernel<E>, k.size, bytes(k), stream, k, static_cast<const void*>(parts));
  }
};

}  // namespace lsef

#define LSEF_FRAMES_ENTRY(name)                                                                  \
  int lsef_cuda_##name(const lsef_frame_shrink* k, void* parts, void* stream) {                  \
    if (k->size.t > LSEF_CUDA_MAX_FRAMES) return LSEF_TOO_MANY_FRAMES;                           \
    if (k->size.n == 0 || k->size.t == 0) return LSEF_DONE;                                      \
    switch (k->dtype) {                                                                          \
      case LSEF_F32: return lsef::RunFrames<float>::name(*k, parts, stream);                     \
      case LSEF_F64: return lsef::RunFrames<double>::name(*k, parts, stream);                    \
      case LSEF_BF16: return lsef::RunFrames<lsef::bf16>::name(*k, parts, stream);               \
      default: return lsef::RunFrames<lsef::f16>::name(*k, parts, stream);                       \
    }                                                                                            \
  }
extern "C" {
LSEF_FRAMES_ENTRY(frame_norms)
LSEF_FRAMES_ENTRY(frame_shrink)
LSEF_FRAMES_ENTRY(frame_shrink_backward)
int64_t lsef_cuda_frame_part_bytes(const lsef_size* size, int windows) {
  return size->n * lsef::blocks_for(size->n, size->c) * windows * size->t * 8;
}
}
