// What all CUDA kernels use: how they are launched, gates and thresholds, sums over lanes and over blocks.
#pragma once
#include "device.h"
#include "kernels.h"
#include "maths.h"

namespace lsef {

constexpr int kWarps = 4;               // of a block
constexpr int kThreads = 32 * kWarps;
constexpr int kPad = 33;                // a row of 32 columns, so that the lanes of a warp read different banks
constexpr int kBlocks = 1056;           // that fill a large GPU: 132 multiprocessors, 8 each

__host__ __device__ inline int64_t blocks_for(int64_t clips, int64_t channels) {
  const int64_t needed = (channels + kWarps - 1) / kWarps, wanted = clips ? (kBlocks + clips - 1) / clips : 1;
  return needed < wanted ? (needed ? needed : 1) : wanted;
}

// The blocks of a clip are never more: as many parts of sums over channels there may be.
__host__ __device__ inline int64_t most_blocks(int64_t clips, int64_t channels) {
  const int64_t wanted = clips ? (kBlocks + clips - 1) / clips : 1, most = wanted < 4 ? 4 : wanted;
  return channels < most ? (channels ? channels : 1) : most;
}

template <class A> __device__ __forceinline__ A warp_sum(A v) {
  LSEF_UNROLL
  for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}
template <class E, class A = typename SumsOf<E>::type>
__device__ __forceinline__ A load(const lsef_view& v, int64_t n, int64_t c, int64_t t, int64_t p) {
  return widen(read(static_cast<const E*>(v.data) + n * v.n + c * v.c + t * v.t + p * v.p));
}
template <class E, class A>
__device__ __forceinline__ void store(const lsef_view& v, int64_t n, int64_t c, int64_t t, int64_t p, A value) {
  E e;
  narrow(value, &e);
  write(static_cast<E*>(v.data) + n * v.n + c * v.c + t * v.t + p * v.p, e);
}
template <class A> __device__ __forceinline__ A entry(const void* data, int64_t i, A otherwise) {
  return data ? static_cast<const A*>(data)[i] : otherwise;
}
template <class A> __device__ __forceinline__ Exponent<A> exponent_of(int exponent) {
  return {A(exponent == LSEF_SOFT), A(exponent == LSEF_GARROTE)};
}
template <class A> __device__ __forceinline__ A inverse_width(double revival, A tau) {
  const A tiny = sizeof(A) == 8 ? A(2.2250738585072014e-308) : A(1.17549435e-38f), width = A(revival) * tau;
  return A(1) / (width < tiny ? tiny : width);
}
template <class A> __device__ __forceinline__ Gates<A> gates_of(const lsef_low_rank_sparse& k, int64_t row) {
  const A tau = static_cast<const A*>(k.tau)[row];
  return {tau, inverse_width(k.revival, tau), entry(k.a, row, A(0)), entry(k.b, row, A(0)), k.a != nullptr,
          k.b != nullptr};
}

// The blocks' parts of a clip, added up in a fixed order: a warp takes every 16th part, then the warps' sums are added,
// so that many loads are under way at once. `square` entries go to `matrix`, the rest to `rest`.
constexpr int kFoldWarps = 16;
template <class A>
__global__ void __launch_bounds__(32 * kFoldWarps)
    fold_kernel(const void* parts, int64_t blocks, int entries, int square, void* matrix, void* rest) {
  LSEF_SHARED(memory);
  A* sums = reinterpret_cast<A*>(memory);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, i = blockIdx.x * 32 + lane;
  const int64_t n = blockIdx.y;
  A sum = 0;
  if (i < entries) {
    LSEF_UNROLL_BY(8)
    for (int64_t b = warp; b < blocks; b += kFoldWarps)
      sum += static_cast<const A*>(parts)[(n * blocks + b) * entries + i];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp || i >= entries) return;
  for (int w = 1; w < kFoldWarps; ++w) sum += sums[w * 32 + lane];
  if (i < square) static_cast<A*>(matrix)[n * square + i] = sum;
  else if (rest) static_cast<A*>(rest)[n * (entries - square) + i - square] = sum;
}

template <class Kernel, class... Arguments>
int launch_on(Kernel kernel, dim3 grid, dim3 block, size_t shared, void* stream, Arguments... arguments) {
  LSEF_LAUNCH(kernel, grid, block, shared, stream, arguments...);
#ifdef LSEF_EMULATE
  return 0;
#else
  return int(cudaGetLastError());
#endif
}
template <class Kernel, class... Arguments>
int launch(Kernel kernel, const lsef_size& size, size_t shared, void* stream, Arguments... arguments) {
#ifndef LSEF_EMULATE
  if (shared > 48 * 1024) {
    const cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (code != cudaSuccess) return int(code);
  }
#endif
  return launch_on(kernel, dim3(unsigned(blocks_for(size.n, size.c)), unsigned(size.n)), dim3(kThreads), shared, stream,
                   arguments...);
}
template <class A>
int fold(const void* parts, int64_t clips, int64_t blocks, int entries, int square, void* matrix, void* rest,
         void* stream) {
  return launch_on(fold_kernel<A>, dim3(unsigned(entries + 31) / 32, unsigned(clips)), dim3(32 * kFoldWarps),
                   32 * kFoldWarps * sizeof(A), stream, parts, blocks, entries, square, matrix, rest);
}

}  // namespace lsef
